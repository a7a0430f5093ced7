//! The table that a drill writes to: created before it and dropped after it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

use crate::drill::Target;
use crate::drill::lane::{Login, TABLE};

/// How long a standby may take to get the table.
const REPLICATION_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for a node that takes writes, to drop the table there.
const END_PATIENCE: Duration = Duration::from_secs(120);
/// Polling interval.
const LOOK: Duration = Duration::from_millis(300);

/// The table, on whichever node is the primary.
pub(super) struct Table<'a> {
    pub(super) login: &'a Login,
    pub(super) hosts: &'a BTreeMap<String, String>,
}

impl Table<'_> {
    /// Recreates the table on the primary and waits until the standby has it.
    pub(super) async fn make(&self, target: &Target) -> Result<()> {
        let sql = format!(
            "drop table if exists {TABLE}; create table {TABLE} \
             (n bigint primary key, lane text not null, at timestamptz not null default clock_timestamp())"
        );
        self.login
            .run(&self.hosts[&target.primary], &sql)
            .await
            .context("cannot create the drill's table")?;
        let reader = target.reader();
        let begun = Instant::now();
        let look = format!("select count(*) from {TABLE}");
        while let Err(error) = self.login.run(&self.hosts[reader], &look).await {
            if begun.elapsed() > REPLICATION_PATIENCE {
                return Err(error.context(format!("the drill's table does not reach {reader}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Reads the numbers of all rows, and drops the table.
    pub(super) async fn clear_up(&self) -> Result<BTreeSet<u64>> {
        let begun = Instant::now();
        // Read once: a table whose end was not heard of is gone at the next attempt.
        let mut rows = None;
        loop {
            match self.read_and_drop(&mut rows).await {
                Ok(()) => return Ok(rows.unwrap_or_default()),
                Err(error) if begun.elapsed() > END_PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn read_and_drop(&self, rows: &mut Option<BTreeSet<u64>>) -> Result<()> {
        let host = self.writable().await?;
        if self.login.run(host, &format!("select to_regclass('{TABLE}') is null")).await? == ["t"] {
            return Ok(());
        }
        if rows.is_none() {
            let numbers = self.login.run(host, &format!("select n from {TABLE}")).await?;
            *rows = Some(numbers.iter().filter_map(|number| number.parse().ok()).collect());
        }
        self.login.run(host, &format!("drop table {TABLE}")).await?;
        Ok(())
    }

    /// The node that reports that it takes writes: clients may have stopped before its promotion.
    async fn writable(&self) -> Result<&str> {
        for host in self.hosts.values() {
            let asked = self.login.run(host, "select pg_is_in_recovery()").await;
            if asked.is_ok_and(|answer| answer == ["f"]) {
                return Ok(host);
            }
        }
        bail!("no node takes writes")
    }
}
