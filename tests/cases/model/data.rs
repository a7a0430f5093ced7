//! Data directories: made, started for the first time, cloned.

use cluster::facts::host::{DataFacts, DatabaseFacts, PgCluster, PostgresFacts, RoleFacts};
use cluster_contract::marker::{DataStage, Marker};

use super::{IDENTIFIER, Model};

impl Model {
    pub(super) fn create_data(&mut self, node: &str, whole: bool) {
        let version = self.inventory.postgresql.version;
        let (cluster, port) = (self.inventory.cluster.clone(), self.inventory.postgresql.port);
        let number = self.number(node);
        let host = self.host(node);
        assert!(
            host.packages.installed.contains_key(&format!("postgresql-{version}")),
            "nothing could make it"
        );
        assert!(host.files.contains_key(super::files::PROGRAM), "nothing could write down what it is");
        if host.data.as_ref().is_some_and(|data| data.entries > 0) {
            let marker = host.marker.as_ref().expect("somebody's data is overwritten");
            assert!(
                marker.stage == DataStage::Creating && marker.cluster == cluster,
                "data of {marker:?} is overwritten"
            );
        }
        host.marker =
            Some(Marker { cluster: cluster.clone(), stage: DataStage::Creating, system_identifier: None });
        host.data = Some(DataFacts { entries: 5, ..DataFacts::default() });
        if whole {
            // Every data directory has an identifier of its own, until it is cloned.
            let identifier = if node == self.inventory.primary().name {
                IDENTIFIER.to_owned()
            } else {
                format!("720000000000000000{number}")
            };
            let host = self.host(node);
            host.marker = Some(Marker {
                cluster,
                stage: DataStage::Initialized,
                system_identifier: Some(identifier.clone()),
            });
            host.data = Some(DataFacts {
                entries: 23,
                system_identifier: Some(identifier),
                state: Some("shut down".into()),
                timeline: Some(1),
                ..DataFacts::default()
            });
            let data = format!("/var/lib/postgresql/{version}/main");
            host.pg_clusters = vec![PgCluster {
                version: version.to_string(),
                name: "main".into(),
                port,
                status: "down".into(),
                data,
            }];
        }
    }

    /// From the repository, into what was made for it.
    pub(super) fn restore(&mut self, node: &str, whole: bool) {
        let host = self.host(node);
        assert!(host.files.contains_key(cluster_contract::paths::PGBACKREST_CONF), "no repository is known");
        let marker = host.marker.as_mut().expect("no data directory was made");
        assert!(
            matches!(marker.stage, DataStage::Initialized | DataStage::Creating),
            "data of {marker:?} is overwritten"
        );
        marker.stage = if whole { DataStage::Primary } else { DataStage::Creating };
    }

    pub(super) fn start_new(&mut self, node: &str, made: DataStage, whole: bool) {
        if made == DataStage::Primary {
            assert_eq!(self.writers(), Vec::<String>::new(), "a second primary");
            let restored = self.means.restore.is_some();
            let is_new = self.facts.local.system_identifier.is_none();
            assert!(is_new || restored, "a cluster that existed is begun anew");
        }
        let host = self.host(node);
        let marker = host.marker.as_mut().expect("no data directory was made");
        assert!(
            marker.stage == DataStage::Initialized || marker.stage == made,
            "a {marker:?} starts as {made:?}"
        );
        marker.stage = made;
        if whole {
            let identifier = marker.system_identifier.clone().unwrap();
            host.data.as_mut().unwrap().state = Some("in production".into());
            host.postgres = Some(PostgresFacts {
                version: "15.8 (Debian 15.8-0+deb12u1)".into(),
                system_identifier: identifier,
                timeline: 1,
                lsn: Some("0/3000000".into()),
                databases: vec![DatabaseFacts { name: "postgres".into(), owner: "postgres".into() }],
                roles: vec![RoleFacts {
                    name: "postgres".into(),
                    superuser: true,
                    login: true,
                    ..RoleFacts::default()
                }],
                ..PostgresFacts::default()
            });
            self.started(node);
        }
    }

    pub(super) fn clone_from(&mut self, node: &str, from: &str, whole: bool) {
        assert_eq!(self.writer(), from);
        assert!(self.has_role(from, "repmgr"));
        let (version, port, cluster) = (
            self.inventory.postgresql.version,
            self.inventory.postgresql.port,
            self.inventory.cluster.clone(),
        );
        let identifier = self.running(from).system_identifier.clone();
        let host = self.host(node);
        if let Some(marker) = host.marker.as_ref().filter(|_| host.data.is_some()) {
            assert!(
                matches!(marker.stage, DataStage::Initialized | DataStage::Cloning),
                "a {:?} is overwritten",
                marker.stage
            );
        }
        assert!(host.postgres.is_none(), "a running PostgreSQL is overwritten");
        host.marker =
            Some(Marker { cluster: cluster.clone(), stage: DataStage::Cloning, system_identifier: None });
        host.data = None;
        if whole {
            host.marker = Some(Marker {
                cluster,
                stage: DataStage::Standby,
                system_identifier: Some(identifier.clone()),
            });
            host.data = Some(DataFacts {
                entries: 24,
                standby_signal: true,
                system_identifier: Some(identifier),
                timeline: Some(1),
                ..DataFacts::default()
            });
            let data = format!("/var/lib/postgresql/{version}/main");
            host.pg_clusters = vec![PgCluster {
                version: version.to_string(),
                name: "main".into(),
                port,
                status: "down".into(),
                data,
            }];
        }
    }
}
