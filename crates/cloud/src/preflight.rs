//! What can be known to fail before anything is made.

use crate::client::Client;
use crate::error::Error;
use crate::model::{Image, Tag};
use crate::names;

/// A value and where it comes from, so that a complaint can name the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: String,
    /// Its key path in the inventory, for instance `provider.region`.
    pub key: String,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The cluster's name.
    pub cluster: Setting,
    /// Region slug.
    pub region: Setting,
    /// Size slugs, each once.
    pub sizes: Vec<Setting>,
    /// Image slugs, each once.
    pub images: Vec<Setting>,
    /// UUID of the private network, if one is named.
    pub vpc: Option<Setting>,
    /// Droplets that do not exist yet.
    pub new_droplets: u64,
    /// Addresses that do not exist yet.
    pub new_addresses: u64,
}

/// Something that would fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// Where: the inventory's key path, or `token` or `account`.
    pub place: String,
    /// What to do about it.
    pub hint: String,
}

/// Problems so far. A question that the token may not ask is itself a problem.
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, place: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem { what: what.into(), place: place.to_owned(), hint: hint.into() });
    }

    /// The answer, or `None` and a problem if the API refused it; an error if there was no usable answer.
    fn answer<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.status(), Some(401 | 403)) => {
                let problem = Problem {
                    what: error.to_string(),
                    place: "token".into(),
                    hint: error.hint().unwrap_or_default(),
                };
                if !self.0.contains(&problem) {
                    self.0.push(problem);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Client {
    /// Everything about `wanted` that the API would refuse, as far as reading tells. An empty list is no promise:
    /// a region can run out of a size at any time.
    ///
    /// # Errors
    /// Only if the API could not be asked.
    pub async fn preflight(&self, wanted: &Wanted) -> Result<Vec<Problem>, Error> {
        let mut found = Findings(Vec::new());
        // First by itself: with a token that is refused, every other question would be refused too.
        let account = self.account().await;
        if account.as_ref().is_err_and(|error| error.status() == Some(401)) {
            found.answer(account)?;
            return Ok(found.0);
        }
        let (regions, sizes, droplets, addresses, tags) = tokio::join!(
            self.regions(),
            self.sizes(),
            self.droplet_count(),
            self.reserved_ip_count(),
            self.tags()
        );
        let account = found.answer(account)?;
        if let Some(account) = &account {
            if account.status == "locked" {
                found.add("account", format!("the account is locked: {}", account.status_message), SUPPORT);
            }
            let droplets = found.answer(droplets)?.flatten();
            limit(&mut found, "droplet", account.droplet_limit, droplets, wanted.new_droplets);
            let addresses = found.answer(addresses)?.flatten();
            limit(&mut found, "floating IP", account.floating_ip_limit, addresses, wanted.new_addresses);
        }
        if let Some(tags) = found.answer(tags)? {
            let tag = names::cluster_tag(&wanted.cluster.value);
            let other = |known: &&Tag| known.name != tag && known.name.eq_ignore_ascii_case(&tag);
            if let Some(other) = tags.iter().find(other) {
                // Droplets would get that spelling, and would not be known again.
                found.add(
                    &wanted.cluster.key,
                    format!("the account has the tag {}, which DigitalOcean takes for {tag}", other.name),
                    "delete that tag, or choose another name for the cluster",
                );
            }
        }
        if let Some(regions) = found.answer(regions)? {
            let offered: Vec<&str> =
                regions.iter().filter(|region| region.available).map(|r| r.slug.as_str()).collect();
            let known = regions.iter().any(|region| region.slug == wanted.region.value);
            if !offered.contains(&wanted.region.value.as_str()) {
                let why = if known { "takes no new droplets" } else { "does not exist" };
                let hint = format!("available: {}", offered.join(", "));
                found.add(&wanted.region.key, format!("region {} {why}", wanted.region.value), hint);
            }
        }
        if let Some(sizes) = found.answer(sizes)? {
            for size in &wanted.sizes {
                let region = &wanted.region.value;
                let here = |size: &&crate::model::Size| size.available && size.regions.contains(region);
                match sizes.iter().find(|known| known.slug == size.value) {
                    Some(known) if here(&known) => {}
                    Some(known) => {
                        let hint = match known.regions.as_slice() {
                            regions if known.available && !regions.is_empty() => {
                                format!("available in: {}", regions.join(", "))
                            }
                            _ => "choose another size".into(),
                        };
                        found.add(
                            &size.key,
                            format!("size {} is not available in {region}", size.value),
                            hint,
                        );
                    }
                    None => {
                        let offered = sizes.iter().filter(here).map(|known| known.slug.as_str());
                        let hint = format!("similar: {}", nearest(&size.value, offered).join(", "));
                        found.add(&size.key, format!("size {} does not exist", size.value), hint);
                    }
                }
            }
        }
        for image in &wanted.images {
            self.check_image(&mut found, image, &wanted.region.value).await?;
        }
        if let Some(vpc) = &wanted.vpc {
            self.check_vpc(&mut found, vpc, &wanted.region.value).await?;
        }
        Ok(found.0)
    }

    async fn check_image(&self, found: &mut Findings, image: &Setting, region: &str) -> Result<(), Error> {
        let is_in =
            |known: &Image| known.regions.is_empty() || known.regions.iter().any(|slug| slug == region);
        let usable = |known: &Image| known.status != "retired" && known.status != "deleted";
        match found.answer(self.image(&image.value).await)? {
            None => {}
            Some(Some(known)) if usable(&known) && is_in(&known) => {}
            Some(Some(known)) if usable(&known) => {
                let hint = format!("available in: {}", known.regions.join(", "));
                found.add(&image.key, format!("image {} is not in {region}", image.value), hint);
            }
            Some(_) => {
                let offered = found.answer(self.distribution_images().await)?.unwrap_or_default();
                let slugs =
                    offered.iter().filter(|known| usable(known)).filter_map(|known| known.slug.as_deref());
                let hint = format!("similar: {}", nearest(&image.value, slugs).join(", "));
                found.add(&image.key, format!("image {} is not offered", image.value), hint);
            }
        }
        Ok(())
    }

    async fn check_vpc(&self, found: &mut Findings, vpc: &Setting, region: &str) -> Result<(), Error> {
        match found.answer(self.vpc(&vpc.value).await)? {
            None => {}
            Some(Some(known)) if known.region == region => {}
            Some(Some(known)) => {
                let what = format!("VPC {} is in {}, not in {region}", vpc.value, known.region);
                found.add(
                    &vpc.key,
                    what,
                    "name a VPC of this region, or leave the key out for the region's default",
                );
            }
            Some(None) => {
                let all = found.answer(self.vpcs().await)?.unwrap_or_default();
                let here: Vec<String> = all
                    .iter()
                    .filter(|known| known.region == region)
                    .map(|known| format!("{} ({})", known.id, known.name))
                    .collect();
                let hint = match here.as_slice() {
                    [] => "leave the key out to use the region's default".to_owned(),
                    here => format!("the VPCs in {region} are: {}", here.join(", ")),
                };
                found.add(&vpc.key, format!("VPC {} does not exist", vpc.value), hint);
            }
        }
        Ok(())
    }
}

const SUPPORT: &str = "ask DigitalOcean's support to unlock it";

fn limit(found: &mut Findings, what: &str, limit: Option<u64>, have: Option<u64>, need: u64) {
    if let (Some(limit), Some(have)) = (limit, have)
        && need > limit.saturating_sub(have)
    {
        let needed = if need == 1 { format!("1 more {what} is") } else { format!("{need} more {what}s are") };
        let sentence = format!("{needed} needed; the account has {have}, and its limit is {limit}");
        found.add("account", sentence, "delete unused ones, or ask DigitalOcean for a higher limit");
    }
}

/// The slugs that share most with `wanted` from the start: same distribution first.
fn nearest<'a>(wanted: &str, offered: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let shared = |slug: &str| slug.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    let mut slugs: Vec<&str> = offered.collect();
    slugs.sort_by_key(|slug| (std::cmp::Reverse(shared(slug)), slug.to_string()));
    slugs.truncate(5);
    slugs
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_slugs_come_first() {
        let offered = ["debian-12-x64", "fedora-42-x64", "ubuntu-22-04-x64", "ubuntu-24-04-x64"];
        assert_eq!(
            nearest("ubuntu-20-04-x64", offered.into_iter())[..2],
            ["ubuntu-22-04-x64", "ubuntu-24-04-x64"]
        );
        assert_eq!(nearest("x", std::iter::empty()), Vec::<&str>::new());
    }
}
