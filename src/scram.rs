//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), as PostgreSQL keeps them: passwords reach a server only in this form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// PostgreSQL's own number of rounds.
const ITERATIONS: u32 = 4096;

/// A new verifier for `password`.
///
/// # Panics
/// When the operating system has no random numbers.
pub fn verifier(password: &SecretString) -> String {
    let mut salt = [0u8; 16];
    getrandom::fill(&mut salt).expect("the operating system has random numbers");
    verifier_with(password, &salt, ITERATIONS)
}

/// Whether `verifier` is one of `password`.
pub fn verifies(verifier: &str, password: &SecretString) -> bool {
    let parts = || {
        let (head, _) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        Some((iterations.parse().ok()?, STANDARD.decode(salt).ok()?))
    };
    parts().is_some_and(|(iterations, salt)| verifier_with(password, &salt, iterations) == verifier)
}

/// SASLprep (RFC 4013), as PostgreSQL and libpq do it: a password that it forbids is taken as it stands.
fn prepared(password: &str) -> Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password))
}

/// The verifier for `password` with this salt and this many rounds.
///
/// # Panics
/// Never: HMAC takes a key of any length.
pub fn verifier_with(password: &SecretString, salt: &[u8], iterations: u32) -> String {
    let mut salted = [0u8; 32];
    let password = prepared(password.expose_secret());
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut salted);
    let mac = |text: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&salted).expect("HMAC takes a key of any length");
        mac.update(text);
        mac.finalize().into_bytes()
    };
    let stored = Sha256::digest(mac(b"Client Key"));
    let server = mac(b"Server Key");
    let [salt, stored, server] =
        [salt, stored.as_slice(), server.as_slice()].map(|bytes| STANDARD.encode(bytes));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_verifies_its_own_password_and_no_other() {
        let made = verifier(&"correct horse".into());
        assert!(verifies(&made, &"correct horse".into()));
        assert!(!verifies(&made, &"battery staple".into()));
        assert!(!verifies("md5abc", &"correct horse".into()));
    }

    #[test]
    fn passwords_are_prepared_as_a_server_and_its_clients_do_it() {
        let same =
            |a: &str, b: &str| verifier_with(&a.into(), b"salt", 1) == verifier_with(&b.into(), b"salt", 1);
        assert!(same("pass\u{a0}word", "pass word"), "a space of another kind");
        assert!(same("cafe\u{301}", "caf\u{e9}"), "composed and decomposed");
        assert!(same("\u{fb03}", "ffi") && same("soft\u{ad}hyphen", "softhyphen"));
        assert!(!same("tab\there", "tab here"), "what is forbidden stays as it is");
    }

    /// The example of RFC 7677, section 3: user `user`, password `pencil`; the keys follow from its salt and rounds.
    #[test]
    fn the_salt_of_the_rfc_gives_the_same_verifier_as_postgresql() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            verifier_with(&"pencil".into(), &salt, 4096),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}
