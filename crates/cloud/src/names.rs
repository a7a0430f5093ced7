//! What a cluster's things are called at the provider. Everything that is later recognised as ours is
//! recognised by these names, so they are in one place.

use std::net::Ipv4Addr;

/// Tag on every droplet of a cluster.
pub fn cluster_tag(cluster: &str) -> String {
    format!("cluster:{cluster}")
}

/// Whether a tag says that what has it is some cluster's.
pub fn is_cluster_tag(tag: &str) -> bool {
    tag.starts_with("cluster:")
}

/// Tag on every droplet of a cluster that records which floating IP is the cluster's.
///
/// An address has neither name nor tag of its own, and tags hold no dots: `10.1.2.3` is written `10-1-2-3`.
pub fn address_tag(cluster: &str, ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("cluster-ip:{cluster}:{a}-{b}-{c}-{d}")
}

/// The address that a tag records, if it is an address tag of this cluster.
pub fn recorded_address(cluster: &str, tag: &str) -> Option<Ipv4Addr> {
    let ip: Ipv4Addr = tag
        .strip_prefix("cluster-ip:")?
        .strip_prefix(cluster)?
        .strip_prefix(':')?
        .replace('-', ".")
        .parse()
        .ok()?;
    // One spelling only: what was not written by us is not read as ours.
    (address_tag(cluster, ip) == tag).then_some(ip)
}

/// A tag on nothing: the lock of a cluster that has no nodes yet, or too few that can be reached. Its name says who holds
/// it, since when, and what tells it from another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockTag {
    /// Seconds since 1970, by the holder's clock.
    pub since: i64,
    /// What no other has.
    pub nonce: String,
    /// The holder's command.
    pub command: String,
    /// Who runs it.
    pub user: String,
    /// Where.
    pub host: String,
}

impl LockTag {
    /// The tag. What the API does not allow in one is written `-`.
    pub fn tag(&self, cluster: &str) -> String {
        let word = |text: &str| -> String {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            text.chars().take(40).map(|c| if is_plain(c) { c } else { '-' }).collect()
        };
        let LockTag { since, nonce, command, user, host } = self;
        let words = [nonce, command, user, host].map(|text| word(text)).join(":");
        format!("cluster-lock:{cluster}:{since}:{words}")
    }

    /// What a tag says, if it is a lock of this cluster.
    pub fn parse(cluster: &str, tag: &str) -> Option<LockTag> {
        let words: Vec<&str> = lock_words(cluster, tag)?.split(':').collect();
        let [since, nonce, command, user, host] = words.try_into().ok()?;
        let since = since.parse().ok()?;
        let [nonce, command, user, host] = [nonce, command, user, host].map(str::to_owned);
        Some(LockTag { since, nonce, command, user, host })
    }
}

fn lock_words<'a>(cluster: &str, tag: &'a str) -> Option<&'a str> {
    tag.strip_prefix("cluster-lock:")?.strip_prefix(cluster)?.strip_prefix(':')
}

/// Whether a tag is a lock of this cluster, whatever it says.
pub fn is_lock_tag(cluster: &str, tag: &str) -> bool {
    lock_words(cluster, tag).is_some()
}

/// Name of the SSH key that we register for a cluster. A key with another name was not made by us.
pub fn ssh_key(cluster: &str) -> String {
    format!("cluster:{cluster}")
}

/// Name of the key to Spaces that a cluster's nodes have: it opens the bucket of the repository.
pub fn repository_spaces_key(cluster: &str) -> String {
    format!("cluster-repository-{cluster}")
}

/// Name of the key to Spaces that makes the bucket, and is there for no longer than that takes.
pub fn temporary_spaces_key(cluster: &str) -> String {
    format!("cluster-temporary-{cluster}")
}

/// Whether the API accepts this as a tag: letters, digits, `_`, `-` and `:`, at most 255 characters.
pub fn is_tag(tag: &str) -> bool {
    (1..=255).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-:".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_survives_its_tag(cluster in "[a-zA-Z0-9][a-zA-Z0-9_-]{0,40}", bits: u32) {
            let ip = Ipv4Addr::from(bits);
            let tag = address_tag(&cluster, ip);
            prop_assert!(is_tag(&tag));
            prop_assert_eq!(recorded_address(&cluster, &tag), Some(ip));
            prop_assert_eq!(recorded_address(&format!("{cluster}x"), &tag), None);
        }

        #[test]
        fn only_our_own_spelling_is_read(tag in "cluster-ip:demo:[0-9-]{0,20}") {
            if let Some(ip) = recorded_address("demo", &tag) {
                prop_assert_eq!(address_tag("demo", ip), tag);
            }
        }
    }

    #[test]
    fn a_lock_says_who_holds_it() {
        let lock = LockTag {
            since: 1_764_250_000,
            nonce: "0badcafe".into(),
            command: "up".into(),
            user: "eva".into(),
            host: "desk.example.org".into(),
        };
        let tag = lock.tag("demo");
        assert_eq!(tag, "cluster-lock:demo:1764250000:0badcafe:up:eva:desk-example-org");
        assert!(is_tag(&tag) && is_lock_tag("demo", &tag) && !is_lock_tag("dem", &tag));
        assert_eq!(LockTag::parse("demo", &tag).unwrap().host, "desk-example-org");
        assert_eq!(LockTag::parse("demo", "cluster-lock:demo:soon:x:up:eva:desk"), None);
    }

    #[test]
    fn other_clusters_and_other_spellings_are_not_ours() {
        for tag in
            ["cluster:demo", "cluster-ip:demo2:1-2-3-4", "cluster-ip:demo:1-2-3", "cluster-ip:demo:01-2-3-4"]
        {
            assert_eq!(recorded_address("demo", tag), None, "{tag}");
        }
        assert!(!is_tag("a.b") && !is_tag("") && is_tag("cluster-ip:demo:1-2-3-4"));
    }
}
