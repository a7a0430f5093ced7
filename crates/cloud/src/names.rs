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
    fn other_clusters_and_other_spellings_are_not_ours() {
        for tag in
            ["cluster:demo", "cluster-ip:demo2:1-2-3-4", "cluster-ip:demo:1-2-3", "cluster-ip:demo:01-2-3-4"]
        {
            assert_eq!(recorded_address("demo", tag), None, "{tag}");
        }
        assert!(!is_tag("a.b") && !is_tag("") && is_tag("cluster-ip:demo:1-2-3-4"));
    }
}
