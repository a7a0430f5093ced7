//! A host: as it is when it has booted, and which step is done where.

use std::collections::BTreeMap;

use cluster::facts::HostFacts;
use cluster::facts::host::{Packages, RoleFacts};
use cluster::plan::{Action, Unit};
use cluster::settings::Machine;

use super::postgres::{own, verifier};
use super::{How, Model};

/// Where the operator works, as the hosts see it.
const OPERATOR: &str = "198.51.100.7";

impl Model {
    pub(super) fn act_on_host(&mut self, node: &str, action: &Action, how: How) {
        let whole = how == How::Whole;
        match action {
            Action::CreateServer => self.create_server(node, whole),
            Action::RemakeServer { server } => self.remake_server(node, *server, whole),
            Action::AwaitServer { .. } if whole => self.await_server(node),
            Action::PowerOn { .. } if whole => self.power_on(node),
            Action::Resize { server, size, disk_gib, .. } => {
                self.resize(node, *server, size, *disk_gib, whole);
            }
            Action::Switchover { to } if whole => self.switch_over(node, to),
            Action::Reach if whole => {
                if let Some(server) = self.facts.cloud.as_ref().map(|cloud| &cloud.servers[node]) {
                    assert!(server.public.is_some(), "{node} has no address that SSH could go to");
                }
                self.reachable(node);
                self.host(node).cloud_init = "done".into();
            }
            Action::ReplaceHostKey => {
                self.host(node).host_key = format!("ssh-ed25519 own-{node}");
                if whole {
                    self.facts.local.bootstrap_keys.remove(node);
                }
            }
            Action::UpdateLists if whole => self.update_lists(node),
            Action::AddRepository { archive } if whole => self.add_repository(node, *archive),
            Action::Install { packages } if !whole => self.half_install(node, packages),
            Action::Install { packages } => self.install(node, packages),
            Action::WriteFiles { files } => self.write_files(node, files, whole),
            Action::Configure { file, .. } => {
                self.write_files(node, std::slice::from_ref(&**file), true);
                if whole {
                    self.run_services(node, &[Unit::ClusterNode]);
                }
            }
            Action::InstallProgram { sha256 } if whole => self.install_program(node, sha256),
            Action::CreateData { .. } => self.create_data(node, whole),
            Action::Restore { .. } => self.restore(node, whole),
            Action::StartNew { made } => self.start_new(node, *made, whole),
            Action::Clone { from, .. } => self.clone_from(node, from, whole),
            Action::StartStandby if whole => {
                let host = self.host(node);
                assert!(
                    host.data.as_ref().is_some_and(|data| data.standby_signal),
                    "{node} is not a standby"
                );
                self.start_standby(node);
            }
            Action::RegisterPrimary if whole => self.register_primary(node),
            Action::RegisterStandby if whole => self.register_standby(node),
            Action::RegisterWitness { primary_host } if whole => self.register_witness(node, primary_host),
            Action::TrySettings { sha256, .. } if whole => self.host(node).tried = Some(sha256.clone()),
            Action::Role { name, password, superuser, replication, settings, exists } if whole => {
                let role = RoleFacts {
                    name: name.clone(),
                    superuser: *superuser,
                    replication: *replication,
                    login: true,
                    password: Some(verifier(password)),
                    settings: own(settings),
                };
                self.set_role(node, role, *exists);
            }
            Action::Database { name, owner } if whole => self.create_database(node, name, owner),
            Action::Extension { name, database } if whole => self.create_extension(node, name, database),
            Action::Reload if whole => self.reload(node),
            Action::Restart { .. } if whole => self.restart(node),
            Action::Services { units, .. } if whole => self.run_services(node, units),
            _ if !whole => {}
            other => panic!("{other:?} is not a host's"),
        }
    }
}

/// A Debian 12 that has just booted.
pub(super) fn bare(key: &str) -> HostFacts {
    HostFacts {
        root: true,
        os: "debian".into(),
        os_version: "12".into(),
        codename: "bookworm".into(),
        arch: "x86_64".into(),
        client: OPERATOR.into(),
        host_key: key.into(),
        cloud_init: "done".into(),
        disk_free_kib: 20_000_000,
        machine: Some(Machine { memory_kib: 1_005_000, cores: 1, disk_kib: 25_000_000, spinning: false }),
        packages: Packages {
            installed: BTreeMap::from([("sudo".into(), "1.9.13p3-1+deb12u4".into())]),
            ..Packages::default()
        },
        ..HostFacts::default()
    }
}
