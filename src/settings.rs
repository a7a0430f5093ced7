//! PostgreSQL's settings, as far as this program cares about them: one table. The rendered file, what the inventory may
//! not set, the documentation and the order of restarts follow from it.

pub mod fit;
mod table;

use std::collections::BTreeMap;
use std::sync::LazyLock;

pub use fit::{Fit, Fitting, Machine, Size};
pub use table::SETTINGS;

/// Names of all settings that can stand in a file: name, what a change needs, first and last major version that has it.
/// From `pg_settings` of PostgreSQL 12 to 18.
const NAMES: &str = include_str!("settings/names.txt");

/// What a session of ours sets for itself, whatever the server's defaults are: a default that a standby refuses, or one
/// that waits, must not blind those who look after the cluster. `session.sh` hands it to psql and repmgr.
pub const SESSION: &[(&str, &str)] = &[
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("idle_in_transaction_session_timeout", "0"),
    ("local_preload_libraries", ""),
    ("lock_timeout", "0"),
    ("log_statement", "none"),
    ("search_path", "\"$user\", public"),
    ("session_preload_libraries", ""),
    ("statement_timeout", "0"),
    ("synchronous_commit", "local"),
];

/// The same for the role repmgr, with which the guard and repmgrd log in: all but lists, which no role can have empty.
pub const ROLE: &[(&str, &str)] = &[
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("idle_in_transaction_session_timeout", "0"),
    ("lock_timeout", "0"),
    ("log_statement", "none"),
    ("statement_timeout", "0"),
    ("synchronous_commit", "local"),
];

/// A setting that this program has an opinion of.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    /// The first major version that has it.
    pub since: u32,
    /// The last one.
    pub until: u32,
    /// Whose it is.
    pub class: Class,
    /// The least that works, by the number of nodes.
    pub least: Option<fn(usize) -> usize>,
    /// What else a value must keep to.
    pub bound: Option<Bound>,
    /// Where a standby does not start with less than its primary had: what `pg_controldata` calls it.
    pub control: Option<&'static str>,
    /// Why it is so.
    pub why: &'static str,
}

impl Setting {
    /// Whether the inventory may set it.
    pub fn is_the_inventorys(&self) -> bool {
        matches!(self.class, Class::Default(_) | Class::Free) || self.name == "shared_preload_libraries"
    }
}

/// Whose a setting is.
#[derive(Clone, Copy, Debug)]
pub enum Class {
    /// The cluster does not work with another value.
    Mandatory(Value),
    /// Ours, unless the inventory says otherwise.
    Default(Value),
    /// Left as the packages have it, and not for the inventory to change.
    Blocked,
    /// The inventory's, within the least that works.
    Free,
}

/// What a value must keep to, where PostgreSQL takes more than a failover bears.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// A time from the first to the second, as a person writes them; of a bare number PostgreSQL thinks the third.
    Time(&'static str, &'static str, &'static str),
    /// A number no higher than this.
    Most(i64),
    /// One of these.
    Only(&'static [&'static str]),
}

impl Bound {
    /// What is allowed instead, if the value is not. What is no value at all is for PostgreSQL to refuse.
    pub fn broken_by(self, value: &str) -> Option<String> {
        let value = value.trim();
        match self {
            Bound::Time(least, most, unit) => {
                let millis = |text| millis(text, unit);
                let (given, least_millis, most_millis) = (millis(value)?, millis(least)?, millis(most)?);
                (!(least_millis..=most_millis).contains(&given)).then(|| format!("{least} to {most}"))
            }
            Bound::Most(most) => (value.parse::<i64>().ok()? > most).then(|| format!("at most {most}")),
            Bound::Only(values) => (!values.iter().any(|it| it.eq_ignore_ascii_case(value)))
                .then(|| format!("`{}`", values.join("` or `"))),
        }
    }
}

/// A time as PostgreSQL reads it, in milliseconds.
fn millis(text: &str, unit: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|it| it.is_ascii_digit() || b"+-.".contains(it)).count();
    let (number, own) = text.split_at(digits);
    let unit = if own.trim().is_empty() { unit } else { own.trim() };
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// A value that we set.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// The same everywhere.
    Text(&'static str),
    /// The inventory's port.
    Port,
    Node,
    /// The inventory's, in seconds; 0 without a repository.
    ArchiveTimeout,
    /// repmgr's library, and those of the inventory.
    Libraries,
    /// By the number of nodes.
    Count(fn(usize) -> usize),
    /// By what the host has; none where PostgreSQL's own is right.
    Fitted(fn(&Fit) -> Option<String>),
}

/// What values depend on.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// PostgreSQL's major version.
    pub version: u32,
    /// Its port.
    pub port: u16,
    pub node: &'a str,
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// How often WAL is archived while there are writes, in seconds; 0 without a repository.
    pub archive_within_s: u64,
    /// What the values are fitted to; none where nothing is.
    pub fit: Option<&'a Fit>,
    /// Libraries that extensions need to be loaded at the start.
    pub libraries: &'a [String],
}

/// What a rendered file holds, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What the cluster depends on.
    pub mandatory: Vec<(&'static str, String)>,
    /// Defaults that the inventory leaves as they are.
    pub defaults: Vec<(&'static str, String)>,
    /// What is fitted to the host and left as it is, with the rule.
    pub fitted: Vec<(&'static str, String, &'static str)>,
    /// The inventory's own.
    pub own: Vec<(String, String)>,
}

impl Setting {
    /// Whether this version of PostgreSQL has it.
    pub fn exists_in(&self, version: u32) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

/// What the table says of a setting.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Settings that a standby must not have lower than its primary, with `pg_controldata`'s names for them.
pub fn hot_standby() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.iter().filter_map(|setting| Some((setting.name, setting.control?)))
}

/// The settings of one node.
pub fn render(scope: Scope<'_>, own: &BTreeMap<String, String>) -> Rendered {
    let value = |value: Value| match value {
        Value::Text(text) => text.to_owned(),
        Value::Fitted(rule) => scope.fit.and_then(rule).unwrap_or_default(),
        Value::Port => scope.port.to_string(),
        Value::Node => scope.node.to_owned(),
        Value::ArchiveTimeout => scope.archive_within_s.to_string(),
        Value::Libraries => libraries(scope.libraries, own.get(LIBRARIES).map_or("", String::as_str)),
        Value::Count(count) => count(scope.nodes).to_string(),
    };
    let mut rendered = Rendered::default();
    for setting in SETTINGS.iter().filter(|setting| setting.exists_in(scope.version)) {
        match setting.class {
            Class::Mandatory(it) => rendered.mandatory.push((setting.name, value(it))),
            Class::Default(Value::Fitted(rule)) => {
                let fitted = scope.fit.and_then(rule).filter(|_| !own.contains_key(setting.name));
                rendered.fitted.extend(fitted.map(|fitted| (setting.name, fitted, setting.why)));
            }
            Class::Default(it) if !own.contains_key(setting.name) => {
                rendered.defaults.push((setting.name, value(it)));
            }
            Class::Default(_) | Class::Blocked | Class::Free => {}
        }
    }
    rendered.own = own
        .iter()
        .filter(|(name, _)| *name != LIBRARIES)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    rendered
}

/// What a server is started with for a trial, on an empty data directory below `scratch`: the settings of a node,
/// without what would keep it from starting beside the one that runs.
pub fn trial(scope: Scope<'_>, own: &BTreeMap<String, String>, scratch: &str) -> Vec<(String, String)> {
    let rendered = render(Scope { node: "trial", port: 1, ..scope }, own);
    let fitted = rendered.fitted.into_iter().map(|(name, value, _)| (name, value));
    let settings = rendered.mandatory.into_iter().chain(rendered.defaults).chain(fitted);
    let mut settings: Vec<(String, String)> =
        settings.map(|(name, value)| (name.to_owned(), value)).chain(rendered.own).collect();
    let beside = [
        ("listen_addresses", ""),
        ("unix_socket_directories", scratch),
        // There may be enough of them for one server. What else there may be in its place is for `SETTINGS` to say.
        ("huge_pages", "off"),
    ];
    settings.extend(beside.map(|(name, value)| (name.to_owned(), value.to_owned())));
    settings
}

/// The setting to which the inventory adds, rather than overrides it.
const LIBRARIES: &str = "shared_preload_libraries";

fn libraries(extensions: &[String], own: &str) -> String {
    let mut all = vec!["repmgr"];
    for library in extensions.iter().map(String::as_str).chain(own.split(',').map(str::trim)) {
        if !library.is_empty() && !all.contains(&library) {
            all.push(library);
        }
    }
    all.join(",")
}

/// The names of all settings that can stand in a file, of every version.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.lines().filter_map(parse).map(|known| known.name)
}

/// Whether a change of this setting needs a restart.
pub fn needs_restart(name: &str) -> bool {
    named(name).is_some_and(|known| known.restart)
}

/// What is wrong with a setting of the inventory: a message, and what to do.
pub fn refusal(name: &str, value: &str, version: u32, nodes: usize) -> Option<(String, String)> {
    if let Some((prefix, _)) = name.split_once('.') {
        // An extension's; what it is called only the extension knows.
        return (prefix.is_empty() || name.ends_with('.'))
            .then(|| ("is not a valid setting name".into(), "use EXTENSION.NAME, in lower case".into()));
    }
    if let Some(setting) = find(name) {
        match setting.class {
            Class::Mandatory(Value::Libraries) => {}
            Class::Mandatory(_) => {
                return Some((
                    "is set by this program and cannot be overridden".into(),
                    setting.why.to_owned(),
                ));
            }
            Class::Blocked => return Some(("cannot be set here".into(), setting.why.to_owned())),
            Class::Default(_) | Class::Free => {}
        }
        let least = setting.least.map(|least| least(nodes));
        if let (Some(least), Ok(number)) = (least, value.trim().parse::<i64>())
            && number < i64::try_from(least).unwrap_or(i64::MAX)
        {
            return Some((format!("{number} is too low"), format!("at least {least}: {}", setting.why)));
        }
    }
    if let Some(setting) = find(name)
        && let Some(allowed) = setting.bound.and_then(|bound| bound.broken_by(value))
    {
        return Some((format!("`{}` is unsafe", value.trim()), format!("{allowed}: {}", setting.why)));
    }
    let known = named(name);
    if known.as_ref().is_some_and(|known| (known.since..=known.until).contains(&version)) {
        return None;
    }
    Some(match known {
        Some(known) if version < known.since => (
            format!("is not a setting of PostgreSQL {version}"),
            format!("it was added in PostgreSQL {}", known.since),
        ),
        Some(known) => (
            format!("is not a setting of PostgreSQL {version}"),
            format!("it was removed after PostgreSQL {}{}", known.until, alike(name, version)),
        ),
        None => {
            let alike = alike(name, version);
            let hint = if alike.is_empty() {
                "`select name from pg_settings` lists the settings; those of an extension are named EXTENSION.NAME".into()
            } else {
                alike.trim_start_matches("; ").to_owned()
            };
            (format!("is not a setting of PostgreSQL {version}"), hint)
        }
    })
}

/// The name that was probably meant.
fn alike(name: &str, version: u32) -> String {
    let likeness = |known: &str| similar::TextDiff::from_chars(name, known).ratio();
    let names = KNOWN.values().filter(|known| (known.since..=known.until).contains(&version));
    match names.max_by(|a, b| likeness(a.name).total_cmp(&likeness(b.name))) {
        Some(nearest) if likeness(nearest.name) > 0.75 => format!("; did you mean `{}`?", nearest.name),
        _ => String::new(),
    }
}

struct Known {
    name: &'static str,
    restart: bool,
    since: u32,
    until: u32,
}

fn parse(line: &'static str) -> Option<Known> {
    let [name, change, since, until] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    Some(Known { name, restart: change == "restart", since: since.parse().ok()?, until: until.parse().ok()? })
}

/// By their names in lower case: PostgreSQL takes them in any.
static KNOWN: LazyLock<BTreeMap<String, Known>> = LazyLock::new(|| {
    NAMES.lines().filter_map(parse).map(|known| (known.name.to_ascii_lowercase(), known)).collect()
});

fn named(name: &str) -> Option<&'static Known> {
    KNOWN.get(&name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_table_is_one_of_postgresql() {
        for setting in SETTINGS {
            let known = named(setting.name).unwrap_or_else(|| panic!("there is no {}", setting.name));
            assert_eq!(
                (setting.since.max(12), setting.until.min(18)),
                (known.since, known.until),
                "{}",
                known.name
            );
            assert!(!setting.why.is_empty() && !setting.why.ends_with('.'), "{}", setting.name);
        }
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len(), "a setting stands twice");
    }

    #[test]
    fn the_list_of_names_is_whole() {
        assert_eq!(NAMES.lines().filter_map(parse).count(), NAMES.lines().count());
        assert!(
            named("TIMEZONE").is_some() && needs_restart("max_connections") && !needs_restart("work_mem")
        );
    }

    #[test]
    fn our_own_sessions_set_what_exists() {
        for (name, _) in SESSION {
            assert!(named(name).is_some_and(|known| known.since == 12 && known.until == 18), "{name}");
        }
        let lists = ["local_preload_libraries", "search_path", "session_preload_libraries"];
        let all: Vec<_> = SESSION.iter().filter(|(name, _)| !lists.contains(name)).collect();
        assert_eq!(all, ROLE.iter().collect::<Vec<_>>());
    }

    #[test]
    fn times_are_read_as_postgresql_reads_them() {
        let bound = Bound::Time("1s", "1min", "ms");
        for inside in ["1000", "1s", " 5s", "1 min", "0.5min", "abc", "", "5 weeks"] {
            assert_eq!(bound.broken_by(inside), None, "{inside}");
        }
        for outside in ["0", "-1", "999", "0.9s", "61s", "2min", "1h", "1d", "2147483647", "900000us"] {
            assert_eq!(bound.broken_by(outside).as_deref(), Some("1s to 1min"), "{outside}");
        }
    }

    #[test]
    fn repmgrs_library_comes_first_and_once() {
        let extensions = ["pg_cron".to_owned()];
        assert_eq!(libraries(&[], " pg_stat_statements, repmgr "), "repmgr,pg_stat_statements");
        assert_eq!(libraries(&extensions, "auto_explain,pg_cron"), "repmgr,pg_cron,auto_explain");
        assert_eq!(libraries(&[], ""), "repmgr");
    }
}
