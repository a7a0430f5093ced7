//! SSH keys of the account. One is found by its fingerprint: the list may be read ten times a minute only.

use serde_json::json;

use super::segment;
use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::model::SshKey;

impl Client {
    /// All keys of the account.
    pub async fn ssh_keys(&self) -> Result<Vec<SshKey>, Error> {
        self.list("/v2/account/keys", &[], "ssh_keys").await
    }

    /// The key with this MD5 fingerprint (colon-separated hex).
    pub async fn ssh_key(&self, fingerprint: &str) -> Result<Option<SshKey>, Error> {
        self.get(&format!("/v2/account/keys/{}", segment(fingerprint)), "ssh_key").await
    }

    /// Registers a key. A key that the account has already is refused with 422, whatever its name.
    pub async fn create_ssh_key(&self, name: &str, public_key: &str) -> Result<SshKey, Error> {
        let body = json!({ "name": name, "public_key": public_key });
        self.post_for("/v2/account/keys", body, Repeat::Never, "ssh_key").await
    }

    /// Removes a key from the account. Droplets that were made with it keep it.
    pub async fn delete_ssh_key(&self, fingerprint: &str) -> Result<(), Error> {
        self.delete(&format!("/v2/account/keys/{}", segment(fingerprint))).await
    }
}
