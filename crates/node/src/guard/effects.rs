//! Carrying out what the core says.

use anyhow::{Context as _, Result};
use cluster_contract::NodeId;
use cluster_contract::config::Config;
use cluster_contract::journal::Event;

use super::{Guard, jobs};
use crate::core::{Effect, Input};
use crate::decision::Job;
use crate::journal;
use crate::lease::Message;
use crate::{address, clock, memory, postgres, processes, provider};

impl Guard {
    /// Carries out effects in their order.
    ///
    /// # Errors
    /// When something cannot be made durable: what depends on it is not done then. The rest is.
    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<()> {
        let mut stored = Ok(());
        for effect in effects {
            let result = match effect {
                Effect::KeepData => memory::keep_data(),
                Effect::GiveUpData => memory::give_up_data(),
                Effect::Persist(durable) => memory::persist(&durable).map_err(Into::into),
                Effect::Hold(held) => memory::hold(held),
                Effect::Send(_, Some(_)) if stored.is_err() => Ok(()),
                Effect::Begin(job) if stored.is_err() => {
                    let why = Err("the disk cannot be written to".to_owned());
                    self.beside(async move { Input::JobEnded(job, why) });
                    Ok(())
                }
                effect => {
                    self.carry_out_one(effect).await;
                    Ok(())
                }
            };
            stored = stored.and(result);
        }
        stored
    }

    async fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Fence(why) => self.fence(why),
            Effect::KeepData | Effect::GiveUpData | Effect::Persist(_) | Effect::Hold(_) => {}
            Effect::Send(to, message) => self.send(to, message).await,
            Effect::Note(entry) => journal::note_since(entry.event, &entry.text, entry.ago),
            Effect::Look => {
                let config = self.config.clone();
                self.beside(async move { Input::Looked(postgres::look(&config).await) });
            }
            Effect::Begin(job) => self.begin(job),
            Effect::Abort => {
                if let Some(job) = self.working.take() {
                    job.abort();
                }
            }
            Effect::MoveAddress { patient } => {
                let config = self.config.clone();
                let moving = self.beside(async move {
                    let moved = address::take(&config, patient).await;
                    Input::AddressMoved(moved.map_err(|error| format!("{error:#}")))
                });
                self.moving = Some(moving);
            }
            Effect::StopMoving => {
                if let Some(moving) = self.moving.take() {
                    moving.abort();
                }
            }
            Effect::AskProvider(node) => self.ask_provider(node),
            Effect::Mend { primary, astray } => self.mend(primary, astray),
            Effect::TryDisk => {
                // Beside the loop: a disk that hangs must not hang the guard.
                let config = self.config.clone();
                let checked = tokio::task::spawn_blocking(move || checked(&config));
                self.beside(async move {
                    checked.await.unwrap_or_else(|error| Input::Stored(Err(error.to_string())))
                });
            }
        }
    }

    /// Starts work beside the loop. What it comes to is an input of the core.
    fn beside(&self, work: impl Future<Output = Input> + Send + 'static) -> tokio::task::AbortHandle {
        let inputs = self.inputs.clone();
        let task = tokio::spawn(async move {
            // The receiver lives as long as the loop.
            let _ = inputs.send(work.await).await;
        });
        task.abort_handle()
    }

    fn fence(&self, why: &str) {
        let text = match processes::kill(&self.config) {
            Ok(count) => format!("fenced: killed {count} PostgreSQL processes; {why}"),
            Err(error) => format!("fenced, and {error:#}"),
        };
        journal::note(Event::Fenced, &text);
    }

    async fn send(&mut self, to: NodeId, message: Option<Message>) {
        let Some(address) = self.addresses.get(&to).copied() else { return };
        match self.wire.pack(to, message) {
            // A message may be lost; a peer that is down makes an error of it.
            Ok(packet) => drop(self.udp.send_to(&packet, address).await),
            Err(error) => journal::warn(&format!("to node {to}: {error:#}")),
        }
    }

    fn begin(&mut self, job: Job) {
        let config = self.config.clone();
        let member = |id: NodeId| {
            let found = config.nodes.iter().find(|member| member.id == id).cloned();
            found.with_context(|| format!("there is no node {id}"))
        };
        let (of, to) = match job {
            Job::Rejoin { of, .. } => (Some(member(of)), None),
            Job::HandOver { to } => (None, Some(member(to))),
            Job::Start | Job::Promote => (None, None),
        };
        let work = async move {
            match (job, of, to) {
                (Job::Start, ..) => jobs::start(config).await,
                (Job::Promote, ..) => jobs::promote(config).await,
                (Job::Rejoin { clone, .. }, Some(of), _) => jobs::rejoin(config, of?, clone).await,
                (Job::HandOver { .. }, _, Some(to)) => jobs::stop_for(config, to?).await,
                (job, ..) => anyhow::bail!("{job:?} names no node"),
            }
        };
        let working = self
            .beside(async move { Input::JobEnded(job, work.await.map_err(|error| format!("{error:#}"))) });
        self.working = Some(working);
    }

    fn ask_provider(&self, node: NodeId) {
        let (config, now) = (self.config.clone(), clock::now());
        self.beside(async move {
            let answer = match config.nodes.iter().find(|member| member.id == node) {
                Some(member) => provider::is_off(&config, member).await,
                None => Ok(false),
            };
            if let Err(error) = &answer {
                journal::warn(&format!("cannot ask the provider whether node {node} is off: {error:#}"));
            }
            Input::ProviderSaid(node, now, answer.map_err(|error| format!("{error:#}")))
        });
    }

    fn mend(&self, primary: NodeId, astray: bool) {
        let config = self.config.clone();
        self.beside(async move {
            let result = match config.nodes.iter().find(|member| member.id == primary).cloned() {
                Some(primary) => jobs::mend(config, primary, astray).await,
                None => Err(anyhow::anyhow!("there is no node {primary}")),
            };
            Input::Mended(result.map_err(|error| format!("{error:#}")))
        });
    }
}

/// What is looked at now and then, and may take a while.
fn checked(config: &Config) -> Input {
    let (disk, room) = match memory::check() {
        Ok(()) => (Ok(()), None),
        Err(memory::Trouble::NoRoom(error)) => (Ok(()), Some(error.to_string())),
        Err(trouble @ memory::Trouble::Forgetful(_)) => (Err(trouble.to_string()), None),
    };
    Input::Checked { disk, room, outdated: processes::outdated(config).unwrap_or(false) }
}
