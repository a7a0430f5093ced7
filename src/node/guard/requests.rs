//! What other programs on this node ask of the guard.

use std::path::Path;

use anyhow::Result;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::{Guard, RESTART, finished, jobs};
use crate::node::config::Config;
use crate::node::decision::Job;
use crate::node::lease::{Millis, Refusal};
use crate::node::socket::{self, Request, Verdict};
use crate::node::{clock, memory};

impl Guard {
    pub(super) async fn asked(&mut self, mut stream: UnixStream) {
        let root = stream.peer_cred().is_ok_and(|who| who.uid() == 0);
        let answer = match socket::read(&mut stream).await {
            Some(request) if request.is_roots() && !root => {
                serde_json::to_string(&Verdict { allowed: false, why: "only root may ask for that".into() })
            }
            Some(Request::Status) => serde_json::to_string(&self.status()),
            Some(Request::Take) => match self.take().await {
                Ok(verdict) => serde_json::to_string(&verdict),
                // What could not be made durable was not done.
                Err(error) => serde_json::to_string(&Verdict { allowed: false, why: format!("{error:#}") }),
            },
            Some(request) => serde_json::to_string(&self.verdict(&request)),
            None => Ok("{\"error\":\"what?\"}".to_owned()),
        };
        // Who asked may have gone.
        let _ = stream.write_all(answer.unwrap_or_default().as_bytes()).await;
    }

    /// Takes the lease without a majority, on a person's word.
    async fn take(&mut self) -> Result<Verdict> {
        let now = clock::now();
        let no = |why: String| Ok(Verdict { allowed: false, why });
        if self.lease.holds(now) {
            return Ok(Verdict { allowed: true, why: "this node holds the lease".into() });
        }
        let me = self.config.me();
        if me.witness || !finished() {
            return no(format!("{} has no data that could be taken over", me.name));
        }
        if memory::paused().is_some() {
            return no("it is paused, and would not promote".into());
        }
        if let Some(primary) = self.other_primary(now) {
            return no(format!("{} takes writes, as this guard hears", self.name(primary)));
        }
        if let Some(job) = self.job {
            return no(format!("{job:?} is under way"));
        }
        match self.lease.take(now) {
            Ok(output) => {
                memory::give_up_data()?;
                self.unfit_until = 0;
                self.put(output).await?;
                self.act().await;
                Ok(Verdict { allowed: true, why: "this node holds by force".into() })
            }
            Err(Refusal::Past) => no("it cannot tell how much WAL it has; PostgreSQL does not answer".into()),
            Err(refusal) => no(refusal.to_string()),
        }
    }

    /// Makes a standby of this node, because a person asks for it.
    fn rejoin(&mut self, now: Millis, clone: bool) -> Verdict {
        let no = |why: &str| Verdict { allowed: false, why: why.to_owned() };
        let seen = self.see(now);
        if seen.witness {
            return no("it is the witness, and has nothing to rejoin with");
        }
        if self.lease.holds(now) || seen.local().writable {
            return no("it takes writes");
        }
        match self.job {
            Some(Job::Rejoin) if clone => {
                return no("it rejoins already; a clone can be asked for when that has ended");
            }
            Some(Job::Rejoin) => return Verdict { allowed: true, why: "it is under way".into() },
            _ => {}
        }
        if seen.paused {
            return no("it is paused");
        }
        if seen.standby_signal && !clone {
            return no("it is a standby; if it does not stream, a fresh clone mends it");
        }
        // A damaged server may run and answer nobody; its start waits for a quarter of an hour, and a clone ends that.
        let given_up = clone && self.job == Some(Job::Start);
        if self.job.is_some() && !given_up {
            return no("something else is under way; `cluster-node status` says what");
        }
        let Some(primary) = seen.primary.and_then(|id| self.member(id)).cloned() else {
            return no("its guard hears of no node that takes writes");
        };
        if let Some(start) = self.working.take().filter(|_| given_up) {
            start.abort();
        }
        let why =
            format!("rejoins {}, as a person asks{}", primary.name, if clone { ", by a clone" } else { "" });
        self.begin(Job::Rejoin, &why, jobs::rejoin(self.config.clone(), primary, clone));
        Verdict { allowed: true, why }
    }

    fn verdict(&mut self, request: &Request) -> Verdict {
        let now = clock::now();
        let holds = self.lease.holds(now);
        match request {
            Request::HandOver { .. } if memory::paused().is_some() => Verdict {
                allowed: false,
                why: "it is paused: the one would stop, and the other would not promote".into(),
            },
            Request::Rejoin { clone } => self.rejoin(now, *clone),
            Request::HandOver { .. } if self.lease.is_forced() => Verdict {
                allowed: false,
                why: "it holds by force, and a majority must be back before it can hand over".into(),
            },
            Request::HandOver { to } if holds => {
                let heir = self.config.peers().find(|peer| peer.name == *to && !peer.witness).cloned();
                match (heir, self.job) {
                    (None, _) => Verdict {
                        allowed: false,
                        why: format!("there is no data node `{to}` beside this one"),
                    },
                    (_, Some(job)) => Verdict { allowed: false, why: format!("{job:?} is under way") },
                    (Some(heir), None) => {
                        self.heir = Some(heir.id);
                        // What a person began before is over: the stop that comes now is not to be waited out.
                        (self.restarting_until, self.restart_ended) = (0, false);
                        let why = format!("hands over to {}", heir.name);
                        self.begin(Job::HandOver, &why, jobs::stop_for(self.config.clone(), heir));
                        Verdict { allowed: true, why }
                    }
                }
            }
            Request::Restart if holds || self.bootstrap => {
                (self.restarting_until, self.restart_ended) = (now + RESTART, false);
                Verdict { allowed: true, why: "the lease is kept meanwhile".into() }
            }
            // It has ended and is started again, between two looks maybe.
            Request::MayStart if holds && now < self.restarting_until => {
                (self.restart_ended, self.stale_before) = (true, now);
                Verdict { allowed: true, why: "this node holds the lease".into() }
            }
            Request::MayStart if Path::new(memory::REWINDING).exists() => Verdict {
                allowed: self.job == Some(Job::Rejoin),
                why: "a rewind has begun here; it ends before anything is started".into(),
            },
            _ if holds => Verdict { allowed: true, why: "this node holds the lease".into() },
            Request::MayStart if self.bootstrap && std::fs::remove_file(FIRST_START).is_ok() => {
                Verdict { allowed: true, why: "`cluster up` starts it for the first time".into() }
            }
            _ => Verdict { allowed: false, why: format!("this node does not hold the lease; {}", self.why) },
        }
    }
}

/// Made by `cluster up` just before the first start of a new primary; gone after a boot.
const FIRST_START: &str = "/run/cluster/first-start";

/// Whether PostgreSQL may start on this node now: a standby always, anything else with the lease.
pub async fn start_check(config: &Config) -> Verdict {
    let yes = |why: &str| Verdict { allowed: true, why: why.to_owned() };
    if config.me().witness {
        return yes("this is the witness");
    }
    let standby = Path::new(&config.data_directory()).join("standby.signal").exists();
    if standby && !Path::new(memory::REWINDING).exists() {
        return yes("this is a standby");
    }
    match socket::verdict(&Request::MayStart).await {
        Ok(verdict) => verdict,
        // No guard yet: `cluster up` starts the first primary before it starts the guards.
        Err(_)
            if memory::durable().is_ok_and(|it| it.term == 0)
                && std::fs::remove_file(FIRST_START).is_ok() =>
        {
            yes("`cluster up` starts it for the first time")
        }
        Err(error) => Verdict { allowed: false, why: format!("{error:#}, and only it knows of the lease") },
    }
}
