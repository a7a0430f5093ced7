//! apt: what it knows of, what is installed.

use super::Model;

/// New enough, whatever the package.
const VERSION: &str = "9.9-1";

impl Model {
    pub(super) fn update_lists(&mut self, node: &str) {
        let host = self.host(node);
        let from = |name: &str| host.packages.pgdg.iter().any(|line| line.contains(name));
        let mut versions = vec![15];
        if from("//apt.postgresql.org") {
            versions.extend([13, 14, 16, 17, 18]);
        }
        if from("//apt-archive.postgresql.org") {
            versions.push(12);
        }
        let mut extensions = vec!["postgresql-15-cron", "postgresql-15-postgis-3"];
        if from("//apt.postgresql.org") {
            extensions.push("postgresql-15-pgvector");
        }
        host.packages.lists_age = Some(1);
        host.packages.candidates = versions
            .iter()
            .flat_map(|version| [format!("postgresql-{version}"), format!("postgresql-{version}-repmgr")])
            .chain(["sudo".into(), "pgbackrest".into()])
            .chain(extensions.into_iter().map(str::to_owned))
            .map(|package| (package, VERSION.into()))
            .collect();
    }

    pub(super) fn add_repository(&mut self, node: &str, archive: bool) {
        let host = if archive { "apt-archive" } else { "apt" };
        let suite = if archive { "bookworm-pgdg-archive" } else { "bookworm-pgdg" };
        let line = format!("deb https://{host}.postgresql.org/pub/repos/apt {suite} main");
        self.host(node).packages.pgdg.push(line);
        self.update_lists(node);
    }

    /// dpkg was killed after the first of them.
    pub(super) fn half_install(&mut self, node: &str, packages: &[String]) {
        self.host(node).packages.interrupted = true;
        let first = packages[0].clone();
        self.host(node).packages.installed.insert(first, VERSION.into());
    }

    pub(super) fn install(&mut self, node: &str, packages: &[String]) {
        let host = self.host(node);
        assert!(host.files.contains_key(cluster::plan::files::CREATECLUSTER), "the package makes a cluster");
        for package in packages {
            assert!(host.packages.candidates.contains_key(package), "apt has no {package}");
            host.packages.installed.insert(package.clone(), VERSION.into());
        }
        host.packages.interrupted = false;
    }
}
