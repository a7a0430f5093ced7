//! Keys to Spaces. They have names, which need not be unique, and are told apart by what requests name.

use serde_json::json;

use super::segment;
use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::model::{Grant, NewSpacesKey, SpacesKey};

impl Client {
    /// The account's keys of this name.
    pub async fn spaces_keys(&self, name: &str) -> Result<Vec<SpacesKey>, Error> {
        let mut keys: Vec<SpacesKey> = self.list("/v2/spaces/keys", &[("name", name)], "keys").await?;
        keys.retain(|key| key.name == name);
        Ok(keys)
    }

    /// Makes a key. Nobody can ask for its secret later: see [`Client::make_spaces_key`].
    ///
    /// # Errors
    /// [`Error::MaybeHappened`] if the answer was lost or was a 5xx.
    pub async fn create_spaces_key(&self, name: &str, grants: &[Grant]) -> Result<NewSpacesKey, Error> {
        let body = json!({ "name": name, "grants": grants });
        let request = self.request("POST", "/v2/spaces/keys", Some(body), Repeat::Never);
        self.send(request.expecting("key").confidential()).await?.take("key")
    }

    /// Deletes a key by what requests name. It may work for some seconds more.
    pub async fn delete_spaces_key(&self, access_key: &str) -> Result<(), Error> {
        self.delete(&format!("/v2/spaces/keys/{}", segment(access_key))).await
    }
}
