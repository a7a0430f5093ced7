//! Injects the fault and undoes it, over SSH or through the provider's API.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::control;
use crate::drill::{Fault, Target};
use crate::error::Advice;
use crate::provider::Api;
use crate::remote::{Command, RemoteError};
use crate::script;
use crate::world::World;

/// What a host was told to do ends by itself after this long, in seconds: longer than a drill waits for anything.
const EXPIRES: u64 = 180;

/// A fault that can be injected and undone.
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

    /// Checks whether the fault can be injected, without injecting it.
    pub(super) async fn check(&self) -> Result<()> {
        for node in &self.target.filtered {
            let command = Command::new("drill check", script::DRILL_CHECK).limit(10);
            let lacks = self.world.run(node, &command, &|_| {}).await?.stdout;
            if !lacks.trim().is_empty() {
                return Err(Advice::refused(format!("cannot cut {node} off: {}", lacks.trim()))
                    .hint(format!(
                        "run `apt-get install nftables` on {node} (it adds no rules by itself), or choose another --fault"
                    ))
                    .into());
            }
        }
        Ok(())
    }

    /// Prepares the fault: cuts the nodes' access to the API.
    pub(super) async fn prepare(&self) -> Result<()> {
        if self.fault != Fault::ApiOutage {
            return Ok(());
        }
        let url = self.world.nodes_api_url().context("the nodes do not use an API")?;
        let url = reqwest::Url::parse(&url).context("the API's URL is not valid")?;
        let host = url.host_str().context("the API's URL has no host")?.to_owned();
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

    /// Injects the fault. Returns when it has happened or was handed to the API.
    pub(super) async fn make(&self) -> Result<()> {
        let primary = &self.target.primary;
        match self.fault {
            Fault::PowerOff => {
                let (api, server) = self.server()?;
                api.power_off(server).await
            }
            Fault::Crash | Fault::ApiOutage => self.on(primary, &self.command("crash")).await,
            Fault::Freeze => self.on(primary, &self.command("freeze")).await,
            Fault::Isolate => self.on(primary, &self.command("isolate")).await,
            Fault::Switchover => {
                let verdict = control::hand_over(&self.world, primary, &self.target.successor).await?;
                anyhow::ensure!(
                    verdict.allowed,
                    "the guard of {primary} refuses to hand over: {}",
                    verdict.why
                );
                Ok(())
            }
        }
    }

    /// Undoes the fault, however far it got.
    pub(super) async fn undo(&self) -> Result<()> {
        match self.fault {
            Fault::Crash | Fault::Switchover => Ok(()),
            Fault::PowerOff => {
                self.world.disconnect(&self.target.primary).await;
                let (api, server) = self.server()?;
                api.power_on(server).await
            }
            Fault::Freeze => self.mend(&self.target.primary).await,
            Fault::Isolate | Fault::ApiOutage => {
                let mut failed = None;
                for node in &self.target.filtered {
                    if let Err(error) = self.mend(node).await {
                        self.world.report.warning(format!(
                            "{node}: {error:#}; the fault ends by itself within {EXPIRES} s of the cut"
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

    /// Undoing is safe to repeat: a broken connection is opened again.
    async fn mend(&self, node: &str) -> Result<()> {
        let command = script::of_postgres(&self.world.inventory, "drill mend", script::DRILL_MEND).limit(20);
        match self.world.run(node, &command, &|_| {}).await {
            Err(RemoteError::Lost { .. }) => self.on(node, &command).await,
            result => Ok(result.map(drop)?),
        }
    }

    /// The primary's server at the provider.
    fn server(&self) -> Result<(&Api, u64)> {
        let api = self.world.provider.as_ref().context("this cluster has no provider API")?;
        Ok((api, self.target.server.context("the primary's droplet is unknown")?))
    }
}
