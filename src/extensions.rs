//! Extensions of PostgreSQL that this program knows: from which package each comes, whether a library of it has to be loaded
//! at the start, and which settings it needs. Names are those of `create extension`.

/// An extension that this program knows.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub name: &'static str,
    /// The package, with `{}` for PostgreSQL's major version; none if it comes with the server.
    package: Option<&'static str>,
    /// The library that has to stand in `shared_preload_libraries`.
    pub library: Option<&'static str>,
    /// The first major version of PostgreSQL that has it, if it comes with the server.
    pub since: u32,
    /// The last one.
    pub until: u32,
    /// Where it can be: in one database alone?
    pub place: Place,
    /// Settings that it brings, and why.
    settings: &'static [(&'static str, Brought, &'static str)],
}

/// In how many databases an extension can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Any,
    /// In one alone, `postgres` unless the inventory names another.
    One,
}

/// A setting that an extension brings.
#[derive(Clone, Copy, Debug)]
enum Brought {
    Text(&'static str),
    /// The one database that it is in.
    Database,
}

const fn contrib(name: &'static str) -> Known {
    Known { name, package: None, library: None, since: 12, until: 18, place: Place::Any, settings: &[] }
}

const fn packaged(name: &'static str, package: &'static str) -> Known {
    Known { package: Some(package), ..contrib(name) }
}

const fn loaded(name: &'static str, package: &'static str) -> Known {
    Known { library: Some(name), ..packaged(name, package) }
}

const fn between(since: u32, until: u32, name: &'static str) -> Known {
    Known { since, until, ..contrib(name) }
}

impl Known {
    /// Its package for a major version of PostgreSQL; none if it comes with the server.
    pub fn package(&self, version: u32) -> Option<String> {
        self.package.map(|package| package.replace("{}", &version.to_string()))
    }

    /// The settings that it brings, where it is in this database.
    pub fn settings(&self, database: &str) -> impl Iterator<Item = (&'static str, String, &'static str)> {
        let value = move |brought: Brought| match brought {
            Brought::Text(text) => String::from(text),
            Brought::Database => String::from(database),
        };
        self.settings.iter().map(move |(name, brought, why)| (*name, value(*brought), *why))
    }
}

/// On without being asked for.
pub const BY_DEFAULT: &str = "pg_stat_statements";

/// What the table says of an extension.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The extension for which a library has to be loaded.
pub fn of_library(library: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.library == Some(library))
}

/// The name that was probably meant.
pub fn alike(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let projects =
        [("pgvector", "vector"), ("cron", "pg_cron"), ("repack", "pg_repack"), ("partman", "pg_partman")];
    if let Some((_, meant)) = projects.iter().find(|(project, _)| *project == name) {
        return Some(meant);
    }
    let likeness = |known: &str| similar::TextDiff::from_chars(name.as_str(), known).ratio();
    let nearest = KNOWN.iter().max_by(|a, b| likeness(a.name).total_cmp(&likeness(b.name)))?;
    (likeness(nearest.name) > 0.7).then_some(nearest.name)
}

/// What is known. The packages are those of Debian and of the PostgreSQL project's repository.
pub const KNOWN: &[Known] = &[
    packaged("vector", "postgresql-{}-pgvector"),
    packaged("postgis", "postgresql-{}-postgis-3"),
    packaged("postgis_raster", "postgresql-{}-postgis-3"),
    packaged("postgis_sfcgal", "postgresql-{}-postgis-3"),
    packaged("postgis_topology", "postgresql-{}-postgis-3"),
    packaged("postgis_tiger_geocoder", "postgresql-{}-postgis-3"),
    packaged("address_standardizer", "postgresql-{}-postgis-3"),
    packaged("address_standardizer_data_us", "postgresql-{}-postgis-3"),
    packaged("pgrouting", "postgresql-{}-pgrouting"),
    packaged("pointcloud", "postgresql-{}-pointcloud"),
    packaged("pointcloud_postgis", "postgresql-{}-pointcloud"),
    Known {
        place: Place::One,
        settings: &[
            ("cron.database_name", Brought::Database, "pg_cron: where its jobs are kept"),
            // With connections it would need a password, or a rule that lets it in without.
            ("cron.use_background_workers", Brought::Text("on"), "pg_cron: jobs run without logging in"),
        ],
        ..loaded("pg_cron", "postgresql-{}-cron")
    },
    packaged("pg_partman", "postgresql-{}-partman"),
    packaged("pg_repack", "postgresql-{}-repack"),
    loaded("pgaudit", "postgresql-{}-pgaudit"),
    loaded("pg_qualstats", "postgresql-{}-pg-qualstats"),
    loaded("pg_stat_kcache", "postgresql-{}-pg-stat-kcache"),
    loaded("pg_wait_sampling", "postgresql-{}-pg-wait-sampling"),
    packaged("hypopg", "postgresql-{}-hypopg"),
    packaged("hll", "postgresql-{}-hll"),
    packaged("tdigest", "postgresql-{}-tdigest"),
    packaged("ip4r", "postgresql-{}-ip4r"),
    packaged("prefix", "postgresql-{}-prefix"),
    packaged("semver", "postgresql-{}-semver"),
    packaged("unit", "postgresql-{}-unit"),
    packaged("periods", "postgresql-{}-periods"),
    packaged("rum", "postgresql-{}-rum"),
    packaged("pg_similarity", "postgresql-{}-similarity"),
    packaged("orafce", "postgresql-{}-orafce"),
    packaged("pgtap", "postgresql-{}-pgtap"),
    packaged("plpgsql_check", "postgresql-{}-plpgsql-check"),
    packaged("mysql_fdw", "postgresql-{}-mysql-fdw"),
    packaged("tds_fdw", "postgresql-{}-tds-fdw"),
    packaged("ogr_fdw", "postgresql-{}-ogr-fdw"),
    packaged("plpython3u", "postgresql-plpython3-{}"),
    packaged("plperl", "postgresql-plperl-{}"),
    packaged("plperlu", "postgresql-plperl-{}"),
    packaged("pltcl", "postgresql-pltcl-{}"),
    packaged("pltclu", "postgresql-pltcl-{}"),
    Known { library: Some("pg_stat_statements"), ..contrib("pg_stat_statements") },
    between(12, 16, "adminpack"),
    contrib("amcheck"),
    contrib("autoinc"),
    contrib("bloom"),
    contrib("btree_gin"),
    contrib("btree_gist"),
    contrib("citext"),
    contrib("cube"),
    contrib("dblink"),
    contrib("dict_int"),
    contrib("dict_xsyn"),
    contrib("earthdistance"),
    contrib("file_fdw"),
    contrib("fuzzystrmatch"),
    contrib("hstore"),
    contrib("insert_username"),
    contrib("intagg"),
    contrib("intarray"),
    contrib("isn"),
    contrib("lo"),
    contrib("ltree"),
    contrib("moddatetime"),
    between(14, 16, "old_snapshot"),
    contrib("pageinspect"),
    contrib("pg_buffercache"),
    contrib("pg_freespacemap"),
    between(18, 18, "pg_logicalinspect"),
    contrib("pg_prewarm"),
    between(14, 18, "pg_surgery"),
    contrib("pg_trgm"),
    contrib("pg_visibility"),
    between(15, 18, "pg_walinspect"),
    contrib("pgcrypto"),
    contrib("pgrowlocks"),
    contrib("pgstattuple"),
    contrib("postgres_fdw"),
    contrib("refint"),
    contrib("seg"),
    contrib("sslinfo"),
    contrib("tablefunc"),
    contrib("tcn"),
    contrib("tsm_system_rows"),
    contrib("tsm_system_time"),
    contrib("unaccent"),
    contrib("uuid-ossp"),
    contrib("xml2"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_is_there_once() {
        let mut names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KNOWN.len());
        assert!(find(BY_DEFAULT).is_some_and(|known| known.package(15).is_none() && known.library.is_some()));
        assert_eq!(find("vector").unwrap().package(17).unwrap(), "postgresql-17-pgvector");
    }

    #[test]
    fn a_project_is_not_always_called_as_its_extension() {
        for (written, meant) in [
            ("pgvector", Some("vector")),
            ("PostGIS", Some("postgis")),
            ("pg_statements", Some("pg_stat_statements")),
            ("uuid_ossp", Some("uuid-ossp")),
            ("nonsense", None),
        ] {
            assert_eq!(alike(written), meant, "{written}");
        }
    }
}
