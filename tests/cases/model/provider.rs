//! The provider: servers that are made, the floating IP.

use std::net::Ipv4Addr;

use cluster::facts::{Cloud, FloatingIp, Host, Server, ServerStatus, Size};
use cluster::inventory::Provider;
use cluster::plan::Action;

use super::Model;
use super::host::bare;

const FLOATING_IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

/// The provider's sizes, as far as cases name them: GiB of disk, dollars a month.
const SIZES: [(&str, u64, f64); 5] = [
    ("s-1vcpu-512mb-10gb", 10, 4.0),
    ("s-1vcpu-1gb", 25, 6.0),
    ("s-1vcpu-2gb", 50, 12.0),
    ("s-2vcpu-4gb", 80, 24.0),
    ("c-2", 25, 42.0),
];

/// The cloud before anything is made in it.
pub(super) fn empty() -> Cloud {
    let size = |(slug, disk, price): &(&str, u64, f64)| {
        ((*slug).to_owned(), Size { disk_gib: Some(*disk), monthly_price: Some(*price) })
    };
    Cloud { sizes: SIZES.iter().map(size).collect(), ..Cloud::default() }
}

impl Model {
    pub(super) fn act_at_provider(&mut self, action: &Action) {
        let cloud = self.facts.cloud.as_mut().unwrap();
        match action {
            Action::ImportSshKey => cloud.ssh_key = true,
            Action::MakeRepository => {
                let backup = self.means.backup.as_mut().expect("an inventory with backups");
                // A second one takes the place of one that is refused; never is there a third.
                let id = if backup.key.is_none() { "MADE" } else { "MADE-ANEW" };
                assert!(backup.key.as_ref().is_none_or(|(kept, _)| kept != "MADE-ANEW"), "a third key");
                backup.key = Some((id.into(), "hunter2-made-key".to_owned().into()));
            }
            Action::CreateFloatingIp { node } => {
                assert!(cloud.floating_ip.is_none(), "a second floating IP");
                let server = cloud.servers[node].id;
                cloud.floating_ip = Some(FloatingIp { address: FLOATING_IP, server: Some(server) });
                cloud.servers.values_mut().for_each(|server| server.records_floating_ip = true);
            }
            Action::RecordFloatingIp => {
                cloud.servers.values_mut().for_each(|server| server.records_floating_ip = true);
            }
            Action::AssignFloatingIp { node, server } => {
                assert_eq!(cloud.servers[node].id, *server);
                cloud.floating_ip.as_mut().unwrap().server = Some(*server);
                assert_eq!(self.writer(), *node, "the floating IP leads to who takes writes");
            }
            other => panic!("{other:?} is not the provider's"),
        }
    }

    pub(super) fn create_server(&mut self, node: &str, whole: bool) {
        let number = self.number(node);
        let boot = format!("ssh-ed25519 boot-{node}");
        self.facts.local.bootstrap_keys.insert(node.into(), boot.clone());
        let server = Server {
            id: 100 + u64::from(number),
            status: if whole { ServerStatus::Active } else { ServerStatus::New },
            public: whole.then_some(Ipv4Addr::new(198, 51, 100, 10 + number)),
            private: whole.then_some(Ipv4Addr::new(10, 20, 0, 10 + number)),
            region: Some("fra1".into()),
            size: Some(self.size_of(node)),
            image: Some("debian-12-x64".into()),
            vpc: Some("11111111-2222-4333-8444-555555555555".into()),
            disk_gib: Some(25),
            monthly_price: None,
            records_floating_ip: false,
            renamed: None,
            untagged: false,
            failed: false,
        };
        assert!(self.cloud().servers.insert(node.into(), server).is_none(), "a second droplet {node}");
        self.dark.insert(node.into(), Box::new(bare(&boot)));
        self.unseen(node, "connection refused", true);
    }

    fn size_of(&self, node: &str) -> String {
        let Provider::DigitalOcean(settings) = &self.inventory.provider else { panic!("no droplets") };
        settings.size_of(self.inventory.node(node).unwrap()).to_owned()
    }

    /// Off, of another size, and on again; half of it is off.
    pub(super) fn resize(&mut self, node: &str, id: u64, size: &str, disk_gib: Option<u64>, whole: bool) {
        if self.facts.hosts[node] != Host::Off {
            assert!(!self.writers().contains(&node.to_owned()), "{node} takes writes and is switched off");
            let off = self.facts.hosts.values().any(|host| *host == Host::Off);
            assert!(!off, "{node} is switched off beside another");
            self.power_off(node);
        }
        if !whole {
            return;
        }
        let server = self.cloud().servers.get_mut(node).unwrap();
        assert_eq!(server.id, id);
        server.size = Some(size.to_owned());
        let disk = server.disk_gib.unwrap();
        assert!(disk_gib.is_none_or(|it| it > disk), "a disk that grows");
        server.disk_gib = Some(disk_gib.unwrap_or(disk));
        self.power_on(node);
    }

    /// One that never ran goes, and another takes its place.
    pub(super) fn remake_server(&mut self, node: &str, id: u64, whole: bool) {
        let server = self.cloud().servers.remove(node).unwrap();
        assert!(server.id == id && server.failed && server.public.is_none(), "{server:?} is deleted");
        self.create_server(node, whole);
    }

    pub(super) fn await_server(&mut self, node: &str) {
        let number = self.number(node);
        let server = self.cloud().servers.get_mut(node).unwrap();
        server.status = ServerStatus::Active;
        server.public = Some(Ipv4Addr::new(198, 51, 100, 10 + number));
        server.private = Some(Ipv4Addr::new(10, 20, 0, 10 + number));
    }

    fn cloud(&mut self) -> &mut Cloud {
        self.facts.cloud.as_mut().expect("there is a provider")
    }
}
