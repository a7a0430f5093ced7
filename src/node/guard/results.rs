//! What comes back from work beside the loop.

use anyhow::Result;
use tokio::time::Instant;

use super::{CALM, Done, Guard, LOOK, RETRY, TROUBLED, UNFIT, YIELD};
use crate::node::decision::Job;
use crate::node::postgres::State;
use crate::node::{clock, memory};

impl Guard {
    pub(super) async fn finished(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Look(look) => {
                self.looking = false;
                if look.began < self.stale_before {
                    self.look_again();
                    return Ok(());
                }
                self.next_look = Instant::now() + LOOK;
                let before = self.look.as_ref().map(|look| std::mem::discriminant(&look.state));
                if before != Some(std::mem::discriminant(&look.state)) {
                    let text = match &look.state {
                        State::Primary => "PostgreSQL takes writes".to_owned(),
                        State::Standby { .. } => "PostgreSQL is a standby".to_owned(),
                        State::Silent(why) => format!("PostgreSQL does not answer: {why}"),
                    };
                    memory::note("postgresql", &text);
                }
                if look.state == State::Primary && self.restart_ended {
                    // It is through: what ends from here on has failed.
                    self.restarting_until = 0;
                }
                if look.state == State::Primary && self.job.is_none() {
                    // It was to have the term after a stop that has not ended in a release.
                    self.heir = None;
                }
                self.look = Some(look);
                self.tick().await?;
            }
            // It was given up for another, and had just ended.
            Done::Job(job, _) if self.job != Some(job) => {}
            Done::Job(job, result) => {
                // What was seen before it ended says nothing about now.
                (self.job, self.look, self.stopped, self.stale_before) = (None, None, None, clock::now());
                let now = clock::now();
                match result {
                    Ok(text) => {
                        memory::note("done", &text);
                        self.last = text;
                        self.trouble = None;
                        if job == Job::Rejoin {
                            // Whatever failed here before, this is a sound standby now.
                            (self.unfit_until, self.retry_at) = (0, 0);
                            // Not before: until then it must not count as data that might lead.
                            memory::give_up_data()?;
                        }
                        if job == Job::HandOver {
                            // The heir has the time of a lease; this node must not want it back at once.
                            self.unfit_until = now + 2 * YIELD;
                        }
                    }
                    Err(error) => {
                        let text = format!("{job:?} failed: {error:#}");
                        memory::note("failed", &text);
                        self.trouble = Some(text);
                        self.heir = None;
                        match job {
                            // It starts again here, with the lease that it still has.
                            Job::HandOver => {}
                            Job::Rejoin => self.retry_at = now + RETRY,
                            Job::Start | Job::Promote => {
                                (self.unfit_until, self.retry_at) = (now + UNFIT, now + RETRY)
                            }
                        }
                    }
                }
                self.next_look = Instant::now();
                self.tick().await?;
            }
            Done::Address(result) => {
                self.moving = None;
                self.next_address =
                    Instant::now() + if matches!(result, Ok(false)) { CALM } else { TROUBLED };
                match result {
                    Ok(moved) => {
                        if moved {
                            memory::note("address", "the floating IP leads here now");
                        }
                        (self.has_address, self.trouble) = (Some(true), None);
                    }
                    Err(error) => {
                        let text = format!("floating IP: {error}");
                        if self.trouble.as_ref() != Some(&text) {
                            memory::note("trouble", &text);
                        }
                        (self.has_address, self.trouble) = (Some(false), Some(text));
                    }
                }
            }
            Done::Off(node, asked_at, answer) => {
                self.inquiring = false;
                match answer {
                    Ok(true) => {
                        let output = self.lease.off(clock::now(), node, asked_at);
                        if output.persist.is_some() {
                            memory::note(
                                "off",
                                &format!("the provider says that {} is off", self.name(node)),
                            );
                        }
                        self.put(output).await?;
                    }
                    Ok(false) => {}
                    // The lease runs out without it.
                    Err(error) => eprintln!("asking whether {} is off: {error:#}", self.name(node)),
                }
            }
            Done::Mend(result) => {
                self.mending = false;
                let trouble = result.err().map(|error| format!("repmgr's records: {error:#}"));
                if let Some(text) = trouble.as_ref().filter(|_| trouble != self.unmended) {
                    eprintln!("{text}");
                }
                self.unmended = trouble;
            }
        }
        Ok(())
    }
}
