//! Files and the node's program, and the services that have read them.

use cluster::facts::HostFacts;
use cluster::facts::host::{FileFacts, UnitFacts};
use cluster::plan::Unit;
use cluster::plan::files::{Content, FileChange, sha256};
use cluster_contract::config::Config;
use cluster_contract::paths;
use cluster_contract::status::Status;

use super::Model;

pub(super) const PROGRAM: &str = "/usr/local/bin/cluster-node";

impl Model {
    pub(super) fn write_files(&mut self, node: &str, files: &[FileChange], whole: bool) {
        let clock = self.clock;
        let count = if whole { files.len() } else { files.len() / 2 };
        let host = self.host(node);
        for file in &files[..count] {
            let Some(content) = &file.content else { panic!("{} is not known yet", file.path) };
            let plain = match content {
                Content::Plain(text) => Some(text.clone()),
                Content::Secret(_) => None,
            };
            let found = FileFacts {
                mode: file.mode.into(),
                owner: file.owner.into(),
                sha256: sha256(content.expose().as_bytes()),
                modified: clock,
                content: plain,
            };
            host.files.insert(file.path.clone(), found);
            for (unit, words) in [
                ("repmgrd", ["repmgr.conf", "repmgrd.service"]),
                ("cluster-node", ["node.json", "cluster-node.service"]),
            ] {
                if words.iter().any(|word| file.path.ends_with(word))
                    && let Some(loaded) = host.loaded.get_mut(unit)
                {
                    *loaded = false;
                }
            }
        }
    }

    pub(super) fn install_program(&mut self, node: &str, sha256: &str) {
        let found = FileFacts {
            mode: "755".into(),
            owner: "root:root".into(),
            sha256: sha256.into(),
            ..FileFacts::default()
        };
        let host = self.host(node);
        host.files.insert(PROGRAM.into(), found);
        if let Some(loaded) = host.loaded.get_mut("cluster-node") {
            *loaded = false;
        }
    }

    pub(super) fn run_services(&mut self, node: &str, units: &[Unit]) {
        let host = self.host(node);
        for unit in units {
            let path = format!("/etc/systemd/system/{}.service", unit.name());
            assert!(host.files.contains_key(&path), "{node} has no {path}");
            assert!(*unit == Unit::Repmgrd || host.files.contains_key(PROGRAM));
            host.units.insert(unit.name().into(), active());
            host.loaded.insert(unit.name().into(), true);
            if *unit == Unit::ClusterNode {
                tell_members(host);
            }
        }
        self.lease();
    }
}

pub(super) fn active() -> UnitFacts {
    UnitFacts {
        load: "loaded".into(),
        active: "active".into(),
        enabled: "enabled".into(),
        need_reload: false,
    }
}

/// What a guard that has read its file says of the members.
fn tell_members(host: &mut HostFacts) {
    let text =
        host.files.get(paths::CONFIG).and_then(|file| file.content.as_deref()).expect("node.json was read");
    let config: Config = serde_json::from_str(text).unwrap();
    let guard = host.guard.get_or_insert_with(Status::default);
    guard.generation = Some(config.generation);
    guard.members = Some(config.members.into_iter().map(|member| member.name).collect());
}
