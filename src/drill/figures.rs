//! Computes the figures of a drill from what clients saw. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Fault;
use super::report::{Event, Reads, Report, SPLIT_BRAIN, Seconds, Stretch, Strip, Writes};
use super::sample::{Lane, Millis, Outcome, Sample, spans};

/// The order is shown as a separate event if it precedes the cut by more than this.
const WORTH_TELLING: Millis = 300;

/// Reads on the node that takes over go on; a machine may be busy for a moment. In seconds.
const READS_GO_ON: f64 = 10.0;

/// Everything that a drill recorded.
#[derive(Clone, Debug)]
pub struct Run {
    pub cluster: String,
    pub fault: Fault,
    /// The start time, as text.
    pub began: String,
    /// The node that took writes before.
    pub primary: String,
    /// Where applications write.
    pub address: String,
    /// What the clients saw.
    pub samples: Vec<Sample>,
    /// When the fault was ordered.
    pub ordered: Millis,
    /// When the provider first reported the floating IP on another node.
    pub moved: Option<Millis>,
    /// When the fault was undone.
    pub healed: Option<Millis>,
    /// When every other data node streamed from the primary again.
    pub redundant: Option<Millis>,
    /// When the clients stopped.
    pub ended: Millis,
    /// The numbers of the rows that the primary has at the end; none if it could not be asked.
    pub rows: Option<BTreeSet<u64>>,
    /// Problems that `cluster status` reports at the end.
    pub wrong: Vec<String>,
}

/// Acknowledged writes, each with the node and the timeline.
struct Acknowledged<'a> {
    sample: &'a Sample,
    node: &'a str,
    timeline: Option<u32>,
}

impl Run {
    fn acknowledged(&self) -> Vec<Acknowledged<'_>> {
        let mut list: Vec<_> = self
            .samples
            .iter()
            .filter_map(|sample| match &sample.outcome {
                Outcome::Done { node, timeline } if sample.lane.writes() => {
                    Some(Acknowledged { sample, node, timeline: *timeline })
                }
                _ => None,
            })
            .collect();
        list.sort_by_key(|it| (it.sample.ended, it.sample.number));
        list
    }

    /// The cut: the last write that the old primary acknowledged before another node took over, or before the first
    /// attempt that failed if none did. Never before it was asked for.
    fn cut(&self, acknowledged: &[Acknowledged<'_>]) -> Cut {
        let old = |it: &&Acknowledged<'_>| it.node == self.primary;
        let last = |list: &mut dyn Iterator<Item = &Acknowledged<'_>>| {
            list.map(|it| it.sample.ended).max().unwrap_or(0).max(self.ordered)
        };
        let successor =
            acknowledged.iter().find(|it| it.node != self.primary && it.sample.ended >= self.ordered);
        if let Some(successor) = successor {
            let before = |it: &&Acknowledged<'_>| old(it) && it.sample.ended <= successor.sample.ended;
            let at = last(&mut acknowledged.iter().filter(before));
            return Cut { at, noticed: true, new_primary: Some(successor.node.to_owned()) };
        }
        let failed = self
            .samples
            .iter()
            .filter(|sample| sample.failed() && sample.began >= self.ordered && sample.lane.writes())
            .filter(|sample| sample.lane == Lane::Address || sample.lane == Lane::Node(self.primary.clone()))
            .map(|sample| sample.began)
            .min();
        let Some(failed) = failed else {
            return Cut { at: self.ordered, noticed: false, new_primary: Some(self.primary.clone()) };
        };
        let at = last(&mut acknowledged.iter().filter(|it| old(it) && it.sample.began < failed));
        let again = acknowledged.iter().any(|it| it.sample.began > failed);
        Cut { at, noticed: true, new_primary: again.then(|| self.primary.clone()) }
    }

    /// The first acknowledged write of the time after the cut, by any way or by the address.
    fn first(&self, acknowledged: &[Acknowledged<'_>], cut: &Cut, address: bool) -> Option<Millis> {
        let node = cut.new_primary.as_deref().filter(|_| cut.noticed)?;
        let after = |it: &&Acknowledged<'_>| {
            it.node == node
                && it.sample.ended > cut.at
                // What was on its way when the same node broke off says nothing of its return.
                && (node != self.primary || it.sample.began > cut.at)
        };
        acknowledged
            .iter()
            .filter(after)
            .find(|it| !address || it.sample.lane == Lane::Address)
            .map(|it| it.sample.ended)
    }

    /// Writes by two primaries at the same time, in words. A timeline ends where the next begins: a write on an older
    /// one that began after a write on a newer one was acknowledged, or two nodes on one, prove it.
    fn split_brain(&self, acknowledged: &[Acknowledged<'_>]) -> Vec<String> {
        let mut nodes: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for it in acknowledged {
            if let Some(timeline) = it.timeline {
                nodes.entry(timeline).or_default().insert(it.node);
            }
        }
        let mut proofs: Vec<String> = nodes
            .iter()
            .filter(|(_, nodes)| nodes.len() > 1)
            .map(|(timeline, nodes)| {
                let nodes: Vec<&str> = nodes.iter().copied().collect();
                format!("{} both took writes on timeline {timeline}", nodes.join(" and "))
            })
            .collect();
        for (timeline, old) in &nodes {
            let newer = acknowledged.iter().filter(|it| it.timeline.is_some_and(|it| it > *timeline));
            let Some(first) = newer.min_by_key(|it| it.sample.ended) else { continue };
            let late = acknowledged
                .iter()
                .filter(|it| it.timeline == Some(*timeline) && it.sample.began > first.sample.ended)
                .count();
            if late > 0 {
                let old: Vec<&str> = old.iter().copied().collect();
                let old = old.join(" and ");
                proofs.push(format!("{old} took {late} writes after {} had taken its first", first.node));
            }
        }
        proofs
    }

    fn writes(&self, lane: &Lane) -> Writes {
        let own: Vec<&Sample> = self.samples.iter().filter(|sample| sample.lane == *lane).collect();
        let count = |test: &dyn Fn(&Sample) -> bool| own.iter().filter(|sample| test(sample)).count();
        let acknowledged = |sample: &Sample| sample.acknowledged_by().is_some();
        let there = |sample: &Sample| self.rows.as_ref().map(|rows| rows.contains(&sample.number));
        let mut lost_numbers: Vec<u64> = own
            .iter()
            .filter(|sample| acknowledged(sample) && there(sample) == Some(false))
            .map(|sample| sample.number)
            .collect();
        lost_numbers.sort_unstable();
        Writes {
            attempted: own.len(),
            acknowledged: count(&acknowledged),
            refused: count(&|it| matches!(it.outcome, Outcome::Refused(_))),
            standby: count(&|it| it.outcome == Outcome::Standby),
            unanswered: count(&|it| it.outcome == Outcome::Silent),
            unacknowledged_kept: self
                .rows
                .as_ref()
                .map(|_| count(&|it| !acknowledged(it) && there(it) == Some(true))),
            lost: self.rows.as_ref().map(|_| lost_numbers.len()),
            lost_numbers,
        }
    }

    /// How many writes are lost that another node than the old primary had acknowledged.
    fn lost_of_others(&self) -> usize {
        let Some(rows) = &self.rows else { return 0 };
        let of_others = |it: &&Sample| it.acknowledged_by().is_some_and(|node| node != self.primary);
        let writes = self.samples.iter().filter(|sample| sample.lane.writes());
        writes.filter(of_others).filter(|sample| !rows.contains(&sample.number)).count()
    }

    /// The longest time between two successes of a lane, the last of which must not be long before the end.
    fn longest_gap(&self, lane: &Lane) -> f64 {
        let own = self.samples.iter().filter(|sample| sample.lane == *lane);
        let done = own.filter(|sample| matches!(sample.outcome, Outcome::Done { .. }));
        let mut moments: Vec<Millis> = done.map(|sample| sample.ended).collect();
        let last = moments.iter().copied().max().unwrap_or(0);
        moments.push(self.ended.max(last));
        moments.sort_unstable();
        moments.windows(2).map(|pair| seconds(pair[1] - pair[0])).fold(0.0, f64::max)
    }

    /// The result.
    pub fn report(&self) -> Report {
        let acknowledged = self.acknowledged();
        let cut = self.cut(&acknowledged);
        let writable = self.first(&acknowledged, &cut, false);
        let address = self.first(&acknowledged, &cut, true);
        let since = |at: Option<Millis>| at.map(|at| span(cut.at, at));
        let lanes: BTreeSet<Lane> = self.samples.iter().map(|sample| sample.lane.clone()).collect();
        let mut report = Report {
            cluster: self.cluster.clone(),
            fault: self.fault,
            began: self.began.clone(),
            address: self.address.clone(),
            old_primary: self.primary.clone(),
            new_primary: cut.new_primary.clone(),
            passed: false,
            problems: self.split_brain(&acknowledged),
            notes: Vec::new(),
            seconds: Seconds {
                order_to_cut: span(self.ordered, cut.at),
                cut_to_writable: since(writable),
                cut_to_address: since(address),
                cut_to_put_back: since(self.healed),
                cut_to_redundancy: since(self.redundant),
                longest_write_gap: self.longest_gap(&Lane::Address),
            },
            writes: self.writes(&Lane::Address),
            direct: BTreeMap::new(),
            reads: Reads::default(),
            events: self.events(&cut, writable, address),
            lanes: lanes.iter().map(|lane| self.strip(lane, cut.at)).collect(),
        };
        for proof in &mut report.problems {
            *proof = format!("{SPLIT_BRAIN}: {proof}");
        }
        for lane in &lanes {
            match lane {
                Lane::Node(node) => drop(report.direct.insert(node.clone(), self.writes(lane))),
                Lane::Reader(node) => {
                    let own = self.samples.iter().filter(|sample| sample.lane == *lane);
                    report.reads = Reads {
                        node: node.clone(),
                        attempted: own.clone().count(),
                        answered: own.filter(|it| matches!(it.outcome, Outcome::Done { .. })).count(),
                        longest_gap: self.longest_gap(lane),
                    };
                }
                Lane::Address => {}
            }
        }
        self.judge(&mut report, &cut);
        report.passed = report.problems.is_empty();
        report
    }

    /// Adds broken promises and notes to the report.
    fn judge(&self, report: &mut Report, cut: &Cut) {
        let (problems, notes) = (&mut report.problems, &mut report.notes);
        if !cut.noticed {
            problems.push(
                "no client noticed the fault: it did not take effect, and the drill proves nothing".into(),
            );
        } else if report.seconds.cut_to_writable.is_none() {
            problems.push("no node took writes again during the drill".into());
        } else if let (Some(writable), Some(healed)) =
            (report.seconds.cut_to_writable, report.seconds.cut_to_put_back)
            && writable >= healed
        {
            problems.push(format!(
                "no node took over: writes went on only once the fault was undone, after {healed} s"
            ));
        } else if report.seconds.cut_to_address.is_none() {
            problems.push(format!("no write through {} succeeded again during the drill", self.address));
        }
        let all = || std::iter::once(&report.writes).chain(report.direct.values());
        let lost = all().map(|writes| writes.lost).sum::<Option<usize>>();
        // What was lost with the old primary, its standby may not have had. What another node took later is another matter.
        let of_others = self.lost_of_others();
        if of_others > 0 {
            problems.push(format!(
                "lost acknowledged writes: {of_others} that another node than {} had taken",
                self.primary
            ));
        }
        match lost.map(|lost| lost - of_others) {
            None => problems.push("the rows could not be counted at the end: it is unknown whether any was lost".into()),
            Some(0) => {}
            Some(lost) if self.fault.may_lose() => notes.push(format!(
                "acknowledged writes that had not reached the standby when {} was lost: {lost} (replication is asynchronous)",
                self.primary
            )),
            Some(lost) => problems.push(format!("lost acknowledged writes: {lost}; a planned switchover must lose none")),
        }
        let reads = &report.reads;
        if reads.longest_gap > READS_GO_ON {
            problems.push(format!(
                "reads on {} had no answer for {:.1} s, though nothing was done to it",
                reads.node, reads.longest_gap
            ));
        }
        if self.redundant.is_none() {
            problems.push("no standby streamed again during the drill".into());
        }
        problems.extend(self.wrong.iter().cloned());
        if self.fault == Fault::ApiOutage
            && let (Some(address), Some(healed)) =
                (report.seconds.cut_to_address, report.seconds.cut_to_put_back)
            && address < healed
        {
            problems.push(
                "the address moved although the nodes' access to the API was cut: a node has another route to it, and the drill \
                 proves nothing of an API that is away"
                    .into(),
            );
        }
        if let Some(new) = report.new_primary.as_ref().filter(|new| **new != self.primary) {
            notes.push(format!(
                "{new} remains primary; to move it back, run `cluster switchover {}`",
                self.primary
            ));
        }
    }

    fn events(&self, cut: &Cut, writable: Option<Millis>, address: Option<Millis>) -> Vec<Event> {
        let new = cut.new_primary.as_deref().unwrap_or("nobody");
        let event = |at: Millis, what, text: String| Event { at: span(cut.at, at), what, text };
        let mut events = Vec::new();
        if cut.noticed {
            let text = match self.fault {
                Fault::Switchover => format!("last write on {}", self.primary),
                _ => format!("{} is lost", self.primary),
            };
            events.push((cut.at, 1, event(cut.at, "cut", text)));
        }
        if !cut.noticed || cut.at >= self.ordered + WORTH_TELLING {
            events.push((self.ordered, 0, event(self.ordered, "ordered", self.fault.word().to_owned())));
        }
        // Mostly the address leads there a moment before the API says so, which is then no news.
        let moved = self.moved.filter(|moved| address.is_none_or(|address| moved.abs_diff(address) > 1_000));
        let later = [
            (writable, "writable", format!("{new} takes writes")),
            (moved, "moved", format!("the API shows the address on {new}")),
            (address, "address", "first write through the address".to_owned()),
            (self.healed, "put-back", self.fault.remedy(&self.primary).unwrap_or_default()),
            (self.redundant, "redundant", "redundancy is restored".to_owned()),
        ];
        for (order, (at, what, text)) in later.into_iter().enumerate() {
            if let Some(at) = at {
                events.push((at, order + 2, event(at, what, text)));
            }
        }
        events.sort_by_key(|(at, order, _)| (*at, *order));
        events.into_iter().map(|(_, _, event)| event).collect()
    }

    fn strip(&self, lane: &Lane, cut: Millis) -> Strip {
        let (kind, name) = match lane {
            Lane::Address => ("address", self.address.clone()),
            Lane::Node(node) => ("node", node.clone()),
            Lane::Reader(node) => ("reads", node.clone()),
        };
        let stretches = spans(&self.samples, lane, self.ended).into_iter().map(|it| Stretch {
            from: span(cut, it.from),
            to: span(cut, it.to),
            what: it.what,
            node: it.node,
        });
        Strip { kind, name, spans: stretches.collect() }
    }
}

/// The end of the old primary, and the node that took over.
struct Cut {
    at: Millis,
    /// Whether any client noticed.
    noticed: bool,
    new_primary: Option<String>,
}

fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1000.0
}

/// From one moment to another, in seconds: negative if it is earlier.
fn span(from: Millis, to: Millis) -> f64 {
    if to >= from { seconds(to - from) } else { -seconds(from - to) }
}
