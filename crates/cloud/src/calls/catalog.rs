//! What the account has and what the provider offers: account, images, sizes, regions, private networks.

use super::segment;
use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::model::{Account, Action, Image, Progress, Region, Size, Vpc};

impl Client {
    /// The account that the token belongs to.
    pub async fn account(&self) -> Result<Account, Error> {
        let request = self.request("GET", "/v2/account", None, Repeat::Freely).expecting("account");
        self.send(request).await?.take("account")
    }

    /// Actions that are under way anywhere in the account. Ask before a list that is to lack nothing: what is
    /// missing here has ended, so the list has it.
    pub async fn open_actions(&self) -> Result<Vec<Action>, Error> {
        let mut actions: Vec<Action> = self.first_page("/v2/actions", "actions").await?;
        actions.retain(|action| action.progress() == Progress::Running);
        Ok(actions)
    }

    /// A public image by its slug; `None` if it is not offered.
    pub async fn image(&self, slug: &str) -> Result<Option<Image>, Error> {
        self.get(&format!("/v2/images/{}", segment(slug)), "image").await
    }

    /// All images of distributions that are offered.
    pub async fn distribution_images(&self) -> Result<Vec<Image>, Error> {
        self.list("/v2/images", &[("type", "distribution")], "images").await
    }

    /// All sizes.
    pub async fn sizes(&self) -> Result<Vec<Size>, Error> {
        self.list("/v2/sizes", &[], "sizes").await
    }

    /// All regions.
    pub async fn regions(&self) -> Result<Vec<Region>, Error> {
        self.list("/v2/regions", &[], "regions").await
    }

    /// A private network by its UUID.
    pub async fn vpc(&self, id: &str) -> Result<Option<Vpc>, Error> {
        self.get(&format!("/v2/vpcs/{}", segment(id)), "vpc").await
    }

    /// All private networks.
    pub async fn vpcs(&self) -> Result<Vec<Vpc>, Error> {
        self.list("/v2/vpcs", &[], "vpcs").await
    }
}
