//! Values of variables, each with the place where it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of a file, from 1.
    Line(Arc<Path>, u64),
    /// An inventory as a whole.
    Whole(Arc<Path>),
    /// The option `-e`.
    CommandLine,
}

impl Place {
    /// The file's name, or the option.
    pub fn file(&self) -> &Path {
        match self {
            Place::Line(file, _) | Place::Whole(file) => file,
            Place::CommandLine => Path::new("-e"),
        }
    }

    pub fn line(&self) -> Option<u64> {
        match self {
            Place::Line(_, line) => Some(*line),
            Place::Whole(_) | Place::CommandLine => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file().display())?;
        self.line().map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// The value of a variable.
#[derive(Clone, PartialEq)]
pub struct Value {
    pub data: Data,
    pub place: Place,
}

/// What a value is.
#[derive(Clone, PartialEq)]
pub enum Data {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// Text that is no Jinja expression, whatever it looks like: Ansible's `!unsafe`.
    Unsafe(String),
    List(Vec<Value>),
    /// Each key once, in the order of the file.
    Map(Vec<(String, Value)>),
    /// Encrypted with Ansible Vault.
    Vault,
}

/// The variables of a host, a group or a file, by name.
pub type Vars = BTreeMap<String, Value>;

/// Why a value cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Vault,
    Template,
}

/// The value may be a password.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.place)
    }
}

impl Value {
    pub(super) fn new(data: Data, place: &Place) -> Value {
        Value { data, place: place.clone() }
    }

    pub(super) fn text(text: impl Into<String>, place: &Place) -> Value {
        Value::new(Data::Text(text.into()), place)
    }

    /// The value without its places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.data {
            Data::Null | Data::Vault => serde_json::Value::Null,
            Data::Bool(on) => (*on).into(),
            Data::Integer(number) => (*number).into(),
            Data::Float(number) => (*number).into(),
            Data::Text(text) | Data::Unsafe(text) => text.as_str().into(),
            Data::List(items) => items.iter().map(Value::to_json).collect(),
            Data::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }

    /// What a single value is in words: none for a list, a mapping, nothing, and what is encrypted.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.data {
            Data::Bool(on) => Some(on.to_string()),
            Data::Integer(number) => Some(number.to_string()),
            Data::Float(number) => Some(number.to_string()),
            Data::Text(text) | Data::Unsafe(text) => Some(text.clone()),
            Data::Null | Data::Vault | Data::List(_) | Data::Map(_) => None,
        }
    }

    /// A truth value in any of the forms that Ansible accepts.
    pub(super) fn truth(&self) -> Option<bool> {
        match self.scalar()?.to_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "t" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "f" | "0" => Some(false),
            _ => None,
        }
    }

    /// Whether two values are the same, wherever they stand: `15` in YAML is a number, and with `-e` text.
    pub(super) fn same(&self, other: &Value) -> bool {
        match (&self.data, &other.data) {
            (Data::List(ours), Data::List(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(our, their)| our.same(their))
            }
            (Data::Map(ours), Data::Map(theirs)) => {
                let is_in_theirs = |(name, our): &(String, Value)| {
                    theirs.iter().any(|(key, their)| key == name && our.same(their))
                };
                ours.len() == theirs.len() && ours.iter().all(is_in_theirs)
            }
            _ => match (self.scalar(), other.scalar()) {
                (Some(our), Some(their)) => our == their,
                _ => self.data == other.data,
            },
        }
    }

    /// Whether this is a list or a mapping.
    pub(super) fn is_several(&self) -> bool {
        matches!(self.data, Data::List(_) | Data::Map(_))
    }

    /// The value with its text as it is, without Jinja expressions.
    pub(super) fn made_unsafe(self) -> Value {
        let data = match self.data {
            Data::Text(text) => Data::Unsafe(text),
            Data::List(items) => Data::List(items.into_iter().map(Value::made_unsafe).collect()),
            Data::Map(entries) => {
                Data::Map(entries.into_iter().map(|(name, value)| (name, value.made_unsafe())).collect())
            }
            data => data,
        };
        Value { data, place: self.place }
    }

    /// The first part that is encrypted or a Jinja expression.
    pub(super) fn closed(&self) -> Option<(Closed, &Place)> {
        match &self.data {
            Data::Vault => Some((Closed::Vault, &self.place)),
            Data::Text(text) if text.trim_start().starts_with(VAULT) => Some((Closed::Vault, &self.place)),
            Data::Text(text) if text.contains("{{") || text.contains("{%") => {
                Some((Closed::Template, &self.place))
            }
            Data::List(items) => items.iter().find_map(Value::closed),
            Data::Map(entries) => entries.iter().find_map(|(_, value)| value.closed()),
            _ => None,
        }
    }
}

/// The beginning of what Ansible Vault has encrypted.
pub(super) const VAULT: &str = "$ANSIBLE_VAULT;";
