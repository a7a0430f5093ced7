//! What the cloud knows, and how it changes as time passes.
//!
//! Everything here is a function of the state, the request and the time given. It is saved after every change
//! and can be taken up again by another process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::spaces_fault::SpacesFaults;
use super::spaces_keys::SpacesKey;
use super::wire::Millis;
use super::work::{Job, Task};
use crate::machine::MachineSpec;

/// The whole of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Droplets by id.
    pub droplets: BTreeMap<u64, Droplet>,
    /// Reserved IPs.
    pub addresses: BTreeMap<Ipv4Addr, Address>,
    /// SSH keys by id.
    pub keys: BTreeMap<u64, Key>,
    /// Keys to Spaces, by what requests name.
    #[serde(default)]
    pub spaces_keys: BTreeMap<String, SpacesKey>,
    /// The faults of Spaces in force.
    #[serde(default)]
    pub spaces_faults: SpacesFaults,
    /// Tags, those on nothing included.
    pub tags: BTreeSet<String>,
    /// Actions by id, finished ones included.
    pub actions: BTreeMap<u64, Action>,
    /// The last droplet id given out.
    pub last_droplet: u64,
    /// The last action id given out.
    pub last_action: u64,
    /// The last key id given out.
    pub last_key: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            droplets: BTreeMap::new(),
            addresses: BTreeMap::new(),
            keys: BTreeMap::new(),
            spaces_keys: BTreeMap::new(),
            spaces_faults: SpacesFaults::default(),
            tags: BTreeSet::new(),
            actions: BTreeMap::new(),
            last_droplet: 400_000_000,
            // Beyond 32 bits with a sign, like the real ones.
            last_action: 2_200_000_000,
            last_key: 40_000_000,
        }
    }
}

/// A droplet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Droplet {
    /// What its machine is made from: id, name, image, addresses and the rest.
    pub spec: MachineSpec,
    /// Size slug.
    pub size: String,
    /// Its disk in GiB, where that is not what its size has: a resize left it alone.
    #[serde(default)]
    pub disk: Option<u64>,
    /// UUID of its private network.
    pub vpc: String,
    /// Tags.
    pub tags: BTreeSet<String>,
    /// Power state.
    pub power: Power,
    /// When it was asked for.
    pub created: Millis,
    /// When it can be read by its id.
    pub readable: Millis,
    /// When lists have it.
    pub listed: Millis,
    /// When its addresses show; `None` until it is active.
    pub networks: Option<Millis>,
}

/// A droplet's power state, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// Not made yet, or never.
    New,
    /// On.
    Active,
    /// Off.
    Off,
}

/// A reserved IP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// Region slug.
    pub region: String,
    /// The droplet that has it.
    pub holder: Option<u64>,
    /// When it can be read by itself.
    pub readable: Millis,
    /// When lists have it.
    pub listed: Millis,
    /// Whether it is to be released once it is unassigned; for how long it then stays readable.
    pub release: Option<u64>,
    /// When it is gone.
    pub gone: Option<Millis>,
}

/// An SSH key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Number.
    pub id: u64,
    /// Name.
    pub name: String,
    /// OpenSSH line.
    pub public_key: String,
    /// MD5, colon-separated hex.
    pub fingerprint: String,
}

/// What an action does, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Make a droplet.
    Create,
    /// Boot it.
    PowerOn,
    /// Pull its plug.
    PowerOff,
    /// Ask it to shut down.
    Shutdown,
    /// Shut down and boot.
    Reboot,
    /// Pull the plug and boot.
    PowerCycle,
    /// Give it another size.
    Resize,
    /// Give it another name.
    Rename,
    /// Delete it.
    Destroy,
    /// Move an address to a droplet.
    AssignIp,
    /// Take an address off its droplet.
    UnassignIp,
}

/// How far an action's work on the machines is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Not begun.
    Waiting,
    /// Under way in this process.
    Running,
    /// Done; the action may still have time to pass.
    Done,
}

/// How an action stands, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Under way.
    InProgress,
    /// Ended well.
    Completed,
    /// Ended badly.
    Errored,
}

/// What an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A droplet.
    Droplet(u64),
    /// An address.
    Address(Ipv4Addr),
}

/// Something that takes time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Action {
    /// Number.
    pub id: u64,
    /// What it does.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// The droplet that an address is on its way to.
    pub target: Option<u64>,
    /// What a droplet is to become.
    #[serde(default)]
    pub wish: Option<Wish>,
    /// Region slug.
    pub region: String,
    /// How it stands.
    pub status: Status,
    /// How far its work is.
    pub stage: Stage,
    /// When it began.
    pub started: Millis,
    /// Not over before this.
    pub due: Millis,
    /// For a create: how long after the end the addresses show.
    pub network: u64,
    /// When it ended.
    pub ended: Option<Millis>,
    /// Whether it will end badly when its time has come, and no machine is made.
    #[serde(default)]
    pub will_fail: bool,
    /// Why it ended badly. The API does not tell; the lab does, in `cluster lab status`.
    #[serde(default)]
    pub why: Option<String>,
}

/// What an action makes of a droplet, other than on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Of this size, and with a disk of so many GiB.
    Size(String, u64),
    /// Of this name.
    Name(String),
}

impl Action {
    fn is_open(&self) -> bool {
        self.status == Status::InProgress
    }

    fn moves_address(&self) -> bool {
        matches!(self.kind, Kind::AssignIp | Kind::UnassignIp)
    }
}

impl State {
    /// The action under way on something, which keeps others out.
    pub fn pending(&self, subject: Subject) -> Option<&Action> {
        self.actions.values().rev().find(|action| action.subject == subject && action.is_open())
    }

    /// Begins an action that lasts at least `takes` milliseconds, and returns its id.
    pub fn begin(
        &mut self,
        kind: Kind,
        subject: Subject,
        target: Option<u64>,
        now: Millis,
        takes: u64,
    ) -> u64 {
        self.last_action += 1;
        let region = match subject {
            Subject::Droplet(id) => self.droplets.get(&id).map(|droplet| droplet.spec.region.clone()),
            Subject::Address(ip) => self.addresses.get(&ip).map(|address| address.region.clone()),
        };
        let action = Action {
            id: self.last_action,
            kind,
            subject,
            target,
            wish: None,
            region: region.unwrap_or_default(),
            status: Status::InProgress,
            stage: Stage::Waiting,
            started: now,
            due: now.saturating_add_unsigned(takes),
            network: 0,
            ended: None,
            will_fail: false,
            why: None,
        };
        self.actions.insert(action.id, action);
        self.last_action
    }

    /// Lets time pass until `now`: ends what is due and returns the work that is to begin. Machines are set to
    /// work at once, addresses when their time has come.
    pub fn advance(&mut self, now: Millis) -> Vec<Job> {
        let open: Vec<u64> =
            self.actions.values().filter(|action| action.is_open()).map(|action| action.id).collect();
        let mut jobs = Vec::new();
        for id in open {
            let Some(action) = self.actions.get(&id).cloned() else { continue };
            let due = action.due <= now;
            match action.stage {
                Stage::Waiting if action.will_fail && due => self.fail(id, "a fault was ordered", now),
                Stage::Waiting if action.will_fail => {}
                Stage::Waiting if due || !action.moves_address() => match self.task(&action) {
                    Some(task) => {
                        self.set_stage(id, Stage::Running);
                        jobs.push(Job { action: id, task });
                    }
                    None => self.end(id, Status::Errored, now),
                },
                Stage::Done if due => {
                    self.complete(&action, now);
                    // An address may have led there, and the anchor address will be given out again.
                    if action.kind == Kind::Destroy {
                        jobs.push(Job { action: Job::NOBODYS, task: Task::Route });
                    }
                }
                _ => {}
            }
        }
        self.addresses.retain(|_, address| address.gone.is_none_or(|gone| gone > now));
        jobs
    }

    /// When [`State::advance`] has something to do next.
    pub fn next_due(&self) -> Option<Millis> {
        let actions =
            self.actions.values().filter(|action| action.is_open() && action.stage != Stage::Running);
        actions
            .map(|action| action.due)
            .chain(self.addresses.values().filter_map(|address| address.gone))
            .min()
    }

    /// The work of an action, if what it is about still exists.
    fn task(&self, action: &Action) -> Option<Task> {
        let (id, spec) = match action.subject {
            Subject::Droplet(id) => (id, self.droplets.get(&id)?.spec.clone()),
            Subject::Address(ip) => {
                self.addresses.get(&ip)?;
                return action.target.is_none_or(|id| self.droplets.contains_key(&id)).then_some(Task::Route);
            }
        };
        Some(match action.kind {
            Kind::Create => Task::Create(spec),
            Kind::PowerOn => Task::PowerOn(spec),
            Kind::PowerOff => Task::PowerOff(id),
            Kind::Shutdown => Task::Shutdown(id),
            Kind::Reboot => Task::Reboot(spec),
            Kind::PowerCycle => Task::PowerCycle(spec),
            Kind::Destroy => Task::Destroy(id),
            Kind::Resize | Kind::Rename => Task::Nothing,
            Kind::AssignIp | Kind::UnassignIp => Task::Route,
        })
    }

    /// Takes note that an action's work has ended. [`State::advance`] does the rest.
    pub fn worked(&mut self, action: u64, result: Result<(), String>, now: Millis) {
        match result {
            Ok(()) => self.set_stage(action, Stage::Done),
            Err(why) => self.fail(action, &why, now),
        }
    }

    fn fail(&mut self, action: u64, why: &str, now: Millis) {
        self.end(action, Status::Errored, now);
        if let Some(action) = self.actions.get_mut(&action) {
            action.why = Some(why.to_owned());
        }
    }

    /// Lets the creates that began after an action come to nothing.
    pub fn fail_creates(&mut self, after: u64) {
        for (_, action) in self.actions.range_mut(after + 1..) {
            action.will_fail = action.kind == Kind::Create;
        }
    }

    /// A tag as it is spelled: the spelling that made it counts, whatever the case.
    pub fn spelled(&self, tag: &str) -> String {
        self.tags.iter().find(|known| known.eq_ignore_ascii_case(tag)).map_or(tag, String::as_str).to_owned()
    }

    /// Why a droplet could not be made, if it could not.
    pub fn creation_failed(&self, droplet: u64) -> Option<&str> {
        let create = |action: &&Action| {
            action.kind == Kind::Create
                && action.subject == Subject::Droplet(droplet)
                && action.status == Status::Errored
        };
        self.actions.values().find(create).map(|action| action.why.as_deref().unwrap_or("nobody knows why"))
    }

    fn set_stage(&mut self, action: u64, stage: Stage) {
        if let Some(action) = self.actions.get_mut(&action) {
            action.stage = stage;
        }
    }

    fn end(&mut self, action: u64, status: Status, now: Millis) {
        if let Some(action) = self.actions.get_mut(&action) {
            action.status = status;
            action.ended = Some(now);
        }
    }

    /// Ends an action well: what it was for becomes true.
    fn complete(&mut self, action: &Action, now: Millis) {
        match action.subject {
            Subject::Droplet(id) if action.kind == Kind::Destroy => {
                self.droplets.remove(&id);
                // The addresses stay, unassigned, and are billed.
                for address in self.addresses.values_mut().filter(|address| address.holder == Some(id)) {
                    address.holder = None;
                }
            }
            Subject::Droplet(id) => {
                if let Some(droplet) = self.droplets.get_mut(&id) {
                    match &action.wish {
                        Some(Wish::Size(size, disk)) => {
                            (droplet.size, droplet.disk) = (size.clone(), Some(*disk));
                        }
                        Some(Wish::Name(name)) => droplet.spec.name.clone_from(name),
                        None => {
                            droplet.power = match action.kind {
                                Kind::PowerOff | Kind::Shutdown => Power::Off,
                                _ => Power::Active,
                            };
                        }
                    }
                    droplet.networks.get_or_insert(now.saturating_add_unsigned(action.network));
                }
            }
            Subject::Address(ip) => {
                if let Some(address) = self.addresses.get_mut(&ip) {
                    address.holder = action.target;
                    if let (None, Some(release)) = (action.target, address.release) {
                        address.gone = Some(now.saturating_add_unsigned(release));
                    }
                }
            }
        }
        self.end(action.id, Status::Completed, now);
    }

    /// Where each floating IP leads, moves that are being carried out included.
    pub fn routes(&self) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
        let mut holders: BTreeMap<Ipv4Addr, Option<u64>> =
            self.addresses.values().map(|address| (address.ip, address.holder)).collect();
        for action in
            self.actions.values().filter(|action| action.is_open() && action.stage != Stage::Waiting)
        {
            match action.subject {
                Subject::Address(ip) => holders.insert(ip, action.target),
                Subject::Droplet(_) => None,
            };
        }
        let anchor = |id: u64| Some(self.droplets.get(&id)?.spec.anchor_ip);
        holders.into_iter().filter_map(|(ip, holder)| Some((ip, anchor(holder?)?))).collect()
    }

    /// Prepares a loaded state for this process: work that an earlier one had begun is begun again.
    pub fn resume(&mut self) {
        for action in
            self.actions.values_mut().filter(|action| action.is_open() && action.stage == Stage::Running)
        {
            action.stage = Stage::Waiting;
        }
    }

    /// Droplets whose power nobody is changing, with the last action there was when this was asked: see
    /// [`State::found`].
    pub fn idle(&self) -> Vec<u64> {
        let idle = |id: &u64| self.pending(Subject::Droplet(*id)).is_none();
        let made = self.droplets.values().filter(|droplet| droplet.power != Power::New);
        made.map(|droplet| droplet.spec.id).filter(idle).collect()
    }

    /// Takes note of whether a machine runs, unless an action on it has begun since `as_of` (an action id).
    pub fn found(&mut self, id: u64, running: bool, as_of: u64) -> bool {
        let touched =
            self.actions.range(as_of + 1..).any(|(_, action)| action.subject == Subject::Droplet(id));
        let power = if running { Power::Active } else { Power::Off };
        match self.droplets.get_mut(&id) {
            Some(droplet) if !touched && droplet.power != power && droplet.power != Power::New => {
                droplet.power = power;
                true
            }
            _ => false,
        }
    }
}
