//! Reserved IPs, which the field calls floating IPs, and the actions on them.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::model::{Action, ReservedIp};

impl Client {
    /// All reserved IPs of the account, whoever made them: the API has no filter for them.
    pub async fn reserved_ips(&self) -> Result<Vec<ReservedIp>, Error> {
        self.list("/v2/reserved_ips", &[], "reserved_ips").await
    }

    /// One reserved IP; `None` if there is none, which is also what the API says of one just made.
    pub async fn reserved_ip(&self, ip: Ipv4Addr) -> Result<Option<ReservedIp>, Error> {
        self.get(&format!("/v2/reserved_ips/{ip}"), "reserved_ip").await
    }

    /// Asks for a new address that leads to a droplet, without a look: see [`Client::ensure_reserved_ip`].
    ///
    /// # Errors
    /// [`Error::MaybeHappened`] if the answer was lost or was a 5xx.
    pub async fn create_reserved_ip(&self, droplet: u64) -> Result<ReservedIp, Error> {
        self.post_for("/v2/reserved_ips", json!({ "droplet_id": droplet }), Repeat::Never, "reserved_ip")
            .await
    }

    /// Starts to move an address to a droplet, from wherever it is.
    pub async fn start_assign(&self, ip: Ipv4Addr, droplet: u64) -> Result<Action, Error> {
        let body = json!({ "type": "assign", "droplet_id": droplet });
        self.post_for(&format!("/v2/reserved_ips/{ip}/actions"), body, Repeat::Freely, "action").await
    }

    /// Starts to take an address away from its droplet. Refused with 422 if it has none.
    pub async fn start_unassign(&self, ip: Ipv4Addr) -> Result<Action, Error> {
        let body = json!({ "type": "unassign" });
        self.post_for(&format!("/v2/reserved_ips/{ip}/actions"), body, Repeat::Freely, "action").await
    }

    /// All actions on an address, latest first; none if the address is not known.
    pub async fn reserved_ip_actions(&self, ip: Ipv4Addr) -> Result<Vec<Action>, Error> {
        match self.list(&format!("/v2/reserved_ips/{ip}/actions"), &[], "actions").await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    /// One action on an address; `None` if the API does not know it, which does not mean that it never was.
    pub async fn reserved_ip_action(&self, ip: Ipv4Addr, action: u64) -> Result<Option<Action>, Error> {
        self.get(&format!("/v2/reserved_ips/{ip}/actions/{action}"), "action").await
    }

    /// Asks for an address to be released; see [`Client::release_address`] for what else that takes.
    pub async fn delete_reserved_ip(&self, ip: Ipv4Addr) -> Result<(), Error> {
        self.delete(&format!("/v2/reserved_ips/{ip}")).await
    }

    /// How many reserved IPs the account has; `None` if the API does not say.
    pub async fn reserved_ip_count(&self) -> Result<Option<u64>, Error> {
        self.count("/v2/reserved_ips").await
    }
}
