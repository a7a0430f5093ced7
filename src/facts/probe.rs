//! The probe: one script that reads a host, and the parser of what it prints.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::host::{FileFacts, HostFacts, PgCluster, UnitFacts};
use crate::settings::Machine;

/// The script; its arguments are PostgreSQL's version, its port, the packages, the databases and the files to look at.
pub const SCRIPT: &str = concat!(
    include_str!("../settings/session.sh"),
    include_str!("../../crates/contract/src/whose.sh"),
    include_str!("probe.sh")
);

/// Why a probe's output is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The script was cut off, or something else answered.
    #[error("the probe was cut off after {lines} lines")]
    Truncated {
        /// Lines seen.
        lines: usize,
    },
    /// A line that the script does not print.
    #[error("the probe printed a line that cannot be parsed: {0:?}")]
    Line(String),
}

/// Reads what the script printed.
///
/// # Errors
/// [`ProbeError`], if the output is not whole.
pub fn parse(output: &str) -> Result<HostFacts, ProbeError> {
    let mut facts = HostFacts::default();
    let mut unit = (String::new(), UnitFacts::default());
    let mut files = Files::default();
    let mut ended = false;
    for line in output.lines() {
        let nonsense = || ProbeError::Line(line.chars().take(120).collect());
        let (name, value) = line.split_once('\t').ok_or_else(nonsense)?;
        let words: Vec<&str> = value.split(' ').collect();
        let word = |index: usize| words.get(index).copied().unwrap_or_default().to_owned();
        match name {
            "uid" => facts.root = value == "0",
            "os" => (facts.os, facts.os_version, facts.codename) = (word(0), word(1), word(2)),
            "arch" => facts.arch = value.to_owned(),
            "client" => facts.client = value.to_owned(),
            "host_key" => facts.host_key = value.to_owned(),
            "cloud_init" => facts.cloud_init = value.to_owned(),
            "disk" => facts.disk_free_kib = word(1).parse().map_err(|_| nonsense())?,
            "machine" => facts.machine = Some(parse_machine(&words).ok_or_else(nonsense)?),
            "address" => facts.addresses.push(value.to_owned()),
            "package" => drop(facts.packages.installed.insert(word(0), word(1))),
            "candidate" => drop(facts.packages.candidates.insert(word(0), word(1))),
            "apt_lists" => facts.packages.lists_age = value.parse().ok(),
            "audit" => facts.packages.interrupted = !value.is_empty(),
            "pgdg" => facts.packages.pgdg.push(value.to_owned()),
            "stat" => files.stat(value).ok_or_else(nonsense)?,
            "sha" => files.sha(value).ok_or_else(nonsense)?,
            "contents" => files.contents(value).ok_or_else(nonsense)?,
            "loaded" => drop(facts.loaded.insert(word(0), word(1) == "current")),
            "unit" => parse_unit(value, &mut unit, &mut facts),
            "marker" => facts.marker = serde_json::from_str(value).ok(),
            "pg_cluster" => facts.pg_clusters.push(PgCluster {
                version: word(0),
                name: word(1),
                port: word(2).parse().map_err(|_| nonsense())?,
                status: word(3),
                data: word(4),
            }),
            "half_rewound" => facts.half_rewound = Some(value.trim().to_owned()),
            "kept" => facts.kept = Some(value.to_owned()),
            "data" => facts.data.get_or_insert_default().entries = value.parse().map_err(|_| nonsense())?,
            "standby_signal" => facts.data.get_or_insert_default().standby_signal = true,
            "control" => {
                let (key, rest) = value.split_once(' ').ok_or_else(nonsense)?;
                let data = facts.data.get_or_insert_default();
                match key {
                    "system_identifier" => data.system_identifier = Some(rest.to_owned()),
                    "state" => data.state = Some(rest.to_owned()),
                    "timeline" => data.timeline = rest.parse().ok(),
                    "modified" => data.modified = Some(rest.to_owned()),
                    _ => return Err(nonsense()),
                }
            }
            "postgres" => facts.postgres = Some(serde_json::from_str(value).map_err(|_| nonsense())?),
            "tried" => facts.tried = Some(value.to_owned()),
            "listener" => drop(facts.listeners.insert(word(0).parse().map_err(|_| nonsense())?, word(1))),
            "postgres_error" => facts.postgres_error = Some(value.to_owned()),
            "repmgr" => facts.repmgr = Some(serde_json::from_str(value).map_err(|_| nonsense())?),
            "operator" => facts.operator = serde_json::from_str(value).ok(),
            "extensions" => {
                let found: Extensions = serde_json::from_str(value).map_err(|_| nonsense())?;
                facts.extensions.insert(found.database, found.installed);
            }
            "guard" => facts.guard = serde_json::from_str(value).ok(),
            "end" => ended = true,
            _ => return Err(nonsense()),
        }
    }
    finish_unit(&mut unit, &mut facts);
    facts.files = files.finish();
    if ended { Ok(facts) } else { Err(ProbeError::Truncated { lines: output.lines().count() }) }
}

/// What a database has.
#[derive(serde::Deserialize)]
struct Extensions {
    database: String,
    /// Versions by name.
    installed: BTreeMap<String, String>,
}

fn parse_machine(words: &[&str]) -> Option<Machine> {
    let [memory, cores, disk, spinning] = words else { return None };
    let (memory_kib, disk_kib) = (memory.parse().ok()?, disk.parse().ok()?);
    Some(Machine { memory_kib, cores: cores.parse().ok()?, disk_kib, spinning: *spinning == "1" })
}

/// What is said of files, in three kinds of lines.
#[derive(Default)]
struct Files {
    found: BTreeMap<String, (FileFacts, usize)>,
    hashes: BTreeMap<String, String>,
    contents: Vec<(Vec<String>, Vec<u8>)>,
}

impl Files {
    fn stat(&mut self, value: &str) -> Option<()> {
        let [path, mode, owner, modified, size] = value.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let (mode, owner, modified) = (mode.to_owned(), owner.to_owned(), modified.parse().ok()?);
        let file = FileFacts { mode, owner, modified, ..FileFacts::default() };
        self.found.insert(path.to_owned(), (file, size.parse().ok()?));
        Some(())
    }

    fn sha(&mut self, value: &str) -> Option<()> {
        let (hash, path) = value.split_once("  ")?;
        self.hashes.insert(path.to_owned(), hash.to_owned());
        Some(())
    }

    fn contents(&mut self, value: &str) -> Option<()> {
        let (paths, encoded) = value.split_once('\t')?;
        let paths = paths.split(' ').map(str::to_owned).collect();
        self.contents.push((paths, STANDARD.decode(encoded).ok()?));
        Some(())
    }

    /// The files whose hash is known. A content that does not match its hash, of a file that was written meanwhile or is too
    /// long, is not told.
    fn finish(mut self) -> BTreeMap<String, FileFacts> {
        for (paths, bytes) in self.contents {
            let mut rest = bytes.as_slice();
            for path in paths {
                let Some((file, size)) = self.found.get_mut(&path) else { break };
                let Some((content, behind)) = rest.split_at_checked(*size) else { break };
                let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
                if self.hashes.get(&path) == Some(&hash) {
                    file.content = Some(String::from_utf8_lossy(content).into_owned());
                }
                rest = behind;
            }
        }
        let whole = |(path, (mut file, _)): (String, (FileFacts, usize))| {
            file.sha256 = self.hashes.remove(&path)?;
            Some((path, file))
        };
        self.found.into_iter().filter_map(whole).collect()
    }
}

/// `systemctl show` prints a block of properties a unit, in an order of its own; `Id` may come anywhere in it.
fn parse_unit(value: &str, unit: &mut (String, UnitFacts), facts: &mut HostFacts) {
    let Some((key, value)) = value.split_once('=') else {
        return finish_unit(unit, facts);
    };
    match key {
        "Id" => value.clone_into(&mut unit.0),
        "LoadState" => value.clone_into(&mut unit.1.load),
        "ActiveState" => value.clone_into(&mut unit.1.active),
        "UnitFileState" => value.clone_into(&mut unit.1.enabled),
        "NeedDaemonReload" => unit.1.need_reload = value == "yes",
        _ => {}
    }
}

fn finish_unit(unit: &mut (String, UnitFacts), facts: &mut HostFacts) {
    let (name, unit) = std::mem::take(unit);
    if !name.is_empty() {
        facts.units.insert(name.trim_end_matches(".service").to_owned(), unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_was_cut_off_is_an_error_and_not_a_host_without_data() {
        assert!(matches!(parse("uid\t0\narch\tx86_64\n"), Err(ProbeError::Truncated { lines: 2 })));
        assert!(matches!(parse("Please wait while we get your droplet ready..."), Err(ProbeError::Line(_))));
    }

    #[test]
    fn the_settings_of_a_standby_that_are_read_are_those_of_the_table() {
        let names: Vec<String> =
            crate::settings::hot_standby().map(|(name, _)| format!("'{name}'")).collect();
        assert_eq!(SCRIPT.matches(&names.join(", ")).count(), 2);
    }

    #[test]
    fn units_are_told_apart_whatever_the_order_of_their_properties() {
        let facts = parse(
            "unit\tLoadState=loaded\nunit\tId=repmgrd.service\nunit\tActiveState=active\nunit\t\n\
             unit\tId=cluster-node.service\nunit\tLoadState=not-found\nend\tok\n",
        )
        .unwrap();
        assert_eq!(facts.units["repmgrd"].active, "active");
        assert_eq!(facts.units["cluster-node"].load, "not-found");
    }

    #[test]
    fn a_secret_file_has_a_hash_and_no_content() {
        let hash = crate::plan::files::sha256(b"hi");
        let facts = parse(&format!(
            "stat\t/a\t600\troot:root\t1.5\t2\nsha\tabc  /a\nstat\t/c\t644\troot:root\t2\t2\nsha\t{hash}  /c\n\
             contents\t/c\taGk=\nend\tok"
        ))
        .unwrap();
        assert_eq!(facts.files["/a"].content, None);
        assert_eq!(facts.files["/c"].content.as_deref(), Some("hi"));
    }

    #[test]
    fn a_file_that_was_not_read_whole_has_no_content_and_leaves_the_others_theirs() {
        let hash = |text: &str| crate::plan::files::sha256(text.as_bytes());
        let line = |path: &str, size: usize, hash: &str| {
            format!("stat\t{path}\t644\troot:root\t1\t{size}\nsha\t{hash}  {path}\n")
        };
        let all =
            [line("/a", 2, &hash("hi")), line("/b", 2, &hash("ho")), line("/long", 9, &hash("123456789"))];
        // `/b` was written between its hash and its content; `/long` was cut off; of `/gone` nothing is known but its size.
        let text = format!(
            "{}stat\t/gone\t644\troot:root\t1\t4\ncontents\t/a /b /long\taGloYTEy\nend\tok",
            all.concat()
        );
        let files = parse(&text).unwrap().files;
        let contents: Vec<_> =
            files.iter().map(|(path, file)| (path.as_str(), file.content.as_deref())).collect();
        assert_eq!(contents, [("/a", Some("hi")), ("/b", None), ("/long", None)]);
    }

    #[test]
    fn the_files_that_are_looked_at_have_names_that_need_no_quotes() {
        let plain =
            |path: &String| path.chars().all(|it| it.is_ascii_alphanumeric() || "/.-_@!".contains(it));
        assert!(crate::plan::files::paths(15).iter().all(plain));
    }
}
