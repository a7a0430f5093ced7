//! The inventory's YAML syntax, without validation.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Unexpected;
use serde::{Deserialize, Deserializer};

use super::Problem;

/// An inventory of cluster: one PostgreSQL cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "cluster inventory")]
pub(super) struct File {
    /// Name of the cluster: lower-case letters, digits and dashes. It cannot be changed later.
    pub(super) cluster: String,
    /// Where the hosts come from: exactly one of the two.
    pub(super) provider: Provider,
    /// PostgreSQL's version, port and settings.
    pub(super) postgresql: Postgresql,
    /// When another node takes over.
    #[serde(default)]
    pub(super) failover: Failover,
    /// Where backups go; without it there are none.
    pub(super) backup: Option<Backup>,
    /// Databases that applications need.
    #[serde(default)]
    pub(super) databases: Vec<Database>,
    /// Extensions of PostgreSQL: names, or mappings.
    #[serde(default)]
    pub(super) extensions: Vec<Extension>,
    /// Roles that applications log in with.
    #[serde(default)]
    pub(super) users: Vec<User>,
    /// Who may connect: addresses, networks in CIDR notation, or `auto` for the operator's own address.
    #[serde(default)]
    pub(super) clients: Vec<String>,
    /// Whether clients must use TLS; default: true.
    #[serde(default = "yes")]
    pub(super) client_tls: bool,
    /// The nodes: one primary, any number of standbys, at most one witness.
    pub(super) nodes: Vec<Node>,
}

/// Where the hosts come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Provider {
    /// Droplets, which `cluster up` creates.
    pub(super) digitalocean: Option<DigitalOcean>,
    /// Hosts that exist, named by address.
    pub(super) existing: Option<Existing>,
}

/// Droplets of DigitalOcean.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DigitalOcean {
    /// Base URL of the API; default: DIGITALOCEAN_API_URL, then DigitalOcean's.
    pub(super) api_url: Option<String>,
    /// File with the operator's token; default: DIGITALOCEAN_TOKEN, then DIGITALOCEAN_ACCESS_TOKEN.
    pub(super) token_file: Option<PathBuf>,
    /// File with the nodes' token, which moves the floating IP; default: DIGITALOCEAN_FAILOVER_TOKEN.
    pub(super) failover_token_file: Option<PathBuf>,
    /// Region slug, for instance fra1.
    pub(super) region: String,
    /// Size slug of nodes that name no other, for instance s-1vcpu-1gb. A changed one resizes droplets.
    pub(super) size: String,
    /// Image slug of Debian or Ubuntu, of nodes that name no other; default: debian-13-x64.
    pub(super) image: Option<String>,
    /// Whether a droplet that is resized gets the disk of its new size, which cannot be undone; default: false.
    #[serde(default)]
    pub(super) resize_disk: bool,
    /// Private key file with its .pub beside it; default: a key generated for the cluster.
    pub(super) ssh_key: Option<PathBuf>,
    /// Id of a VPC in the region; default: the region's default VPC.
    pub(super) vpc: Option<String>,
    /// Whether to use a floating IP; default: true.
    #[serde(default = "yes")]
    pub(super) floating_ip: bool,
}

/// Hosts that exist.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Existing {
    /// User to log in as: root, or one that may `sudo -n`; default: root.
    pub(super) ssh_user: Option<String>,
    /// Private key file; default: ssh's own choice.
    pub(super) ssh_key: Option<PathBuf>,
    /// Port of SSH; default: 22.
    pub(super) ssh_port: Option<Number<u16>>,
    /// Host to reach the nodes through, as `[user@]host[:port]`.
    pub(super) ssh_jump: Option<String>,
    /// Command that connects standard input and output to a node's SSH port.
    pub(super) ssh_proxy_command: Option<String>,
    /// A floating IP that leads to these hosts.
    pub(super) floating_ip: Option<FloatingIp>,
}

/// A floating IP that exists.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FloatingIp {
    /// The address.
    pub(super) address: String,
    /// Base URL of the API that moves it, as the nodes see it.
    pub(super) api_url: Option<String>,
    /// File with the token that may move it; default: DIGITALOCEAN_FAILOVER_TOKEN.
    pub(super) failover_token_file: Option<PathBuf>,
}

/// PostgreSQL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgresql {
    /// Major version. It cannot be changed later.
    pub(super) version: Number<u32>,
    /// Port; default: 5432. It cannot be changed later.
    pub(super) port: Option<Number<u16>>,
    /// Whether settings that the inventory does not name are fitted to each host; default: true.
    #[serde(default = "yes")]
    pub(super) tune: bool,
    /// Settings of postgresql.conf, on every node.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, Scalar>,
}

/// When another node takes over.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Failover {
    /// How long the right to take writes lasts, and so how long a failover may take; default: 9s.
    pub(super) lease: Option<Scalar>,
    /// How much WAL a standby that takes over may lack at most; default: 16MB.
    pub(super) lag_limit: Option<Scalar>,
}

/// A backup repository: exactly one of `spaces`, `s3` and `path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    /// A bucket of DigitalOcean Spaces, made with a key for it alone.
    pub(super) spaces: Option<Spaces>,
    /// A bucket of any S3-compatible object storage.
    pub(super) s3: Option<S3>,
    /// A directory that every data node has mounted.
    pub(super) path: Option<String>,
    /// Folder in the bucket; default: the cluster's name.
    pub(super) folder: Option<String>,
    /// How long backups are kept.
    pub(super) keep: Option<Scalar>,
    /// How often a full backup is taken.
    pub(super) full_every: Option<Scalar>,
    /// How often a differential backup is taken.
    pub(super) differential_every: Option<Scalar>,
    /// How soon WAL is archived while there are writes.
    pub(super) archive_within: Option<Scalar>,
    /// How often a backup is restored beside a standby.
    pub(super) prove_every: Option<Scalar>,
    /// File with the passphrase that encrypts the repository; default: one that is generated.
    pub(super) passphrase_file: Option<PathBuf>,
}

/// A bucket of DigitalOcean Spaces.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Spaces {
    /// Name of the bucket.
    pub(super) bucket: String,
    /// Region of the bucket; default: the droplets'.
    pub(super) region: Option<String>,
    /// Endpoint, if it is not DigitalOcean's.
    pub(super) endpoint: Option<String>,
    /// File with the CA of the endpoint, if it is not a public one.
    pub(super) ca: Option<PathBuf>,
    /// Address of the endpoint as the nodes see it, if its name cannot be resolved.
    pub(super) address: Option<String>,
}

/// A bucket of S3-compatible object storage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct S3 {
    /// Endpoint, as https://host[:port].
    pub(super) endpoint: String,
    /// Region.
    pub(super) region: String,
    /// Name of the bucket.
    pub(super) bucket: String,
    /// File with the CA of the endpoint, if it is not a public one.
    pub(super) ca: Option<PathBuf>,
    /// Whether the bucket stands in the path and not in the host name; default: false.
    #[serde(default)]
    pub(super) path_style: bool,
    /// File with the access key and the secret key; default: the environment.
    pub(super) credentials_file: Option<PathBuf>,
}

/// A database that applications need.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    /// Its name.
    pub(super) name: String,
    /// The role that owns it; default: the only one under `users`.
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

/// An extension, with what is not known of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExtensionKeys {
    /// Its name in `create extension`.
    name: String,
    /// The package that has it, where that is not known.
    package: Option<String>,
    /// The library that must be loaded when PostgreSQL starts.
    library: Option<String>,
    /// The databases that get it; default: all under `databases`.
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

impl JsonSchema for Extension {
    fn schema_name() -> Cow<'static, str> {
        "Extension".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<ExtensionKeys>();
        json_schema!({"anyOf": [{"type": "string"}, keys]})
    }
}

/// A role that applications log in with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    /// Its name.
    pub(super) name: String,
    /// Its password, in quotes; default: one that is generated.
    pub(super) password: Option<Password>,
    /// Whether it is a superuser; default: false.
    #[serde(default)]
    pub(super) superuser: bool,
}

/// A node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    /// Host name and repmgr's node name. It cannot be changed later.
    pub(super) name: String,
    /// repmgr's node id. It cannot be changed later.
    pub(super) id: Number<u32>,
    /// The role that it starts with; after a failover the live roles count.
    #[schemars(extend("enum" = ["primary", "standby", "witness"]))]
    pub(super) role: String,
    /// Address for SSH; default: a droplet's public address.
    pub(super) address: Option<String>,
    /// IP address that the other nodes use; default: a droplet's private address, or `address`.
    pub(super) connection_host: Option<String>,
    /// The host's public SSH key; default: looked up in ~/.ssh/known_hosts.
    pub(super) host_key: Option<String>,
    /// For existing hosts, the droplet's id, so that a floating IP can be moved to it.
    pub(super) droplet_id: Option<Number<u64>>,
    /// For droplets: the size slug, in place of the provider's.
    pub(super) size: Option<String>,
    /// For droplets: the image slug, in place of the provider's.
    pub(super) image: Option<String>,
    /// For existing hosts: the user to log in as, in place of the provider's.
    pub(super) ssh_user: Option<String>,
    /// For existing hosts: the private key to log in with, in place of the provider's.
    pub(super) ssh_key: Option<PathBuf>,
    /// For existing hosts: the port of SSH.
    pub(super) ssh_port: Option<Number<u16>>,
    /// For existing hosts: the host to reach it through, or `none`.
    pub(super) ssh_jump: Option<String>,
    /// For existing hosts: the command to reach it with, or `none`.
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

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
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

impl<T: JsonSchema> JsonSchema for Number<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Number_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The library's own has the bounds of its type.
        let number = T::json_schema(generator);
        json_schema!({"anyOf": [number, {"type": "string", "pattern": "^[0-9]+$"}]})
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

impl JsonSchema for Password {
    fn schema_name() -> Cow<'static, str> {
        "Password".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
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
        let hint = match unknown {
            "region" | "vpc" if key.starts_with("nodes[") => format!(
                "set `provider.digitalocean.{unknown}`: a floating IP and a private network do not reach beyond one \
                 region, so all nodes of a cluster share it"
            ),
            _ => did_you_mean(unknown, &known),
        };
        (UNKNOWN.to_owned(), hint)
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
    match nearest(unknown, known) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the valid keys are {}", known.join(", ")),
    }
}

/// What was probably meant.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &str| similar::TextDiff::from_chars(unknown, known).ratio();
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(nearest) > 0.7).then_some(nearest)
}
