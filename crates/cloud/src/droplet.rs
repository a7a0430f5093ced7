//! Droplets that are there and ready, whatever happened to earlier attempts.

pub use crate::calls::{DropletSpec, Power};
use crate::client::Client;
use crate::error::Error;
use crate::model::{Action, Droplet, DropletStatus, Progress};
use crate::pace::{Pace, Watch};
use crate::{Ensured, names};

/// How many times a create is asked for anew after it was found to have made nothing.
const CREATE_ROUNDS: usize = 3;

impl Client {
    /// The cluster's droplet of this name: found by tag and name, else made. Returns when the API knows it, not
    /// when it is ready.
    ///
    /// A create whose answer is lost is followed by looks for `pace.grace`; only then is it asked for again.
    ///
    /// # Errors
    /// [`Error::Duplicate`] if several droplets of the cluster have the name; [`Error::Untagged`] if it was made without
    /// its tag.
    pub async fn ensure_droplet(&self, spec: &DropletSpec, pace: Pace) -> Result<Ensured<Droplet>, Error> {
        spec.check()?;
        if let Some(value) = self.find_droplet(&spec.cluster, &spec.name, pace).await? {
            return Ok(Ensured { value, made: false });
        }
        let mut watch = Watch::new(self, pace, format!("droplet {} to be accepted", spec.name));
        let mut rounds = 0;
        loop {
            rounds += 1;
            let doubt = match self.create_droplet(spec).await {
                Ok(value) => {
                    self.check_tag(spec, &value, pace).await?;
                    return Ok(Ensured { value, made: true });
                }
                Err(error @ Error::MaybeHappened { .. }) => error,
                Err(error) => return Err(error),
            };
            let mut look = Watch::new(self, pace, format!("droplet {} to be listed", spec.name));
            while look.in_grace() {
                if let Some(value) = self.find_droplet(&spec.cluster, &spec.name, pace).await? {
                    return Ok(Ensured { value, made: true });
                }
                look.pause("the answer to its creation was lost").await?;
            }
            if rounds == CREATE_ROUNDS {
                return Err(doubt);
            }
            watch.pause("it was not created; retrying").await?;
        }
    }

    /// That a droplet just made has its tag: without, nobody would find it again. Where the answer does not show it,
    /// which a token without the scope tag:read is a reason for, the list under the tag is asked.
    async fn check_tag(&self, spec: &DropletSpec, made: &Droplet, pace: Pace) -> Result<(), Error> {
        let tag = names::cluster_tag(&spec.cluster);
        if made.tags.contains(&tag) {
            return Ok(());
        }
        let mut watch = Watch::new(self, pace, format!("droplet {} to be listed under {tag}", made.id));
        while self.droplets(&tag).await?.iter().all(|droplet| droplet.id != made.id) {
            if !watch.in_grace() {
                return Err(Error::Untagged { id: made.id, name: spec.name.clone(), tag });
            }
            watch.pause("it was created without the tag").await?;
        }
        Ok(())
    }

    /// The cluster's droplet of this name, if it has one.
    ///
    /// A list can lack a droplet that was asked for a moment ago, by a run that has been killed since. So what
    /// is being created in the account is looked at too, one by one; while the API does not say what it is,
    /// this waits, for at most `pace.grace`.
    ///
    /// # Errors
    /// [`Error::Duplicate`].
    pub async fn find_droplet(
        &self,
        cluster: &str,
        name: &str,
        pace: Pace,
    ) -> Result<Option<Droplet>, Error> {
        let tag = names::cluster_tag(cluster);
        let mut watch = Watch::new(self, pace, "droplets being created");
        loop {
            let open = self.open_actions().await?;
            let mut droplets = self.droplets(&tag).await?;
            let mut unknown = None;
            if droplets.iter().all(|droplet| droplet.name != name) {
                let unlisted = self.unlisted_droplets(&tag, &open, &droplets).await?;
                droplets.extend(unlisted.ours);
                unknown = unlisted.unknown;
            }
            let mut found: Vec<Droplet> =
                droplets.into_iter().filter(|droplet| droplet.name == name).collect();
            match (found.len(), unknown) {
                (0, Some(id)) if watch.in_grace() => watch.pause(format!("{id} may be ours")).await?,
                (0 | 1, _) => return Ok(found.pop()),
                _ => {
                    let ids = found.iter().map(|droplet| droplet.id).collect();
                    return Err(Error::Duplicate { name: name.to_owned(), ids });
                }
            }
        }
    }

    /// What is being created in the account, by the actions that were open before `listed` was asked for, and is
    /// not in it.
    pub(super) async fn unlisted_droplets(
        &self,
        tag: &str,
        open: &[Action],
        listed: &[Droplet],
    ) -> Result<Unlisted, Error> {
        let mut unlisted = Unlisted { ours: Vec::new(), unknown: None };
        let creates = open.iter().filter(|action| action.kind == "create");
        let begun = creates.filter_map(|action| action.resource_id);
        for id in begun.filter(|id| listed.iter().all(|droplet| droplet.id != *id)) {
            match self.droplet(id).await? {
                Some(droplet) if droplet.tags.iter().any(|has| has == tag) => unlisted.ours.push(droplet),
                Some(_) => {}
                None => unlisted.unknown = Some(id),
            }
        }
        Ok(unlisted)
    }

    /// Waits until a droplet is active, has a public and a private address, and is not locked. That it has
    /// booted is for SSH to say.
    ///
    /// # Errors
    /// [`Error::ActionFailed`] if the provider could not make it, [`Error::Gone`] if it is not known for longer
    /// than `pace.grace`, [`Error::TimedOut`] after `pace.deadline`.
    pub async fn wait_droplet_ready(&self, id: u64, pace: Pace) -> Result<Droplet, Error> {
        let mut watch = Watch::new(self, pace, format!("droplet {id} to be ready"));
        loop {
            let seen = match self.droplet(id).await? {
                Some(droplet) => match unready(&droplet) {
                    None => return Ok(droplet),
                    Some(why) => why,
                },
                None if watch.in_grace() => "the API does not know it yet".into(),
                None => return Err(Error::Gone { what: format!("droplet {id}") }),
            };
            let actions = self.droplet_actions(id).await?;
            let failed = |action: &&Action| action.kind == "create" && action.progress() == Progress::Failed;
            if let Some(action) = actions.iter().find(failed) {
                return Err(Error::ActionFailed { what: format!("creating droplet {id}"), id: action.id });
            }
            watch.pause(seen).await?;
        }
    }

    /// Changes a droplet's power and waits until the provider says that it is done.
    pub async fn power(&self, id: u64, power: Power, pace: Pace) -> Result<(), Error> {
        self.change(id, Change::Power(power), pace).await
    }

    /// Gives a droplet that is off another size, unless it has it; with `disk`, in GiB, its disk grows to the size's, for
    /// ever.
    ///
    /// # Errors
    /// [`Error::ActionFailed`]; what the API refuses, such as a disk that would shrink.
    pub async fn resize(&self, id: u64, size: &str, disk: Option<u64>, pace: Pace) -> Result<(), Error> {
        self.change_unless_so(id, Change::Size(size, disk), pace).await
    }

    /// Gives a droplet another name, unless it has it.
    ///
    /// # Errors
    /// [`Error::ActionFailed`], or what the API refuses.
    pub async fn rename(&self, id: u64, name: &str, pace: Pace) -> Result<(), Error> {
        self.change_unless_so(id, Change::Name(name), pace).await
    }

    /// For a change that would be refused if it were asked for twice.
    async fn change_unless_so(&self, id: u64, change: Change<'_>, pace: Pace) -> Result<(), Error> {
        if self.droplet(id).await?.is_some_and(|droplet| !droplet.locked && change.is_so(&droplet)) {
            return Ok(());
        }
        self.change(id, change, pace).await
    }

    /// Asks for a change, once no other is under way, and waits until the provider says that it is done.
    async fn change(&self, id: u64, change: Change<'_>, pace: Pace) -> Result<(), Error> {
        let what = format!("droplet {id} to {}", change.describe());
        let mut watch = Watch::new(self, pace, what.clone());
        let action = loop {
            let asked = match change {
                Change::Power(power) => self.droplet_power(id, power).await,
                Change::Size(size, disk) => self.droplet_resize(id, size, disk.is_some()).await,
                Change::Name(name) => self.droplet_rename(id, name).await,
            };
            match asked {
                Ok(action) => break action,
                Err(error) if error.is_pending_event() => {
                    watch.pause("another action is in progress").await?
                }
                Err(error) => {
                    // What is refused may have been asked for already: the answer to the first attempt was lost.
                    let seen = self.droplet(id).await?;
                    match seen.filter(|droplet| !droplet.locked && change.is_so(droplet)) {
                        Some(_) => return Ok(()),
                        None => return Err(error),
                    }
                }
            }
        };
        loop {
            match self.droplet_action(id, action.id).await?.map(|action| action.progress()) {
                Some(Progress::Done) => return Ok(()),
                Some(Progress::Failed) => return Err(Error::ActionFailed { what, id: action.id }),
                Some(Progress::Running) => watch.pause("in progress").await?,
                // Some actions it never knows: what counts is the droplet.
                None => {
                    if self.droplet(id).await?.is_some_and(|it| !it.locked && change.is_so(&it)) {
                        return Ok(());
                    }
                    watch.pause("the API does not know the action yet").await?;
                }
            }
        }
    }
}

/// What an action makes of a droplet.
#[derive(Clone, Copy)]
enum Change<'a> {
    Power(Power),
    /// Size slug; and the size of its disk in GiB, where the disk is to grow.
    Size(&'a str, Option<u64>),
    Name(&'a str),
}

impl Change<'_> {
    fn describe(self) -> String {
        match self {
            Change::Power(Power::On) => "be powered on".into(),
            Change::Power(Power::Off) => "be powered off".into(),
            Change::Power(Power::Shutdown) => "be shut down".into(),
            Change::Size(size, _) => format!("become {size}"),
            Change::Name(name) => format!("be renamed to {name}"),
        }
    }

    fn is_so(self, droplet: &Droplet) -> bool {
        match self {
            Change::Power(power) => droplet.status == power.leads_to(),
            Change::Size(size, disk) => {
                droplet.size_slug == size && disk.is_none_or(|disk| droplet.disk.is_none_or(|it| it >= disk))
            }
            Change::Name(name) => droplet.name == name,
        }
    }
}

/// Droplets that a list does not have yet.
pub(super) struct Unlisted {
    /// Those with the tag.
    pub(super) ours: Vec<Droplet>,
    /// One of which the API does not say yet what it is.
    pub(super) unknown: Option<u64>,
}

/// What a droplet still lacks.
fn unready(droplet: &Droplet) -> Option<String> {
    let why = match (droplet.status, droplet.public_ipv4(), droplet.private_ipv4()) {
        (DropletStatus::Active, Some(_), Some(_)) if droplet.locked => "an action on it is in progress",
        (DropletStatus::Active, Some(_), Some(_)) => return None,
        (DropletStatus::Active, None, _) => "no public address yet",
        (DropletStatus::Active, _, None) => "no private address yet",
        (DropletStatus::New, ..) => "being created",
        (DropletStatus::Off, ..) => "powered off",
        (DropletStatus::Archive, ..) => "archived",
        (DropletStatus::Unknown, ..) => "in an unknown state",
    };
    Some(why.to_owned())
}
