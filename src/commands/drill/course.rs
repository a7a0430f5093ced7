//! A drill from its first write to its end: clients, the fault, and the waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::damage::Damage;
use super::table::Table;
use crate::drill::lane::{Lanes, Login, Seen, TABLE};
use crate::drill::sample::{Lane, Millis, Outcome, Sample};
use crate::drill::{Fault, Run, Target};
use crate::error::{Advice, Exit, hinted};
use crate::health::health;
use crate::script;
use crate::world::World;

/// How long the clients run before the fault.
const BEFORE: Duration = Duration::from_secs(4);
/// How long the clients run after redundancy is restored.
const AFTER: Duration = Duration::from_secs(2);
/// How long the new primary runs alone before the fault is undone.
const DWELL: Duration = Duration::from_secs(3);
/// How long the drill observes that the address stays put while the API is unreachable.
const API_DWELL: Duration = Duration::from_secs(10);
/// How long a failover is waited for. With what follows it is less than the time after which faults end by themselves.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait for the old primary, which boots, rewinds, and may need a fresh clone.
const REJOIN_PATIENCE: Duration = Duration::from_secs(300);
/// How long to wait after that for metadata, the address and the guards' problems to clear.
const HEALTH_PATIENCE: Duration = Duration::from_secs(90);
/// How long an ordered fault may take to happen after the drill was interrupted.
const ORDER_PATIENCE: Duration = Duration::from_secs(120);
/// If no client has noticed a fault after this long, it had no effect or ended immediately.
const UNNOTICED: Millis = 30_000;
/// Writes count as continuing when none has failed for this long.
const CALM: Millis = 2_000;
/// How long clients may take until all of them work.
const CALM_PATIENCE: Duration = Duration::from_secs(20);
/// How often samples are checked, and how often hosts and the API are.
const LOOK: Duration = Duration::from_millis(100);
const FAR_LOOK: Duration = Duration::from_millis(500);
const API_LOOK: Duration = Duration::from_secs(1);

/// Events observed besides the samples.
#[derive(Clone, Copy, Default)]
struct Moments {
    ordered: Option<Millis>,
    moved: Option<Millis>,
    healed: Option<Millis>,
    redundant: Option<Millis>,
    ended: Millis,
}

pub(super) struct Drill {
    world: Arc<World>,
    fault: Fault,
    pub(super) target: Target,
    pub(super) damage: Damage,
    login: Login,
    seen: Seen,
    moments: Mutex<Moments>,
    /// What was ordered goes on when nobody waits for it any more, and must have ended before it is undone.
    making: TaskTracker,
}

impl Drill {
    pub(super) fn new(world: &Arc<World>, fault: Fault, target: Target) -> Result<Drill> {
        Ok(Drill {
            world: world.clone(),
            fault,
            damage: Damage::new(world, fault, &target),
            login: Login::new(world.inventory.postgresql.port, world.state.password("cluster")?),
            target,
            seen: Seen::default(),
            moments: Mutex::default(),
            making: TaskTracker::new(),
        })
    }

    /// Runs the drill. However it ends, the fault is undone and the table dropped.
    pub(super) async fn run(&self, stop: &CancellationToken) -> Result<Run> {
        let began = jiff::Timestamp::now().strftime("%F %TZ").to_string();
        let course = tokio::select! {
            result = self.course() => result,
            () = stop.cancelled() => Err(self.interrupted()),
        };
        let undone = self.undo().await;
        let rows = match self.table().clear_up().await {
            Ok(rows) => Some(rows),
            Err(error) => {
                let text = format!(
                    "table {TABLE} of database cluster could not be dropped ({error:#}); the next drill drops it"
                );
                self.world.report.warning(text);
                None
            }
        };
        // What could not be undone matters more than why it had to be.
        undone?;
        course?;
        let wrong = self.wait_for_health().await;
        let moments = self.moments();
        Ok(Run {
            cluster: self.world.inventory.cluster.clone(),
            fault: self.fault,
            began,
            primary: self.target.primary.clone(),
            address: self.target.floating_ip.clone().unwrap_or_else(|| "the primary".into()),
            samples: self.seen.look(<[Sample]>::to_vec),
            ordered: moments.ordered.unwrap_or_default(),
            moved: moments.moved,
            healed: moments.healed,
            redundant: moments.redundant,
            ended: moments.ended,
            rows,
            wrong,
        })
    }

    fn interrupted(&self) -> anyhow::Error {
        let text = match self.moments().ordered {
            None => "interrupted before any change was made",
            Some(_) => "interrupted; the fault has been undone",
        };
        Advice::failed(text).hint("check the cluster with `cluster status`").exit(Exit::Interrupted).into()
    }

    fn table(&self) -> Table<'_> {
        Table { login: &self.login, hosts: &self.target.data }
    }

    fn moments(&self) -> Moments {
        *self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Moments, Millis)) {
        note(&mut self.moments.lock().unwrap_or_else(PoisonError::into_inner), self.seen.now());
    }

    fn tell(&self, lane: &str, text: impl Into<String>) {
        self.world.report.progress(lane, text);
    }

    /// From the first write until redundancy is restored; the clients stop at the end.
    async fn course(&self) -> Result<()> {
        self.table().make(&self.target).await?;
        let lanes = Lanes::start(&self.login, &self.ways(), &self.seen);
        let result = self.events().await;
        self.note(|moments, now| moments.ended = now);
        lanes.stop().await;
        result
    }

    async fn events(&self) -> Result<()> {
        let primary = &self.target.primary;
        self.tell(primary, "clients write and read");
        tokio::time::sleep(BEFORE).await;
        self.wait(CALM_PATIENCE, || self.failing().is_none()).await;
        if let Some(words) = self.failing() {
            return Err(Advice::refused(format!("the drill's clients failed before the fault: {words}"))
                .hint("this machine must be able to write through the address and to every data node")
                .into());
        }
        // From here on there is something to undo.
        self.note(|moments, now| moments.ordered = Some(now));
        self.damage.prepare().await?;
        self.tell(primary, self.fault.deed(primary, &self.target.successor));
        self.note(|moments, now| moments.ordered = Some(now));
        // Both end together: what is left running would hold up the end of the program.
        tokio::select! {
            result = self.fault_and_return() => result,
            never = self.watch_address() => match never {},
        }
    }

    /// Injects the fault, undoes it, and waits for redundancy.
    async fn fault_and_return(&self) -> Result<()> {
        let (primary, fault) = (&self.target.primary, self.fault);
        self.failover().await?;
        if fault.remedy(primary).is_some() {
            let dwell = if fault == Fault::ApiOutage { API_DWELL } else { DWELL };
            tokio::time::sleep(dwell).await;
            self.tell(primary, "undoing the fault");
            self.damage.undo().await?;
            self.note(|moments, now| moments.healed = Some(now));
        }
        let by_address = || self.goes_on(|sample| sample.lane == Lane::Address);
        self.wait(FAILOVER_PATIENCE, by_address).await;
        self.tell(primary, "waiting for redundancy");
        self.wait_for_redundancy().await;
        tokio::time::sleep(AFTER).await;
        Ok(())
    }

    /// The hosts of each client.
    fn ways(&self) -> BTreeMap<Lane, Vec<String>> {
        let data = &self.target.data;
        let entry = match &self.target.floating_ip {
            Some(address) => vec![address.clone()],
            None => data.values().cloned().collect(),
        };
        let reader = self.target.reader();
        let nodes = data.iter().map(|(name, address)| (Lane::Node(name.clone()), vec![address.clone()]));
        nodes
            .chain([(Lane::Address, entry), (Lane::Reader(reader.to_owned()), vec![data[reader].clone()])])
            .collect()
    }

    /// What the clients failed at recently, in words; `None` if all of them work.
    fn failing(&self) -> Option<String> {
        let since = self.seen.now().saturating_sub(CALM);
        self.seen.look(|samples| {
            let mut late = samples.iter().filter(|sample| sample.ended > since);
            let wrote = |it: &Sample| it.lane == Lane::Address && it.acknowledged_by().is_some();
            if !late.clone().any(wrote) {
                return Some("no write was acknowledged".to_owned());
            }
            let failure = late.find(|it| it.failed() || it.lane == Lane::Address && !wrote(it))?;
            let way = match &failure.lane {
                Lane::Address => "writes through the address",
                Lane::Node(node) | Lane::Reader(node) => node,
            };
            let why = match &failure.outcome {
                Outcome::Refused(why) => why,
                Outcome::Silent => "no answer",
                _ => "answered by a standby",
            };
            Some(format!("{way}: {why}"))
        })
    }

    /// Injects the fault and waits until writes continue.
    async fn failover(&self) -> Result<()> {
        let (tell, mut told) = oneshot::channel();
        let damage = self.damage.clone();
        self.making.spawn(async move {
            // Whoever waited may have been interrupted.
            let _ = tell.send(damage.make().await);
        });
        let ordered = self.moments().ordered.unwrap_or_default();
        let begun = Instant::now();
        let mut made = false;
        while begun.elapsed() < FAILOVER_PATIENCE {
            match told.try_recv() {
                Ok(result) => (made, _) = (true, result.context("cannot inject the fault")?),
                Err(oneshot::error::TryRecvError::Closed) if !made => {
                    return Err(Advice::failed("the fault was not injected").into());
                }
                Err(_) => {}
            }
            let taken = self.seen.look(|samples| {
                let mut late = samples.iter().filter(|sample| sample.ended > ordered);
                late.any(|it| it.acknowledged_by().is_some_and(|node| node != self.target.primary))
            });
            // While the API is away the address cannot follow.
            let on = match self.fault {
                Fault::ApiOutage => taken,
                _ => self.goes_on(|sample| sample.lane == Lane::Address),
            };
            if made && on && (taken || self.seen.now() > ordered + UNNOTICED) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        // The report says what did not happen.
        Ok(())
    }

    /// Whether writes of this kind have recently succeeded without failures.
    fn goes_on(&self, kind: impl Fn(&Sample) -> bool) -> bool {
        let since = self.seen.now().saturating_sub(CALM);
        self.seen.look(|samples| {
            let late = samples.iter().filter(|sample| kind(sample) && sample.ended > since);
            let good = late.clone().filter(|sample| sample.acknowledged_by().is_some()).count();
            good > 0 && good == late.count()
        })
    }

    async fn wait(&self, patience: Duration, until: impl Fn() -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < patience && !until() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The node that acknowledged a write last.
    fn primary_now(&self) -> String {
        self.seen.look(|samples| {
            let acknowledged = samples.iter().filter(|sample| sample.acknowledged_by().is_some());
            let last = acknowledged.max_by_key(|sample| sample.ended);
            last.and_then(Sample::acknowledged_by).unwrap_or(&self.target.primary).to_owned()
        })
    }

    /// Records when the provider first reports that the address has moved.
    async fn watch_address(&self) -> Infallible {
        let address = self.target.floating_ip.as_ref().and_then(|address| address.parse().ok());
        if let (Some(api), Some(address)) = (&self.world.provider, address) {
            loop {
                // An API that does not answer is asked again.
                let holder = api.address_holder(address).await.ok().flatten();
                if holder.is_some() && holder != self.target.server {
                    self.note(|moments, now| moments.moved = Some(now));
                    break;
                }
                tokio::time::sleep(API_LOOK).await;
            }
        }
        std::future::pending().await
    }

    /// Waits until every other data node streams from the primary.
    async fn wait_for_redundancy(&self) {
        let begun = Instant::now();
        while begun.elapsed() < REJOIN_PATIENCE {
            let primary = self.primary_now();
            let others = self.target.data.keys().filter(|node| **node != primary);
            if let Ok(streams) = self.streaming(&primary).await
                && others.into_iter().all(|node| streams.contains(node))
            {
                self.note(|moments, now| moments.redundant = Some(now));
                return;
            }
            tokio::time::sleep(FAR_LOOK).await;
        }
    }

    /// The standbys that stream from a node.
    async fn streaming(&self, node: &str) -> Result<BTreeSet<String>> {
        let sql = "select application_name from pg_stat_replication where state = 'streaming'";
        let command = script::psql(&self.world.inventory, "who streams", "postgres", sql).limit(10);
        let output = self.world.run(node, &command, &|_| {}).await?;
        Ok(output.stdout.lines().map(str::to_owned).collect())
    }

    /// Undoes the fault unless that was done already, for instance after an interruption.
    async fn undo(&self) -> Result<()> {
        let moments = self.moments();
        if moments.ordered.is_none() || moments.healed.is_some() {
            return Ok(());
        }
        self.making.close();
        if tokio::time::timeout(ORDER_PATIENCE, self.making.wait()).await.is_err() {
            self.world.report.warning("the fault was ordered, and the command has not returned");
        }
        let undone = self.damage.undo().await;
        undone.map_err(|error| {
            let hint = match self.fault {
                Fault::PowerOff => "`cluster up` powers the droplet on",
                _ => "the fault ends by itself within minutes; check the cluster with `cluster status`",
            };
            hinted(error.context("cannot undo everything"), hint)
        })
    }

    /// Waits until `cluster status` reports no problem; returns the remaining problems.
    async fn wait_for_health(&self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let problems = match self.world.observe().await {
                Ok(facts) => {
                    health(&self.world.inventory, &facts, &self.world.public_addresses(&facts)).problems
                }
                Err(error) => vec![format!("{error:#}")],
            };
            if problems.is_empty() || begun.elapsed() > HEALTH_PATIENCE {
                return problems;
            }
            tokio::time::sleep(FAR_LOOK).await;
        }
    }
}
