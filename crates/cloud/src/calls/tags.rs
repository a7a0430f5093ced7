//! Tags.

use serde_json::{Value, json};

use super::segment;
use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::model::Tag;

impl Client {
    /// All tags of the account, those on nothing included.
    pub async fn tags(&self) -> Result<Vec<Tag>, Error> {
        self.list("/v2/tags", &[], "tags").await
    }

    /// Makes a tag; one that exists stays as it is.
    pub async fn create_tag(&self, name: &str) -> Result<(), Error> {
        self.post("/v2/tags", json!({ "name": name }), Repeat::Freely).await.map(drop)
    }

    /// Puts an existing tag on droplets.
    pub async fn tag_droplets(&self, tag: &str, droplets: &[u64]) -> Result<(), Error> {
        let resources: Vec<Value> = droplets
            .iter()
            .map(|id| json!({ "resource_id": id.to_string(), "resource_type": "droplet" }))
            .collect();
        let path = format!("/v2/tags/{}/resources", segment(tag));
        self.post(&path, json!({ "resources": resources }), Repeat::Freely).await.map(drop)
    }

    /// Deletes a tag. What has it loses the tag and nothing else.
    pub async fn delete_tag(&self, name: &str) -> Result<(), Error> {
        self.delete(&format!("/v2/tags/{}", segment(name))).await
    }
}
