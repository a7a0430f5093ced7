//! What of an inventory may be shown. A password may stand under a misspelled key, in a mapping in place of a list, or in
//! plain text where a file's name belongs: a value is shown where the schema has its key, and has one value there.

use serde_json::Value;
use serde_yaml::Value as Yaml;

/// Stands for a value that an inventory of this program needs and does not have. No check accepts it.
pub(super) const MISSING: &str = "???";

/// A part of an inventory, with what the schema has there.
#[derive(Clone)]
pub struct Part<'a> {
    schema: &'a Value,
    forms: Vec<&'a Value>,
    /// What is told in place of a value, where none is shown.
    instead: Option<&'static str>,
}

const A_PASSWORD: &str = "(a password)";
const NOT_SHOWN: &str = "(not shown)";

impl<'a> Part<'a> {
    /// A whole inventory.
    pub fn whole(schema: &'a Value) -> Part<'a> {
        Part { schema, forms: vec![schema], instead: None }
    }

    /// What stands under a key.
    pub fn key(&self, name: &str) -> Part<'a> {
        let instead = is_secret(name).then_some(NOT_SHOWN);
        let found = self.forms.iter().copied().filter_map(|form| {
            let other = || form.get("additionalProperties").filter(|it| it.is_object());
            form["properties"].get(name).or_else(other)
        });
        self.below(found.collect(), instead)
    }

    /// An item of a list.
    pub fn item(&self) -> Part<'a> {
        self.below(self.forms.iter().copied().filter_map(|form| form.get("items")).collect(), None)
    }

    fn below(&self, found: Vec<&'a Value>, instead: Option<&'static str>) -> Part<'a> {
        let mut part = Part { schema: self.schema, forms: Vec::new(), instead: self.instead.or(instead) };
        found.into_iter().for_each(|form| part.add(form));
        part
    }

    fn add(&mut self, form: &'a Value) {
        if let Some(name) = form["$ref"].as_str().and_then(|path| path.strip_prefix("#/definitions/")) {
            if name == "Password" {
                self.instead = Some(A_PASSWORD);
            }
            self.add(&self.schema["definitions"][name]);
        } else if let Some(several) =
            form.get("anyOf").or_else(|| form.get("allOf")).and_then(Value::as_array)
        {
            several.iter().for_each(|form| self.add(form));
        } else {
            self.forms.push(form);
        }
    }

    /// What is shown of a value that stands here and has no others below it.
    pub fn shown(&self, value: &Yaml) -> Value {
        let text = value.as_str().unwrap_or_default();
        if value.is_null() || text == MISSING {
            return serde_json::to_value(value).unwrap_or_default();
        }
        if let Some(instead) = self.instead {
            return instead.into();
        }
        let is_single = value.is_string() || value.is_bool() || value.is_number();
        if !is_single || !self.forms.iter().any(|form| has_one_value(form)) || has_secret(text) {
            return NOT_SHOWN.into();
        }
        serde_json::to_value(value).unwrap_or_default()
    }
}

/// Whether a form is that of a single value, of whichever kind.
fn has_one_value(form: &Value) -> bool {
    const KINDS: &[&str] = &["string", "number", "integer", "boolean"];
    let is_kind = |name: &Value| name.as_str().is_some_and(|name| KINDS.contains(&name));
    form["type"].as_array().map_or_else(|| is_kind(&form["type"]), |names| names.iter().any(is_kind))
}

/// Settings of PostgreSQL whose names sound like a secret.
const HARMLESS: &[&str] = &["password_encryption", "md5_password_warnings"];

/// Whether the name is that of a secret, and not of a file that holds one.
fn is_secret(name: &str) -> bool {
    const WORDS: &[&str] = &["pass", "secret", "token", "access_key", "private_key", "api_key", "credential"];
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
        && !name.ends_with("_file")
        && !HARMLESS.contains(&name.as_str())
}

/// Whether a text has a password in it, or a private key: in a command, a connection string or a URL.
fn has_secret(text: &str) -> bool {
    const WORDS: &[&str] = &["private key-----", "password=", "passwd=", "sshpass "];
    let lower = text.to_lowercase();
    let login = |word: &str| {
        let (is_url, word) = word.split_once("://").map_or((false, word), |(_, rest)| (true, rest));
        let login = word.rsplit_once('@').map_or("", |(login, _)| login);
        // `%r:%u@%d` is the beginning of a log's lines.
        login.contains(':') && (is_url || !login.contains('%'))
    };
    WORDS.iter().any(|word| lower.contains(word)) || text.split([' ', ',']).any(login)
}

/// A value in a message.
pub(super) fn quoted(text: &str) -> String {
    if has_secret(text) { "the value".into() } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::inventory::schema;

    fn shown(path: &[&str], value: &str) -> Value {
        let schema = schema();
        let mut part = Part::whole(&schema);
        for name in path {
            part = if *name == "-" { part.item() } else { part.key(name) };
        }
        part.shown(&serde_yaml::from_str(value).unwrap())
    }

    #[test]
    fn values_of_known_keys_are_shown() {
        for (path, value, wanted) in [
            (&["cluster"][..], "demo", json!("demo")),
            (&["postgresql", "version"], "15", json!(15)),
            (&["postgresql", "settings", "password_encryption"], "scram-sha-256", json!("scram-sha-256")),
            (&["postgresql", "settings", "log_line_prefix"], "'%t:%r:%u@%d '", json!("%t:%r:%u@%d ")),
            (&["users", "-", "name"], "app", json!("app")),
            (&["users", "-", "superuser"], "true", json!(true)),
            (&["extensions", "-"], "vector", json!("vector")),
            (&["extensions", "-", "databases", "-"], "app", json!("app")),
            (&["backup", "passphrase_file"], "a", json!("a")),
            (
                &["backup", "s3", "endpoint"],
                "https://s3.example.com:9000",
                json!("https://s3.example.com:9000"),
            ),
            (&["provider", "existing", "ssh_jump"], "a@b:22,c@d:22", json!("a@b:22,c@d:22")),
            (&["provider", "existing", "ssh_proxy_command"], "nc %h %p", json!("nc %h %p")),
            (&["users"], "'???'", json!(MISSING)),
        ] {
            assert_eq!(shown(path, value), wanted, "{path:?}");
        }
    }

    #[test]
    fn what_could_be_a_secret_is_not() {
        assert_eq!(shown(&["users", "-", "password"], "hunter2"), json!(A_PASSWORD));
        for (path, value) in [
            (&["user", "-", "password"][..], "hunter2"),
            (&["users", "app", "password"], "hunter2"),
            (&["users", "app"], "hunter2"),
            (&["users", "-"], "hunter2"),
            (&["users"], "hunter2"),
            (&["users", "-", "pasword"], "123456"),
            (&["users", "-", "name", "password"], "hunter2"),
            (&["backup", "passphrase"], "hunter2"),
            (&["backup", "passphrase_file", "text"], "hunter2"),
            (&["backup", "s3", "secret_key"], "hunter2"),
            (&["provider", "digitalocean", "token"], "hunter2"),
            (&["provider", "existing", "floating_ip", "token"], "hunter2"),
            (&["clients", "-", "hunter2"], "hunter2"),
            (&["postgresql", "settings", "vault.secret"], "hunter2"),
            (&["postgresql", "settings", "primary_conninfo"], "host=a password=hunter2"),
            (&["provider", "existing", "ssh_jump"], "a:hunter2@b"),
            (&["provider", "existing", "ssh_proxy_command"], "sshpass -p hunter2 ssh -W %h:%p a"),
            (&["provider", "digitalocean", "api_url"], "https://a:hunter2@example.com"),
            (&["provider", "digitalocean", "api_url"], "https://a:hunter%402@example.com"),
            (&["nodes", "-", "ssh_key"], "\"-----BEGIN OPENSSH PRIVATE KEY-----\\nhunter2\""),
        ] {
            assert_eq!(shown(path, value), json!(NOT_SHOWN), "{path:?}");
        }
    }
}
