//! Every text that lands on a host, rendered by tera from `templates/`.

use std::sync::LazyLock;

use serde::Serialize;
use tera::{Context, Tera};

/// A template, by the file that it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// `conf.d/90-cluster.conf`.
    Postgresql,
    /// `pg_hba.conf`, the whole of it.
    PgHba,
    /// `pg_ident.conf`, the whole of it.
    PgIdent,
    /// `/etc/repmgr.conf`.
    Repmgr,
    /// `~postgres/.pgpass`.
    Pgpass,
    /// `/etc/sudoers.d/cluster`.
    Sudoers,
    /// repmgrd's unit.
    RepmgrdService,
    /// The guard's unit.
    NodeService,
    /// Drop-in for PostgreSQL's unit.
    PostgresqlUnit,
    /// `createcluster.d/90-cluster.conf`.
    CreateCluster,
    /// pgBackRest's configuration.
    Pgbackrest,
    /// The unit of the service that takes backups.
    BackupService,
    /// A server's user data.
    CloudInit,
    /// What `cluster drill --svg` draws; the one text that lands on no host.
    DrillPicture,
}

impl Template {
    /// Its name, and itself: read once, for a plan renders it for every node.
    fn parsed(self) -> (&'static str, &'static Tera) {
        macro_rules! template {
            ($name:literal) => {{
                static PARSED: LazyLock<Tera> =
                    LazyLock::new(|| parse($name, include_str!(concat!("../templates/", $name))));
                ($name, &*PARSED)
            }};
        }
        match self {
            Template::Postgresql => template!("postgresql.conf.tera"),
            Template::PgHba => template!("pg_hba.conf.tera"),
            Template::PgIdent => template!("pg_ident.conf.tera"),
            Template::Repmgr => template!("repmgr.conf.tera"),
            Template::Pgpass => template!("pgpass.tera"),
            Template::Sudoers => template!("sudoers.tera"),
            Template::RepmgrdService => template!("repmgrd.service.tera"),
            Template::NodeService => template!("cluster-node.service.tera"),
            Template::PostgresqlUnit => template!("postgresql-unit.conf.tera"),
            Template::CreateCluster => template!("createcluster.conf.tera"),
            Template::Pgbackrest => template!("pgbackrest.conf.tera"),
            Template::BackupService => template!("cluster-backup.service.tera"),
            Template::CloudInit => template!("cloud-init.yaml.tera"),
            Template::DrillPicture => template!("drill.svg.tera"),
        }
    }

    /// The text, with `values` in it.
    ///
    /// # Panics
    /// When the template names a value that is not there. Templates are part of the program, and every one of them
    /// is rendered by the tests.
    pub fn render(self, values: &impl Serialize) -> String {
        let (name, tera) = self.parsed();
        let context = Context::from_serialize(values).expect("values of a template are a map");
        tera.render(name, &context).unwrap_or_else(|error| panic!("template {name}: {error:?}"))
    }
}

fn parse(name: &'static str, text: &'static str) -> Tera {
    let mut tera = Tera::default();
    tera.add_raw_template(name, text).unwrap_or_else(|error| panic!("template {name}: {error:?}"));
    tera
}
