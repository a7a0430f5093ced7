//! The fault itself, and its end: over SSH, or by the provider's API.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cluster_cloud::{Client, droplet::Power};
use tokio::task::JoinSet;

use crate::control;
use crate::drill::{Fault, Target};
use crate::error::Advice;
use crate::remote::{Command, RemoteError};
use crate::script;
use crate::world::World;

/// What a host was told to do ends by itself after this long, in seconds: longer than a drill waits for anything.
const EXPIRES: u64 = 180;

/// A fault that can be made and undone.
#[derive(Clone)]
pub(super) struct Damage {
    world: Arc<World>,
    fault: Fault,
    target: Target,
}

impl Damage {
    pub(super) fn new(world: &Arc<World>, fault: Fault, target: &Target) -> Damage {
        Damage { world: world.clone(), fault, target: target.clone() }
    }

    /// Looks whether it can be made, without making it.
    pub(super) async fn check(&self) -> Result<()> {
        for node in &self.target.filtered {
            let command = Command::new("drill check", script::DRILL_CHECK).limit(10);
            let lacks = self.world.run(node, &command, &|_| {}).await?.stdout;
            if !lacks.trim().is_empty() {
                return Err(Advice::refused(format!("{node} cannot be cut off: {}", lacks.trim()))
                    .hint(format!(
                        "`apt-get install nftables` on {node} makes no rule by itself; or choose another --fault"
                    ))
                    .into());
            }
        }
        Ok(())
    }

    /// What comes before the cut: the way to the API is closed.
    pub(super) async fn prepare(&self) -> Result<()> {
        if self.fault != Fault::ApiOutage {
            return Ok(());
        }
        let url = self.world.nodes_api_url().context("the nodes use no API")?;
        let url = reqwest::Url::parse(&url).context("the API's address makes no sense")?;
        let host = url.host_str().context("the API has no host")?.to_owned();
        let port = url.port_or_known_default().unwrap_or(443).to_string();
        let mut hosts = JoinSet::new();
        for node in &self.target.filtered {
            let command = self.command("api").arg(&host).arg(&port);
            let (world, node) = (self.world.clone(), node.clone());
            hosts.spawn(async move { world.run(&node, &command, &|_| {}).await });
        }
        hosts.join_all().await.into_iter().collect::<Result<Vec<_>, RemoteError>>()?;
        Ok(())
    }

    /// Makes it. Returns when it was made, or was handed to whoever makes it.
    pub(super) async fn make(&self) -> Result<()> {
        let primary = &self.target.primary;
        match self.fault {
            Fault::PowerOff => self.power(Power::Off).await,
            Fault::Crash | Fault::ApiOutage => self.on(primary, &self.command("crash")).await,
            Fault::Freeze => self.on(primary, &self.command("freeze")).await,
            Fault::Isolate => self.on(primary, &self.command("isolate")).await,
            Fault::Switchover => {
                let verdict = control::hand_over(&self.world, primary, &self.target.successor).await?;
                anyhow::ensure!(
                    verdict.allowed,
                    "the guard of {primary} does not hand over: {}",
                    verdict.why
                );
                Ok(())
            }
        }
    }

    /// Undoes it, however far it had come.
    pub(super) async fn undo(&self) -> Result<()> {
        match self.fault {
            Fault::Crash | Fault::Switchover => Ok(()),
            Fault::PowerOff => {
                self.world.disconnect(&self.target.primary).await;
                self.power(Power::On).await
            }
            Fault::Freeze => self.mend(&self.target.primary).await,
            Fault::Isolate | Fault::ApiOutage => {
                let mut failed = None;
                for node in &self.target.filtered {
                    if let Err(error) = self.mend(node).await {
                        self.world.report.warning(format!(
                            "{node}: {error:#}; it mends itself within {EXPIRES} s of the cut"
                        ));
                        failed = Some(error);
                    }
                }
                failed.map_or(Ok(()), Err)
            }
        }
    }

    fn command(&self, what: &str) -> Command {
        script::of_postgres(&self.world.inventory, "drill", script::DRILL_BREAK)
            .arg(what)
            .arg(EXPIRES.to_string())
            .limit(20)
    }

    async fn on(&self, node: &str, command: &Command) -> Result<()> {
        self.world.run(node, command, &|_| {}).await?;
        Ok(())
    }

    /// Undoing may be done twice: a connection that broke meanwhile is opened anew.
    async fn mend(&self, node: &str) -> Result<()> {
        let command = script::of_postgres(&self.world.inventory, "drill mend", script::DRILL_MEND).limit(20);
        match self.world.run(node, &command, &|_| {}).await {
            Err(RemoteError::Lost { .. }) => self.on(node, &command).await,
            result => Ok(result.map(drop)?),
        }
    }

    async fn power(&self, power: Power) -> Result<()> {
        let client: &Client = self.world.cloud.as_ref().context("there is no API")?;
        let droplet = self.target.droplet.context("the API does not know the primary's droplet")?;
        client.power(droplet, power, self.world.pace).await?;
        Ok(())
    }
}
