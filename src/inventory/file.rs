//! The inventory's YAML syntax, without validation.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::de::Unexpected;
use serde::{Deserialize, Deserializer};

use super::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) cluster: String,
    pub(super) provider: Provider,
    pub(super) postgresql: Postgresql,
    #[serde(default)]
    pub(super) failover: Failover,
    pub(super) backup: Option<Backup>,
    #[serde(default)]
    pub(super) databases: Vec<Database>,
    #[serde(default)]
    pub(super) extensions: Vec<Extension>,
    #[serde(default)]
    pub(super) users: Vec<User>,
    #[serde(default)]
    pub(super) clients: Vec<String>,
    #[serde(default = "yes")]
    pub(super) client_tls: bool,
    pub(super) nodes: Vec<Node>,
}

/// Exactly one of these; a map rather than a tag, so that the parser still knows the lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) digitalocean: Option<DigitalOcean>,
    pub(super) existing: Option<Existing>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DigitalOcean {
    pub(super) api_url: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) failover_token_file: Option<PathBuf>,
    pub(super) region: String,
    pub(super) size: String,
    pub(super) image: String,
    pub(super) ssh_key: Option<PathBuf>,
    pub(super) vpc: Option<String>,
    #[serde(default = "yes")]
    pub(super) floating_ip: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Existing {
    pub(super) ssh_user: Option<String>,
    pub(super) ssh_key: Option<PathBuf>,
    pub(super) ssh_port: Option<Number<u16>>,
    pub(super) ssh_jump: Option<String>,
    pub(super) ssh_proxy_command: Option<String>,
    pub(super) floating_ip: Option<FloatingIp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FloatingIp {
    pub(super) address: String,
    pub(super) api_url: Option<String>,
    pub(super) failover_token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgresql {
    pub(super) version: Number<u32>,
    pub(super) port: Option<Number<u16>>,
    #[serde(default = "yes")]
    pub(super) tune: bool,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failover {
    pub(super) lease: Option<Scalar>,
    pub(super) lag_limit: Option<Scalar>,
}

/// Exactly one repository, and how often and for how long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    pub(super) spaces: Option<Spaces>,
    pub(super) s3: Option<S3>,
    pub(super) path: Option<String>,
    pub(super) folder: Option<String>,
    pub(super) keep: Option<Scalar>,
    pub(super) full_every: Option<Scalar>,
    pub(super) differential_every: Option<Scalar>,
    pub(super) archive_within: Option<Scalar>,
    pub(super) prove_every: Option<Scalar>,
    pub(super) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spaces {
    pub(super) bucket: String,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3 {
    pub(super) endpoint: String,
    pub(super) region: String,
    pub(super) bucket: String,
    pub(super) ca: Option<PathBuf>,
    #[serde(default)]
    pub(super) path_style: bool,
    pub(super) credentials_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) owner: Option<String>,
}

/// A name, or a mapping.
#[derive(Debug)]
pub(super) struct Extension {
    /// Whether it is a name alone.
    pub(super) is_name: bool,
    pub(super) name: String,
    pub(super) package: Option<String>,
    pub(super) library: Option<String>,
    pub(super) databases: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtensionKeys {
    name: String,
    package: Option<String>,
    library: Option<String>,
    databases: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Extension;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(NAME_OR_KEYS)
            }
            fn visit_str<E>(self, name: &str) -> Result<Extension, E> {
                let (package, library, databases) = (None, None, None);
                Ok(Extension { is_name: true, name: name.to_owned(), package, library, databases })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Extension, A::Error> {
                let it = ExtensionKeys::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let ExtensionKeys { name, package, library, databases } = it;
                Ok(Extension { is_name: false, name, package, library, databases })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Option<Password>,
    #[serde(default)]
    pub(super) superuser: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) id: Number<u32>,
    pub(super) role: String,
    pub(super) address: Option<String>,
    pub(super) connection_host: Option<String>,
    pub(super) host_key: Option<String>,
    pub(super) droplet_id: Option<Number<u64>>,
    pub(super) ssh_port: Option<Number<u16>>,
    pub(super) ssh_jump: Option<String>,
    pub(super) ssh_proxy_command: Option<String>,
}

fn yes() -> bool {
    true
}

/// A value that a person may write with or without quotes: `200`, `on`, `16MB`, `0.9`.
#[derive(Clone)]
pub(super) struct Scalar(pub(super) String);

/// The value may be a password.
impl std::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scalar(..)")
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, a number, or on/off")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_bool<E>(self, on: bool) -> Result<Scalar, E> {
                Ok(Scalar(if on { "on" } else { "off" }.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A whole number, with or without quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<T>(pub(super) T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<T: TryFrom<u64>> serde::de::Visitor<'_> for Visitor<T> {
            type Value = Number<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Number<T>, E> {
                let too_large = |_| E::invalid_value(Unexpected::Unsigned(number), &SMALLER);
                T::try_from(number).map(Number).map_err(too_large)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number<T>, E> {
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(E::invalid_type(Unexpected::Str(text), &self));
                }
                match text.parse() {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &SMALLER)),
                }
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

/// A password, which must stand in quotes if it could be read as something else: `012345`, `1e6` and `yes` would
/// silently become another password. It is neither printed nor quoted in a message.
#[derive(Clone)]
pub(super) struct Password(pub(super) String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_yaml::Value::deserialize(deserializer)? {
            serde_yaml::Value::String(text) => Ok(Password(text)),
            _ => Err(serde::de::Error::custom(UNQUOTED)),
        }
    }
}

const UNKNOWN: &str = "is not a known key";
const UNQUOTED: &str = "is not a string in YAML";
const NAME_OR_KEYS: &str = "a name, or a mapping";
const SMALLER: &str = "a smaller whole number";

/// Reads the YAML. Every key that is not known is told; a file that has more wrong with its shape than that is none.
pub(super) fn parse(text: &str) -> (Option<File>, Vec<Problem>) {
    match serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(file) => (Some(file), Vec::new()),
        Err(error) => match serde_yaml::from_str(text) {
            Ok(value) => without_unknown_keys(value, told(error)),
            Err(_) => (None, vec![told(error)]),
        },
    }
}

/// The same, of YAML that has been read, or was never written.
pub(super) fn parse_value(value: serde_yaml::Value) -> (Option<File>, Vec<Problem>) {
    match serde_path_to_error::deserialize(value.clone()) {
        Ok(file) => (Some(file), Vec::new()),
        Err(error) => without_unknown_keys(value, told(error)),
    }
}

/// One unknown key hides the next, and everything else: it is taken out, and the rest is read again.
fn without_unknown_keys(mut value: serde_yaml::Value, first: Problem) -> (Option<File>, Vec<Problem>) {
    let mut problems = vec![first];
    while problems
        .last()
        .is_some_and(|problem| problem.message == UNKNOWN && take_out(&mut value, &problem.key))
    {
        match serde_path_to_error::deserialize(value.clone()) {
            Ok(file) => return (Some(file), problems),
            Err(error) => problems.push(told(error)),
        }
    }
    (None, problems)
}

/// Removes the key at this path; returns whether it existed.
fn take_out(value: &mut serde_yaml::Value, path: &str) -> bool {
    let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = value;
    for part in above.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let next = match part.parse::<usize>() {
            Ok(index) => at.get_mut(index),
            Err(_) => at.get_mut(part),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    at.as_mapping_mut().is_some_and(|mapping| mapping.remove(key).is_some())
}

/// serde's error, with the key's path and a hint.
fn told(error: serde_path_to_error::Error<serde_yaml::Error>) -> Problem {
    let path = error.path().to_string();
    let inner = error.into_inner();
    let line = inner.location().map(|location| location.line() as u64);
    let message = inner.to_string();
    // The location is ours to print; the parser repeats it, and the path, in its text.
    let message = message.split(" at line ").next().unwrap_or(&message);
    let key = path.trim_matches(['.', '?']);
    let mut above = key;
    while let Some(end) = above.rfind(['.', '[']) {
        above = &above[..end];
        if let Some((_, rest)) = message.split_once(": ").filter(|(path, _)| path.starts_with(above)) {
            return problem(key, line, rest);
        }
    }
    problem(key, line, message.strip_prefix(&format!("{key}: ")).unwrap_or(message))
}

/// serde's words, as a person would say them. A value is never repeated: it may be a password in the wrong place.
fn problem(key: &str, line: Option<u64>, message: &str) -> Problem {
    let mut key = key.to_owned();
    let (message, hint) = if message == UNQUOTED {
        (message.to_owned(), "put the password in quotes to keep it as it is written".to_owned())
    } else if let Some(rest) = message.strip_prefix("unknown field `") {
        let (unknown, known) = rest.split_once('`').unwrap_or((rest, ""));
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        (UNKNOWN.to_owned(), did_you_mean(unknown, &known))
    } else if let Some(missing) = message.strip_prefix("missing field ") {
        (
            format!("{missing} is missing"),
            "add the key; `cluster up --help` shows the smallest inventory".to_owned(),
        )
    } else if let Some((_, expected)) =
        message.strip_prefix("invalid ").and_then(|rest| rest.split_once(", expected "))
    {
        let (message, hint) = must_be(expected);
        match key.is_empty() {
            true => (
                format!("an inventory {message}"),
                format!("{hint}; `cluster up --help` shows the smallest inventory"),
            ),
            false => (message, hint),
        }
    } else {
        key = String::new();
        let hint = "indent with spaces, and close every quote, bracket and brace";
        (format!("this is not YAML: {message}"), hint.to_owned())
    };
    Problem { file: None, key, line, message, hint: Some(hint) }
}

fn must_be(expected: &str) -> (String, String) {
    let (what, hint) = match expected {
        "a sequence" => ("a list", "write items that begin with `- ` under the key"),
        "a string" | "path string" => ("a string", "put it in quotes"),
        "a boolean" => ("true or false", "write it without quotes"),
        "a whole number" => (expected, "write digits only"),
        NAME_OR_KEYS => (expected, "write `- vector`, or `- {name: vector, databases: [app]}`"),
        SMALLER => (expected, "ports end at 65535, ids at 2147483647"),
        "a string, a number, or on/off" => (expected, "write one value on one line"),
        // The structs of this file.
        _ => ("a mapping", "write `key: value` lines"),
    };
    (format!("must be {what}"), hint.to_owned())
}

/// The key that was probably meant, or all valid keys.
fn did_you_mean(unknown: &str, known: &[&str]) -> String {
    let likeness = |known: &str| similar::TextDiff::from_chars(unknown, known).ratio();
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(nearest) if likeness(nearest) > 0.7 => format!("did you mean `{nearest}`?"),
        _ => format!("the valid keys are {}", known.join(", ")),
    }
}
