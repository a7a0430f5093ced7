//! Marks: moments with a name, to which a cluster can be restored.
//!
//! PostgreSQL and pgBackRest know restore points, and find one only if the backup that they happen to choose is older. So a
//! mark is a name for a position in the WAL, kept in the database `cluster`, and a restore is told the position.

use anyhow::{Context as _, Result};
use cluster_contract::position::Lsn;

use super::World;
use crate::script;
use crate::sql;

/// A mark.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mark {
    pub name: String,
    /// Everything that was committed before it lies before this.
    pub lsn: Lsn,
    /// When it was set, as PostgreSQL writes it, in UTC.
    pub at: String,
}

const TABLE: &str = "create table if not exists public.marks (name text primary key, lsn pg_lsn not null, \
     at timestamptz not null default now());\n";

/// Every column as `read` takes it.
const COLUMNS: &str =
    "name || ' ' || lsn || ' ' || to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || 'Z'";

impl World {
    /// Sets a mark on the primary; none if there is one of that name already.
    ///
    /// # Errors
    /// When the primary does not answer.
    pub async fn set_mark(&self, primary: &str, name: &str) -> Result<Option<Mark>> {
        let name = sql::literal(name);
        // A restore point, so that other tools find it, too.
        let statement = format!(
            "set client_min_messages = warning;\n{TABLE}insert into public.marks (name, lsn) \
             select {name}, pg_create_restore_point({name}) where not exists (select from public.marks where name = {name}) \
             returning {COLUMNS};\n"
        );
        Ok(self.select_marks(primary, statement).await?.pop())
    }

    /// The marks of the cluster, the earliest first.
    ///
    /// # Errors
    /// When the primary does not answer.
    pub async fn marks(&self, primary: &str) -> Result<Vec<Mark>> {
        let statement = format!(
            "select to_regclass('public.marks') is not null as has_marks \\gset\n\
             \\if :has_marks\nselect {COLUMNS} from public.marks order by lsn;\n\\endif\n"
        );
        self.select_marks(primary, statement).await
    }

    async fn select_marks(&self, primary: &str, statement: String) -> Result<Vec<Mark>> {
        let command = script::psql(&self.inventory, "marks", "cluster", statement).limit(30);
        let output = self.run(primary, &command, &|_| {}).await?;
        output.stdout.lines().filter(|line| !line.trim().is_empty()).map(read).collect()
    }
}

fn read(line: &str) -> Result<Mark> {
    let parts = || {
        let mut fields = line.trim().splitn(3, ' ');
        let (name, lsn, at) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mark { name: name.to_owned(), lsn: lsn.parse().ok()?, at: at.to_owned() })
    };
    parts().with_context(|| format!("`{line}` is no mark"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_is_selected() {
        let mark = read("before-migration 0/3000148 2026-11-26 14:03:00Z").unwrap();
        assert_eq!((mark.name.as_str(), mark.lsn), ("before-migration", Lsn(0x300_0148)));
        assert_eq!(mark.at, "2026-11-26 14:03:00Z");
        assert!(read("psql: error").is_err());
    }
}
