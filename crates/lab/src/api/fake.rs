//! Machines that are only remembered: for tests, and for looking at the API without being root.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::machine::{MachineSpec, Machines};

/// Machines in memory. Clones are the same machines.
#[derive(Clone, Debug, Default)]
pub struct FakeMachines(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    running: BTreeMap<u64, bool>,
    routes: BTreeMap<Ipv4Addr, Ipv4Addr>,
    failing: BTreeSet<&'static str>,
    takes: Duration,
    calls: Vec<String>,
}

impl FakeMachines {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the calls of this name (`create`, `route`, …) fail.
    pub fn fail(&self, call: &'static str) {
        self.inner().failing.insert(call);
    }

    /// From now on they succeed again.
    pub fn heal(&self) {
        self.inner().failing.clear();
    }

    /// From now on every call takes this long.
    pub fn take(&self, time: Duration) {
        self.inner().takes = time;
    }

    /// Where the floating IPs lead.
    pub fn routes(&self) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
        self.inner().routes.clone()
    }

    /// Which machines there are, and whether they run.
    pub fn running(&self) -> BTreeMap<u64, bool> {
        self.inner().running.clone()
    }

    /// All calls that changed something, in order: `create 7`.
    pub fn calls(&self) -> Vec<String> {
        self.inner().calls.clone()
    }

    /// Stops a machine behind the API's back, as a crash would.
    pub fn crash(&self, id: u64) {
        self.inner().running.insert(id, false);
    }

    async fn call(&self, name: &'static str, id: u64, change: impl FnOnce(&mut Inner) + Send) -> Result<()> {
        let takes = self.inner().takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let mut inner = self.inner();
        if inner.failing.contains(name) {
            bail!("{name} was told to fail");
        }
        inner.calls.push(format!("{name} {id}"));
        change(&mut inner);
        Ok(())
    }
}

impl Machines for FakeMachines {
    async fn create(&self, spec: &MachineSpec) -> Result<()> {
        let id = spec.id;
        self.call("create", id, |inner| _ = inner.running.insert(id, true)).await
    }

    async fn power_on(&self, spec: &MachineSpec) -> Result<()> {
        let id = spec.id;
        self.call("power_on", id, |inner| _ = inner.running.insert(id, true)).await
    }

    async fn power_off(&self, id: u64) -> Result<()> {
        self.call("power_off", id, |inner| _ = inner.running.insert(id, false)).await
    }

    async fn shutdown(&self, id: u64) -> Result<()> {
        self.call("shutdown", id, |inner| _ = inner.running.insert(id, false)).await
    }

    async fn is_running(&self, id: u64) -> bool {
        self.inner().running.get(&id).copied().unwrap_or_default()
    }

    async fn destroy(&self, id: u64) -> Result<()> {
        self.call("destroy", id, |inner| _ = inner.running.remove(&id)).await
    }

    async fn route(&self, table: &BTreeMap<Ipv4Addr, Ipv4Addr>) -> Result<()> {
        let table = table.clone();
        self.call("route", 0, |inner| inner.routes = table).await
    }
}
