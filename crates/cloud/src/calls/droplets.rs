//! Droplets and the actions on them.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::model::{Action, Droplet, DropletStatus, Progress};
use crate::names;

/// A droplet to be.
#[derive(Clone, Debug)]
pub struct DropletSpec {
    /// The cluster's name; its tag goes on the droplet.
    pub cluster: String,
    /// Droplet name and host name.
    pub name: String,
    /// Region slug.
    pub region: String,
    /// Size slug.
    pub size: String,
    /// Image slug.
    pub image: String,
    /// Fingerprints of registered keys that root may log in with. With none, DigitalOcean mails a password
    /// that is already expired, and nothing can be installed.
    pub ssh_keys: Vec<String>,
    /// For cloud-init. ASCII, at most 64 KiB. Every process on the droplet can read it for as long as the
    /// droplet lives.
    pub user_data: Option<SecretString>,
    /// UUID of the private network; the region's default if `None`.
    pub vpc_uuid: Option<String>,
}

impl DropletSpec {
    /// Most bytes of user data that are accepted.
    pub const USER_DATA_LIMIT: usize = 64 * 1024;

    /// Refuses user data that the API refuses, and such that it accepts and then silently drops the droplet
    /// for: characters beyond the basic plane do that, so all but ASCII is refused.
    pub fn check(&self) -> Result<(), Error> {
        let Some(data) = &self.user_data else { return Ok(()) };
        let data = data.expose_secret();
        let why = if data.len() > Self::USER_DATA_LIMIT {
            format!("has {} bytes; the limit is {}", data.len(), Self::USER_DATA_LIMIT)
        } else if let Some(line) = data.lines().position(|line| !line.is_ascii()) {
            format!("is not ASCII (line {})", line + 1)
        } else {
            return Ok(());
        };
        Err(Error::UserData { name: self.name.clone(), why })
    }

    fn body(&self) -> Value {
        let mut body = json!({
            "name": self.name, "region": self.region, "size": self.size, "image": self.image,
            "ssh_keys": self.ssh_keys, "tags": [names::cluster_tag(&self.cluster)], "monitoring": false,
        });
        if let Some(data) = &self.user_data {
            body["user_data"] = data.expose_secret().into();
        }
        if let Some(vpc) = &self.vpc_uuid {
            body["vpc_uuid"] = vpc.as_str().into();
        }
        body
    }
}

/// What can be done to a droplet's power. Each may be asked for twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Boot it.
    On,
    /// Pull the plug.
    Off,
    /// Ask its init to shut down; nobody promises that it does.
    Shutdown,
}

impl Power {
    /// What a droplet is afterwards.
    pub(crate) fn leads_to(self) -> DropletStatus {
        match self {
            Power::On => DropletStatus::Active,
            Power::Off | Power::Shutdown => DropletStatus::Off,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Power::On => "power_on",
            Power::Off => "power_off",
            Power::Shutdown => "shutdown",
        }
    }
}

impl Client {
    /// All droplets with a tag.
    pub async fn droplets(&self, tag: &str) -> Result<Vec<Droplet>, Error> {
        self.list("/v2/droplets", &[("tag_name", tag)], "droplets").await
    }

    /// One droplet; `None` if there is none of this id, which is also what the API says of one just made.
    pub async fn droplet(&self, id: u64) -> Result<Option<Droplet>, Error> {
        self.get(&format!("/v2/droplets/{id}"), "droplet").await
    }

    /// Asks for a droplet, without a look whether there is one: see [`Client::ensure_droplet`].
    ///
    /// # Errors
    /// [`Error::MaybeHappened`] if the answer was lost or was a 5xx; [`Error::UserData`] before anything is sent.
    pub async fn create_droplet(&self, spec: &DropletSpec) -> Result<Droplet, Error> {
        spec.check()?;
        self.post_for("/v2/droplets", spec.body(), Repeat::Never, "droplet").await
    }

    /// Starts to delete a droplet. It stays readable for some seconds.
    pub async fn delete_droplet(&self, id: u64) -> Result<(), Error> {
        self.delete(&format!("/v2/droplets/{id}")).await
    }

    /// Starts a change of power. Fails with [`Error::is_pending_event`] while another action is under way.
    pub async fn droplet_power(&self, id: u64, power: Power) -> Result<Action, Error> {
        let path = format!("/v2/droplets/{id}/actions");
        self.post_for(&path, json!({ "type": power.word() }), Repeat::Freely, "action").await
    }

    /// Starts to give a droplet that is off another size; with `disk`, for ever, its disk too.
    pub async fn droplet_resize(&self, id: u64, size: &str, disk: bool) -> Result<Action, Error> {
        let path = format!("/v2/droplets/{id}/actions");
        let body = json!({ "type": "resize", "size": size, "disk": disk });
        self.post_for(&path, body, Repeat::Freely, "action").await
    }

    /// Starts to give a droplet another name.
    pub async fn droplet_rename(&self, id: u64, name: &str) -> Result<Action, Error> {
        let path = format!("/v2/droplets/{id}/actions");
        self.post_for(&path, json!({ "type": "rename", "name": name }), Repeat::Freely, "action").await
    }

    /// All actions on a droplet, latest first; none if the droplet is not known.
    pub async fn droplet_actions(&self, id: u64) -> Result<Vec<Action>, Error> {
        match self.list(&format!("/v2/droplets/{id}/actions"), &[], "actions").await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Whether the provider has given up making a droplet: it never ran, and never will.
    pub async fn creation_failed(&self, id: u64) -> Result<bool, Error> {
        let actions = self.droplet_actions(id).await?;
        Ok(actions.iter().any(|action| action.kind == "create" && action.progress() == Progress::Failed))
    }

    /// Whether the droplet with this address is off and stays so: no action on it is under way. False for one that the
    /// API does not know: that is also its answer about a droplet just made. False too for one that has not the address:
    /// the id is a person's mistake, and another droplet's state says nothing about the host.
    pub async fn droplet_is_off(&self, id: u64, address: IpAddr) -> Result<bool, Error> {
        // The actions first: one that begins after them would be seen in what follows, or has not booted it yet.
        let actions = self.droplet_actions(id).await?;
        if actions.iter().any(|action| action.progress() == Progress::Running) {
            return Ok(false);
        }
        let droplet = self.droplet(id).await?;
        Ok(droplet.is_some_and(|droplet| {
            droplet.has_address(address) && droplet.status == DropletStatus::Off && !droplet.locked
        }))
    }

    /// One action on a droplet.
    pub async fn droplet_action(&self, droplet: u64, action: u64) -> Result<Option<Action>, Error> {
        self.get(&format!("/v2/droplets/{droplet}/actions/{action}"), "action").await
    }

    /// How many droplets the account has, whoever made them; `None` if the API does not say.
    pub async fn droplet_count(&self) -> Result<Option<u64>, Error> {
        self.count("/v2/droplets").await
    }
}
