//! Reconstructs failovers and switchovers from the journals of all nodes. Pure.
//!
//! Every node keeps its own journal, with times of its own clock. They are corrected by what the clocks were found to
//! be apart, merged, and cut into incidents: each ends with a node that was granted the lease.

use std::ops::Range;

use cluster_contract::journal::{Event, Line, LostTransactions};
use cluster_contract::status::{JobKind, Server};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A line of a node's journal, with its times read.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The time, on the node's own clock.
    pub at: Timestamp,
    /// When the condition began, if known.
    pub since: Option<Timestamp>,
    /// The event, for programs.
    pub event: Event,
    /// The event, as text.
    pub text: String,
}

impl Entry {
    /// `None` if its time cannot be parsed.
    fn read(line: Line) -> Option<Entry> {
        let since = line.since.and_then(|since| since.parse().ok());
        Some(Entry { at: line.at.parse().ok()?, since, event: line.event, text: line.text })
    }
}

/// One node's journal.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub node: String,
    /// Milliseconds that its clock is ahead of the reference clock.
    pub ahead: i64,
    pub entries: Vec<Entry>,
}

impl Journal {
    /// Reads a journal. Lines that make no sense are left out: a power cut may have torn one.
    pub fn parse(node: &str, ahead: i64, text: &str) -> Journal {
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        Journal { node: node.to_owned(), ahead, entries: lines.filter_map(Entry::read).collect() }
    }
}

/// An action of the provider's, as its API lists it; its times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Action {
    /// The server's node, or none for the floating IP.
    pub node: Option<String>,
    /// `power_off`, `assign_ip`, …
    pub kind: String,
    /// The start.
    pub started: Timestamp,
    /// The end.
    pub completed: Option<Timestamp>,
}

/// The kind of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first lease of the cluster.
    Beginning,
    /// Another node took over, as requested.
    Switchover,
    /// Another node took over by itself.
    Failover,
    /// A forced promotion.
    Forced,
    /// The same node came back as primary.
    Return,
}

impl Kind {
    /// The kind, as text.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Beginning => "beginning",
            Kind::Switchover => "switchover",
            Kind::Failover => "failover",
            Kind::Forced => "forced failover",
            Kind::Return => "return",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// The time, on the reference clock.
    pub at: Timestamp,
    /// The node; `provider` for the API.
    pub place: String,
    /// The event, as text.
    pub text: String,
    /// The event, for what is told of it; `None` for what no journal has.
    #[serde(skip)]
    event: Option<Event>,
}

/// A part of an incident, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// `detect`, `decide`, …
    pub name: &'static str,
    pub seconds: f64,
}

/// A change of who takes writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// The kind.
    pub kind: Kind,
    /// The previous primary; `None` for the first one.
    pub from: Option<String>,
    /// The new primary.
    pub to: String,
    /// When it began, as far as the nodes know.
    pub began: Timestamp,
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// From its beginning to a node that takes writes; none if that has not come.
    pub writable_after: Option<f64>,
    /// From its beginning to the floating IP's arrival there.
    pub address_after: Option<f64>,
    /// From its beginning to the old primary's return as a standby.
    pub redundant_after: Option<f64>,
    /// Transactions of the old primary that the new one never received.
    pub lost: Option<LostTransactions>,
    /// Everything that happened, in order.
    pub moments: Vec<Moment>,
}

/// The node was seen to take writes.
const TAKES_WRITES: Event = Event::ServerChanged { server: Some(Server::Primary) };

/// An entry on the reference clock.
#[derive(Clone)]
struct Told<'a> {
    at: Timestamp,
    since: Option<Timestamp>,
    node: &'a str,
    entry: &'a Entry,
}

/// Merges the journals, and cuts them into incidents, oldest first.
pub fn incidents(journals: &[Journal], actions: &[Action]) -> Vec<Incident> {
    let mut all: Vec<Told> = Vec::new();
    for journal in journals {
        let ahead = SignedDuration::from_millis(journal.ahead);
        let correct = |at: Timestamp| at.checked_sub(ahead).unwrap_or(at);
        all.extend(journal.entries.iter().map(|entry| Told {
            at: correct(entry.at),
            since: entry.since.map(correct),
            node: &journal.node,
            entry,
        }));
    }
    all.sort_by_key(|told| told.at);
    let grants = grants(&all);
    let mut found = Vec::new();
    let mut holder: Option<&str> = None;
    let mut free = 0;
    for (number, index) in grants.iter().enumerate() {
        let next = grants.get(number + 1).copied();
        let next_of_another =
            grants[number + 1..].iter().copied().find(|it| all[*it].node != all[*index].node);
        if let Some((at, node)) = cannot_tell(&all, journals, free..*index) {
            (holder, free) = (Some(node), at + 1);
        }
        // Where a journal begins in the middle, what happens to the holder says who it is.
        holder = holder.or_else(|| all[free..*index].iter().find_map(names_holder));
        let incident = incident(&all, actions, holder, free..*index, (next, next_of_another));
        holder = Some(all[*index].node);
        free = index + 1;
        found.push(incident);
    }
    found
}

/// Where the lease was granted to a node that went on to take writes. One that lost it again before has changed nothing
/// of who takes writes: what it did belongs to the story of the next.
fn grants(all: &[Told]) -> Vec<usize> {
    let won: Vec<usize> = (0..all.len())
        .filter(|index| {
            matches!(all[*index].entry.event, Event::LeaseWon { .. } | Event::TakenByForce { .. })
        })
        .collect();
    let counts = |(number, index): (usize, &usize)| {
        // The first of all goes to a PostgreSQL that takes writes already.
        let Some(next) = won.get(number + 1).filter(|_| number > 0) else { return true };
        let is_forced = matches!(all[*index].entry.event, Event::TakenByForce { .. });
        is_forced || all[*index..*next].iter().any(|told| told.node == all[*index].node && takes_writes(told))
    };
    won.iter().enumerate().filter(|it| counts(*it)).map(|(_, index)| *index).collect()
}

fn takes_writes(told: &Told) -> bool {
    [TAKES_WRITES, Event::JobDone { job: Some(JobKind::Promote) }].contains(&told.entry.event)
}

/// The last node that was granted the lease and cannot tell of it, because its journal could not be read: an old
/// primary that is still off. And where in all that was.
fn cannot_tell<'a>(all: &[Told<'a>], journals: &[Journal], range: Range<usize>) -> Option<(usize, &'a str)> {
    range.rev().find_map(|index| {
        let Event::Granted { to: Some(node), .. } = &all[index].entry.event else { return None };
        journals.iter().all(|journal| journal.node != *node).then_some((index, node.as_str()))
    })
}

/// Whether an entry says that its node, the holder, is in trouble.
fn is_sign(told: &Told, holder: &str) -> bool {
    match &told.entry.event {
        Event::ServerEnded
        | Event::LeaseExpired { .. }
        | Event::Fenced
        | Event::LeaseReleased { .. }
        | Event::JobBegun { job: Some(JobKind::HandOver) }
        | Event::ServerChanged { server: Some(Server::Down) } => told.node == holder,
        Event::PrimarySilent { about } | Event::HostOff { about } => about.as_deref() == Some(holder),
        _ => false,
    }
}

/// Whether an entry of another node says that the holder is gone. That has ended when the holder is heard of again,
/// which shows when it falls silent once more.
fn says_gone(told: &Told) -> bool {
    matches!(told.entry.event, Event::PrimarySilent { .. } | Event::HostOff { .. })
}

/// The node that held, if an entry can be about nobody else.
fn names_holder<'a>(told: &Told<'a>) -> Option<&'a str> {
    match &told.entry.event {
        Event::LeaseResumed { .. }
        | Event::LeaseExpired { .. }
        | Event::Fenced
        | Event::JobBegun { job: Some(JobKind::HandOver) } => Some(told.node),
        Event::PrimarySilent { about } => about.as_deref(),
        _ => None,
    }
}

/// Whether an entry of another node says that the holder is there after all.
fn hears_of(told: &Told, holder: &str) -> bool {
    matches!(&told.entry.event, Event::PrimaryHeard { about } if about.as_deref() == Some(holder))
}

/// Whether an entry says that the holder is well: what was before is another story.
fn is_well(told: &Told, holder: &str) -> bool {
    told.node == holder && told.entry.event == TAKES_WRITES
}

fn incident(
    all: &[Told],
    actions: &[Action],
    holder: Option<&str>,
    Range { start: free, end: won }: Range<usize>,
    (next, next_of_another): (Option<usize>, Option<usize>),
) -> Incident {
    let to = all[won].node;
    let mut signs: Vec<&Told> = Vec::new();
    for told in &all[free..won] {
        match holder {
            Some(holder) if is_well(told, holder) => signs.clear(),
            Some(holder) if hears_of(told, holder) => signs.retain(|sign| !says_gone(sign)),
            Some(holder) if is_sign(told, holder) => {
                if let Some(since) = told.since {
                    signs.retain(|sign| sign.at > since || !says_gone(sign));
                }
                signs.push(told);
            }
            _ => {}
        }
    }
    let asked = all[free..=won]
        .iter()
        .rev()
        .find(|told| told.node == to && matches!(told.entry.event, Event::LeaseRequested { .. }));
    let planned = signs.iter().any(|told| matches!(told.entry.event, Event::JobBegun { .. }));
    // What is known to have been so since some time began then.
    let begins = |told: &&Told| told.since.unwrap_or(told.at);
    let first = signs.iter().map(begins).min();
    // When a node that is cut off had its lease run out, the cut was before that: when the others last heard of it.
    let began = first.unwrap_or_else(|| asked.map_or(all[won].at, |told| told.at));
    let power =
        actions.iter().filter(|action| action.node.as_deref() == holder && action.kind == "power_off");
    // The provider's times are whole seconds.
    let cut = |at: &Timestamp| at.duration_since(began).abs() < SignedDuration::from_secs(5);
    let power = power.map(|action| action.started).filter(cut);
    let detected = signs.iter().map(|told| told.at).min().unwrap_or(began);
    let last = next.unwrap_or(all.len());
    let after = &all[won..last];
    let begins_here = holder.is_none();
    let of = |node: &str, events: &[Event]| {
        after.iter().find(|told| told.node == node && events.contains(&told.entry.event)).map(|told| told.at)
    };
    let writable = of(to, &[TAKES_WRITES, Event::JobDone { job: Some(JobKind::Promote) }]);
    let address = of(to, &[Event::AddressMoved]);
    let redundant = holder
        .filter(|holder| *holder != to)
        .and_then(|holder| of(holder, &[Event::JobDone { job: Some(JobKind::Rejoin) }]));
    // The old primary may come back only after the new one has taken its own lease up again.
    let until_another = &all[won..next_of_another.unwrap_or(all.len())];
    let lost = until_another.iter().filter(|_| holder != Some(to)).find_map(|told| match &told.entry.event {
        Event::TransactionsLost { lost } => {
            Some(LostTransactions { node: told.node.to_owned(), ..lost.clone() })
        }
        _ => None,
    });
    let seconds = |from: Timestamp, to: Timestamp| {
        from.until(to).map_or(0.0, |span| span.total(jiff::Unit::Second).unwrap_or(0.0)).max(0.0)
    };
    let mut phases = Vec::new();
    let mut part =
        |name, from: Timestamp, to: Timestamp| phases.push(Phase { name, seconds: seconds(from, to) });
    if planned {
        part("stop and hand over", began, all[won].at);
    } else if holder.is_some() && !signs.is_empty() {
        part("detect", began, detected);
        part("decide", detected, all[won].at);
    }
    if let Some(writable) = writable.filter(|_| !begins_here) {
        part(if holder == Some(to) { "start" } else { "promote" }, all[won].at, writable);
        if let Some(address) = address {
            part("move the floating IP", writable.min(address), address);
        }
    }
    let kind = match holder {
        _ if matches!(all[won].entry.event, Event::TakenByForce { .. }) => Kind::Forced,
        None => Kind::Beginning,
        Some(holder) if holder == to => Kind::Return,
        Some(_) if planned => Kind::Switchover,
        Some(_) => Kind::Failover,
    };
    let end = [writable, address, redundant].into_iter().flatten().max().unwrap_or(all[won].at);
    let from_power = power.min();
    let shown = all[free..last].iter().filter(|told| told.at >= detected.min(began) && told.at <= end);
    let mut moments: Vec<Moment> = shown
        .map(|told| Moment {
            at: told.at,
            place: told.node.to_owned(),
            text: without_error_numbers(&told.entry.text),
            event: Some(told.entry.event.clone()),
        })
        .collect();
    let silent = signs.iter().filter_map(|told| match &told.entry.event {
        Event::PrimarySilent { about: Some(name) } if told.since.is_some() => Some((told, name)),
        _ => None,
    });
    if let Some((silent, name)) = silent.min_by_key(|(told, _)| told.since) {
        let text = format!("last message from {name} to {}", silent.node);
        moments.push(Moment { at: begins(silent), place: name.clone(), text, event: None });
    }
    let window = from_power.unwrap_or(began).min(began);
    for action in actions {
        if near(action.started, began) && action.started >= window && action.started <= end {
            moments.extend(told_action(action));
        }
    }
    moments.sort_by_key(|moment| moment.at);
    let since = |at: Option<Timestamp>| at.map(|at| seconds(began, at));
    Incident {
        kind,
        from: holder.map(str::to_owned),
        to: to.to_owned(),
        began,
        phases,
        writable_after: since(writable.filter(|_| !begins_here)),
        address_after: since(address.filter(|_| !begins_here)),
        redundant_after: since(redundant),
        lost,
        moments,
    }
}

/// Whether an action is within ten minutes of the incident; others are unrelated.
fn near(at: Timestamp, began: Timestamp) -> bool {
    at.duration_since(began).abs() < SignedDuration::from_mins(10)
}

fn told_action(action: &Action) -> [Moment; 1] {
    let what = match &action.node {
        Some(node) => format!("{} of {node}", action.kind.replace('_', " ")),
        None if action.kind == "assign_ip" => "move of the floating IP".to_owned(),
        None => format!("{} of the floating IP", action.kind.replace('_', " ")),
    };
    let took = match action.completed {
        Some(completed) => format!(", took {} s", completed.duration_since(action.started).as_secs()),
        None => ", not finished".to_owned(),
    };
    [Moment { at: action.started, place: "provider".into(), text: format!("{what}{took}"), event: None }]
}

/// A text without the numbers that Rust adds to what the system says: `Connection refused (os error 111)`.
fn without_error_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')').filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())) {
            Some((_, rest)) => kept.push_str(rest),
            None => kept.push_str(&format!(" (os error {part}")),
        }
    }
    kept
}

/// A moment, and how often it came again.
struct Repeated<'a> {
    moment: &'a Moment,
    times: usize,
    last: Timestamp,
}

impl Moment {
    fn is_failure(&self) -> bool {
        matches!(
            self.event,
            Some(
                Event::JobFailed { .. }
                    | Event::FenceFailed
                    | Event::Trouble
                    | Event::ServerChanged { server: Some(Server::Down) }
            )
        )
    }

    /// Whether this ends what has failed: the same failure after it is another one.
    fn ends(&self, failure: &Moment) -> bool {
        self.place == failure.place
            && match (&self.event, &failure.event) {
                (Some(Event::JobDone { job }), Some(Event::JobFailed { job: failed })) => job == failed,
                (Some(Event::ServerChanged { server }), Some(Event::ServerChanged { .. })) => {
                    *server != Some(Server::Down)
                }
                _ => false,
            }
    }
}

/// The moments, with the same failure of a node once: the first time. The attempt that failed again goes with it.
fn condensed(moments: &[Moment]) -> Vec<Repeated<'_>> {
    let mut told: Vec<Repeated> = Vec::new();
    for moment in moments {
        let is_same = |it: &Repeated| it.moment.place == moment.place && it.moment.text == moment.text;
        let first = told
            .iter()
            .rposition(is_same)
            .filter(|first| moment.is_failure() && !told[*first..].iter().any(|it| it.moment.ends(moment)));
        let Some(first) = first else {
            told.push(Repeated { moment, times: 1, last: moment.at });
            continue;
        };
        (told[first].times, told[first].last) = (told[first].times + 1, moment.at);
        if let Some(Event::JobFailed { job }) = moment.event {
            let begun = Some(Event::JobBegun { job });
            let is_attempt = |it: &Repeated| it.moment.place == moment.place && it.moment.event == begun;
            if let Some(attempt) = told.iter().rposition(is_attempt).filter(|attempt| *attempt > first) {
                told.remove(attempt);
            }
        }
    }
    told
}

/// An incident as text.
pub fn text(incident: &Incident) -> String {
    let mut text = format!("{}: {}\n", incident.kind.word(), who(incident));
    text.push_str(&format!("began {}\n\n", stamp(incident.began)));
    let widest = incident.moments.iter().map(|moment| moment.place.len()).max().unwrap_or_default();
    let seconds = |at: Timestamp| at.duration_since(incident.began).as_secs_f64();
    for Repeated { moment, times, last } in condensed(&incident.moments) {
        let again = match times {
            1 => String::new(),
            _ => format!(" ({times} times, the last after {:.2} s)", seconds(last)),
        };
        let Moment { at, place, text: what, .. } = moment;
        text.push_str(&format!("{:>8.2} s  {place:<widest$}  {what}{again}\n", seconds(*at)));
    }
    text.push('\n');
    for phase in &incident.phases {
        text.push_str(&format!("{:<20} {:>6.2} s\n", phase.name, phase.seconds));
    }
    let mut told = Vec::new();
    for (seconds, what) in [
        (incident.writable_after, "writes"),
        (incident.address_after, "the floating IP"),
        (incident.redundant_after, "redundancy"),
    ] {
        if let Some(seconds) = seconds {
            told.push(format!("{what} after {seconds:.2} s"));
        }
    }
    if !told.is_empty() {
        text.push_str(&format!("{}\n", told.join(", ")));
    }
    if let Some(lost) = incident.lost.as_ref().filter(|lost| lost.transactions > 0) {
        let count = match lost.transactions {
            1 => "1 transaction".to_owned(),
            more => format!("{more} transactions"),
        };
        text.push_str(&format!(
            "lost: {count}, {} to {} on timeline {}; the WAL is kept on {} in {}\n",
            lost.from, lost.to, lost.timeline, lost.node, lost.wal
        ));
    }
    text
}

/// An incident on one line.
pub fn line(incident: &Incident) -> String {
    let after = match (incident.writable_after, incident.kind) {
        (Some(after), _) => format!("; writes after {after:.2} s"),
        (None, Kind::Beginning) => String::new(),
        (None, _) => "; no writes yet".to_owned(),
    };
    format!("{}  {:<17}  {}{after}", stamp(incident.began), incident.kind.word(), who(incident))
}

fn who(incident: &Incident) -> String {
    match &incident.from {
        Some(from) if *from != incident.to => format!("{from} to {}", incident.to),
        _ => incident.to.clone(),
    }
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%F %TZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_left_out_and_nothing_else() {
        let told = without_error_numbers;
        assert_eq!(told("refused (os error 111); no route (os error 113)!"), "refused; no route!");
        for text in ["", "(os error 1)", "x (os error", "x (os error n) y", "x (os error 1"] {
            assert_eq!(told(text), text);
        }
    }

    #[test]
    fn a_failure_after_a_recovery_is_another_one() {
        let moment = |at: i64, event: Event, text: &str| Moment {
            at: Timestamp::from_second(at).unwrap(),
            place: "pg1".into(),
            text: text.into(),
            event: Some(event),
        };
        let down = |at| moment(at, Event::ServerChanged { server: Some(Server::Down) }, "does not answer");
        let up = moment(3, Event::ServerChanged { server: Some(Server::Standby) }, "is a standby");
        let moments = [down(1), down(2), up, down(4)];
        let told: Vec<(usize, i64)> =
            condensed(&moments).iter().map(|it| (it.times, it.last.as_second())).collect();
        assert_eq!(told, [(2, 2), (1, 3), (1, 4)]);
    }
}
