//! Work that the state machine asks of the machines.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

use crate::machine::{MachineSpec, Machines};

/// Longest wait for a machine that was asked to shut down. DigitalOcean promises only that it was asked.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make and boot a machine.
    Create(MachineSpec),
    /// Boot it.
    PowerOn(MachineSpec),
    /// Pull the plug.
    PowerOff(u64),
    /// Ask it to shut down, and see whether it does.
    Shutdown(u64),
    /// Shut it down, or pull the plug if it does not, and boot it.
    Reboot(MachineSpec),
    /// Pull the plug and boot it.
    PowerCycle(MachineSpec),
    /// Delete it.
    Destroy(u64),
    /// Nothing that a machine would notice.
    Nothing,
    /// Let the floating IPs lead where the state now says.
    Route,
}

/// A task, and the action that is waiting for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The action's id.
    pub action: u64,
    /// What to do.
    pub task: Task,
}

impl Job {
    /// In place of an action: nothing waits for the job.
    pub const NOBODYS: u64 = 0;
}

/// Carries out a task on one machine. Routes are the lab's own business: they need the whole state.
pub(super) async fn carry_out<M: Machines>(machines: &M, task: &Task) -> Result<()> {
    match task {
        Task::Create(spec) => machines.create(spec).await,
        Task::PowerOn(spec) => machines.power_on(spec).await,
        Task::PowerOff(id) => machines.power_off(*id).await,
        Task::Shutdown(id) => shutdown(machines, *id).await.map(drop),
        Task::Reboot(spec) => {
            if !shutdown(machines, spec.id).await? {
                machines.power_off(spec.id).await?;
            }
            machines.power_on(spec).await
        }
        Task::PowerCycle(spec) => {
            machines.power_off(spec.id).await?;
            machines.power_on(spec).await
        }
        Task::Destroy(id) => machines.destroy(*id).await,
        Task::Nothing => Ok(()),
        Task::Route => bail!("routes are not set machine by machine"),
    }
}

/// Asks a machine to shut down and tells whether it did.
async fn shutdown<M: Machines>(machines: &M, id: u64) -> Result<bool> {
    machines.shutdown(id).await?;
    let asked = Instant::now();
    while machines.is_running(id).await {
        if asked.elapsed() > SHUTDOWN {
            return Ok(false);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(true)
}
