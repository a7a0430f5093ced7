//! The provider: droplets that are made, the floating IP.

use std::net::Ipv4Addr;

use cluster::facts::{Cloud, Droplet, FloatingIp};
use cluster::plan::Action;

use super::Model;
use super::host::bare;

const FLOATING_IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

impl Model {
    pub(super) fn act_at_provider(&mut self, action: &Action) {
        let cloud = self.facts.cloud.as_mut().unwrap();
        match action {
            Action::ImportSshKey => cloud.ssh_key = true,
            Action::CreateFloatingIp { node } => {
                assert!(cloud.floating_ip.is_none(), "a second floating IP");
                let droplet = cloud.droplets[node].id;
                cloud.floating_ip = Some(FloatingIp { address: FLOATING_IP, droplet: Some(droplet) });
                cloud.droplets.values_mut().for_each(|droplet| droplet.records_floating_ip = true);
            }
            Action::RecordFloatingIp => {
                cloud.droplets.values_mut().for_each(|droplet| droplet.records_floating_ip = true);
            }
            Action::AssignFloatingIp { node, droplet } => {
                assert_eq!(cloud.droplets[node].id, *droplet);
                cloud.floating_ip.as_mut().unwrap().droplet = Some(*droplet);
                assert_eq!(self.writer(), *node, "the floating IP leads to who takes writes");
            }
            other => panic!("{other:?} is not the provider's"),
        }
    }

    pub(super) fn create_droplet(&mut self, node: &str, whole: bool) {
        let number = self.number(node);
        let boot = format!("ssh-ed25519 boot-{node}");
        self.facts.local.bootstrap_keys.insert(node.into(), boot.clone());
        let droplet = Droplet {
            id: 100 + u64::from(number),
            status: if whole { "active" } else { "new" }.into(),
            public: whole.then_some(Ipv4Addr::new(198, 51, 100, 10 + number)),
            private: whole.then_some(Ipv4Addr::new(10, 20, 0, 10 + number)),
            region: Some("fra1".into()),
            size: Some("s-1vcpu-1gb".into()),
            image: Some("debian-12-x64".into()),
            vpc: Some("11111111-2222-4333-8444-555555555555".into()),
            records_floating_ip: false,
            renamed: None,
            untagged: false,
            failed: false,
        };
        assert!(self.cloud().droplets.insert(node.into(), droplet).is_none(), "a second droplet {node}");
        self.dark.insert(node.into(), Box::new(bare(node, &boot)));
        self.unseen(node, "connection refused", true);
    }

    /// One that never ran goes, and another takes its place.
    pub(super) fn remake_droplet(&mut self, node: &str, id: u64, whole: bool) {
        let droplet = self.cloud().droplets.remove(node).unwrap();
        assert!(droplet.id == id && droplet.failed && droplet.public.is_none(), "{droplet:?} is deleted");
        self.create_droplet(node, whole);
    }

    pub(super) fn await_droplet(&mut self, node: &str) {
        let number = self.number(node);
        let droplet = self.cloud().droplets.get_mut(node).unwrap();
        droplet.status = "active".into();
        droplet.public = Some(Ipv4Addr::new(198, 51, 100, 10 + number));
        droplet.private = Some(Ipv4Addr::new(10, 20, 0, 10 + number));
    }

    fn cloud(&mut self) -> &mut Cloud {
        self.facts.cloud.as_mut().expect("there is a provider")
    }
}
