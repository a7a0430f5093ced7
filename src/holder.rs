//! Who works on the cluster: what the cluster's lock names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A run that holds the cluster's lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its command, for instance `up`.
    pub command: String,
    /// Who runs it, as user@host.
    pub by: String,
    /// Its process there; none where that is not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    pub since: Timestamp,
}

impl Holder {
    /// This process, from now on.
    pub fn here(command: &str) -> Holder {
        let named = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let user = named("USER").or_else(|| named("LOGNAME"));
        let uid = rustix::process::getuid().as_raw().to_string();
        let user = user.or_else(|| named_in_passwd(&uid)).unwrap_or_else(|| format!("uid-{uid}"));
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("localhost");
        Holder {
            command: command.to_owned(),
            by: format!("{user}@{host}"),
            process: Some(std::process::id()),
            since: Timestamp::now(),
        }
    }

    /// For a person.
    pub fn words(&self) -> String {
        let process = self.process.map_or(String::new(), |process| format!(" (process {process})"));
        format!("`cluster {}` of {}{process}, since {}", self.command, self.by, self.since.strftime("%F %TZ"))
    }
}

/// The name of a user whose environment does not have it.
fn named_in_passwd(uid: &str) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found == uid).then(|| name.to_owned())
    })
}
