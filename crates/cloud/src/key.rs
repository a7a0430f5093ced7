//! The operator's public key at the provider.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::client::Client;
use crate::error::Error;
use crate::model::SshKey;
use crate::{Ensured, names};

/// The fingerprint by which DigitalOcean knows a key: MD5 of the decoded blob, colon-separated hex. `None` if the
/// line is not an OpenSSH public key.
pub fn fingerprint(public_key: &str) -> Option<String> {
    let blob = STANDARD.decode(public_key.split_whitespace().nth(1)?).ok()?;
    // A blob begins with the length and name of its type; anything else is not a key.
    let length = usize::try_from(u32::from_be_bytes(*blob.first_chunk()?)).ok()?;
    let kind = blob.get(4..4 + length)?;
    (kind == public_key.split_whitespace().next()?.as_bytes())
        .then(|| Md5::digest(&blob).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

/// Whether a key of the account was registered by us for this cluster. Others are used, and never deleted.
pub fn is_ours(cluster: &str, key: &SshKey) -> bool {
    key.name == names::ssh_key(cluster)
}

/// How many times a registration is asked for anew after its answer was lost.
const CREATE_ROUNDS: usize = 3;

impl Client {
    /// The account's entry for a public key, registered under the cluster's name if there was none. Ask
    /// [`is_ours`] whether it is one to delete later.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if the text is not a public key; otherwise the API's.
    pub async fn ensure_ssh_key(&self, cluster: &str, public_key: &str) -> Result<Ensured<SshKey>, Error> {
        let fingerprint = fingerprint(public_key).ok_or(Error::PublicKey)?;
        if let Some(value) = self.ssh_key(&fingerprint).await? {
            return Ok(Ensured { value, made: false });
        }
        let mut rounds = 0;
        loop {
            rounds += 1;
            let error = match self.create_ssh_key(&names::ssh_key(cluster), public_key).await {
                Ok(value) => return Ok(Ensured { value, made: true }),
                Err(error) => error,
            };
            // Lost answer, or "already in use": either way the account may have it by now.
            let lost = matches!(error, Error::MaybeHappened { .. });
            if !lost && error.status() != Some(422) {
                return Err(error);
            }
            if let Some(value) = self.ssh_key(&fingerprint).await? {
                return Ok(Ensured { made: is_ours(cluster, &value), value });
            }
            if !lost || rounds == CREATE_ROUNDS {
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // ssh-keygen -l -E md5
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMnGVnuFY03xwlYQ0fy5mjru7MQ00s7lXvh1vqKmuDpm test";
        let print = "d2:0c:21:e7:2b:26:a1:72:95:85:24:39:ae:fe:08:66";
        assert_eq!(fingerprint(key).as_deref(), Some(print));
        for bad in
            ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa AAAAC3NzaC1lZDI1NTE5", "ssh-ed25519 AAAA/////w=="]
        {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }
}
