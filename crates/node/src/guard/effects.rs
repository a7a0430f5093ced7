//! Carrying out what the core says.

use anyhow::{Context as _, Result};
use cluster_contract::NodeId;
use cluster_contract::config::Config;
use cluster_contract::journal::Event;

use super::{Guard, disk, jobs};
use crate::core::{Effect, Input, JobFailure};
use crate::decision::Job;
use crate::journal;
use crate::lease::Message;
use crate::{clock, postgres, processes, provider, store};

impl Guard {
    /// Carries out effects in their order.
    ///
    /// # Errors
    /// When something cannot be made durable: what depends on it is not done then. The rest is.
    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<()> {
        let mut stored = Ok(());
        for effect in effects {
            let result = match effect {
                Effect::KeepDivergedData => store::keep_diverged_data(),
                Effect::GiveUpDivergedData if stored.is_err() => Ok(()),
                Effect::GiveUpDivergedData => store::give_up_diverged_data(),
                Effect::Persist(hard_state) => store::persist(&hard_state).map_err(Into::into),
                Effect::NoteLease(held) => store::note_held_lease(held),
                Effect::Send(_, Some(_)) if stored.is_err() => Ok(()),
                Effect::BeginJob(job) if stored.is_err() => {
                    let why = Err("the disk cannot be written to".into());
                    self.spawn(async move { Input::JobEnded(job, why) });
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
            Effect::KeepDivergedData
            | Effect::GiveUpDivergedData
            | Effect::Persist(_)
            | Effect::NoteLease(_) => {}
            Effect::Send(to, message) => self.send(to, message).await,
            Effect::Journal(entry) => journal::note_since(entry.event, &entry.text, entry.ago),
            Effect::ObserveServer => {
                let config = self.config.clone();
                self.spawn(async move { Input::ServerObserved(postgres::observe(&config).await) });
            }
            Effect::BeginJob(job) => self.begin_job(job),
            Effect::AbortJob => {
                if let Some(job) = self.job_task.take() {
                    job.abort();
                }
            }
            Effect::MoveAddress { patient } => {
                let config = self.config.clone();
                let moving = self.spawn(async move {
                    let moved = provider::take_address(&config, patient).await;
                    Input::AddressMoved(moved.map_err(|error| provider::in_words(&error)))
                });
                self.address_task = Some(moving);
            }
            Effect::StopMovingAddress => {
                if let Some(moving) = self.address_task.take() {
                    moving.abort();
                }
            }
            Effect::AskProvider(node) => self.ask_provider(node),
            Effect::RepairReplication { primary, wrong_upstream } => {
                self.repair_replication(primary, wrong_upstream)
            }
            Effect::MakeReserve { bytes } => {
                let config = self.config.clone();
                self.spawn(async move {
                    Input::ReserveChanged(disk::make_reserve(&config, bytes).await.map_err(in_words))
                });
            }
            Effect::FreeReserve => {
                let config = self.config.clone();
                self.spawn(async move {
                    Input::ReserveChanged(disk::free_reserve(&config).await.map_err(in_words))
                });
            }
            Effect::RefuseWrites(refuses) => {
                let config = self.config.clone();
                self.spawn(async move {
                    let result = disk::refuse_writes(&config, refuses).await.map_err(in_words);
                    Input::RefusalSet { refuses, result }
                });
            }
            Effect::Relieve { drop_slots, end_writers, checkpoint } => {
                let config = self.config.clone();
                self.spawn(async move {
                    let relief = disk::relieve(&config, &drop_slots, end_writers, checkpoint).await;
                    Input::Relieved(relief.map_err(in_words))
                });
            }
            Effect::CheckHost => {
                // Beside the loop: a disk that hangs must not hang the guard.
                let config = self.config.clone();
                let checked = tokio::task::spawn_blocking(move || check_host(&config));
                self.spawn(async move {
                    checked.await.unwrap_or_else(|error| Input::PersistFailed(error.to_string()))
                });
            }
        }
    }

    /// Starts a task beside the loop. What it comes to is an input of the core.
    fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) -> tokio::task::AbortHandle {
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

    fn begin_job(&mut self, job: Job) {
        let config = self.config.clone();
        let member = |id: NodeId| {
            let found = config.members.iter().find(|member| member.id == id).cloned();
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
                (Job::HandOver { .. }, _, Some(to)) => jobs::hand_over(config, to?).await,
                (job, ..) => anyhow::bail!("{job:?} names no node"),
            }
        };
        let failure = |error: anyhow::Error| JobFailure {
            cloning: error.is::<jobs::CloneFailed>(),
            text: format!("{error:#}"),
        };
        let job_task = self.spawn(async move { Input::JobEnded(job, work.await.map_err(failure)) });
        self.job_task = Some(job_task);
    }

    fn ask_provider(&self, node: NodeId) {
        let (config, now) = (self.config.clone(), clock::now());
        self.spawn(async move {
            let answer = match config.members.iter().find(|member| member.id == node) {
                Some(member) => provider::is_off(&config, member).await,
                None => Ok(false),
            };
            let answer = answer.map_err(|error| provider::in_words(&error));
            if let Err(error) = &answer {
                journal::warn(&format!("cannot ask the provider whether node {node} is off: {error}"));
            }
            Input::ProviderAnswered(node, now, answer)
        });
    }

    fn repair_replication(&self, primary: NodeId, wrong_upstream: bool) {
        let config = self.config.clone();
        self.spawn(async move {
            let result = match config.members.iter().find(|member| member.id == primary).cloned() {
                Some(primary) => jobs::repair_replication(config, primary, wrong_upstream).await,
                None => Err(anyhow::anyhow!("there is no node {primary}")),
            };
            Input::ReplicationRepaired(result.map_err(|error| format!("{error:#}")))
        });
    }
}

fn in_words(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// Checks the host for what takes a while to find out.
fn check_host(config: &Config) -> Input {
    let (persist, no_room) = match store::check() {
        Ok(()) => (Ok(()), None),
        Err(store::DiskTrouble::NoRoom(error)) => (Ok(()), Some(error.to_string())),
        Err(trouble @ store::DiskTrouble::CannotPersist(_)) => (Err(trouble.to_string()), None),
    };
    let runs_old_program = processes::runs_old_program(config).unwrap_or(false);
    Input::HostChecked { persist, no_room, runs_old_program }
}
