//! What the documentation says is what the program does: its examples are read, its tables are made from the cases.

use std::fs;
use std::path::{Path, PathBuf};

use cluster::inventory::Inventory;

use crate::golden;

/// The end of what a test writes into a page.
pub(crate) const END: &str = "<!-- End of what is made. -->\n";

/// All pages.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    for directory in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|it| it == "md")));
    }
    pages.sort();
    pages
}

/// The fenced blocks of a page in a language.
fn blocks(page: &Path, language: &str) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or(rest).to_owned()).collect()
}

#[test]
fn every_inventory_in_the_documentation_is_valid() {
    let example = include_str!("../../src/inventory/example.yaml");
    assert!(blocks(Path::new("docs/inventory.md"), "yaml").iter().any(|block| block == example));
    let mut seen = 0;
    for page in pages() {
        for block in blocks(&page, "yaml") {
            if block.lines().any(|line| line.starts_with("cluster:")) {
                let path = page.with_file_name("an-example.yaml");
                Inventory::parse(&path, &block)
                    .unwrap_or_else(|problems| panic!("{}: {problems}", page.display()));
                seen += 1;
            }
        }
    }
    assert!(seen >= 3, "the documentation has {seen} whole inventories");
}

/// The program's own lists of keys: each mapping is given one that it does not know.
#[test]
fn every_key_of_an_inventory_is_documented() {
    let page = fs::read_to_string("docs/inventory.md").unwrap();
    let digitalocean = "provider: {digitalocean: {region: a, size: b, image: c";
    let rest = "postgresql: {version: 15}\nnodes: []\n";
    let cases = [
        format!("cluster: a\nxxxxxxxx: 1\n{digitalocean}}}}}\n{rest}"),
        format!("cluster: a\nprovider: {{xxxxxxxx: 1}}\n{rest}"),
        format!("cluster: a\n{digitalocean}, xxxxxxxx: 1}}}}\n{rest}"),
        format!("cluster: a\nprovider: {{existing: {{xxxxxxxx: 1}}}}\n{rest}"),
        format!("cluster: a\nprovider: {{existing: {{floating_ip: {{xxxxxxxx: 1}}}}}}\n{rest}"),
        format!("cluster: a\n{digitalocean}}}}}\npostgresql: {{xxxxxxxx: 1}}\nnodes: []\n"),
        format!("cluster: a\n{digitalocean}}}}}\nbackup: {{xxxxxxxx: 1}}\n{rest}"),
        format!("cluster: a\n{digitalocean}}}}}\nbackup: {{spaces: {{bucket: a, xxxxxxxx: 1}}}}\n{rest}"),
        format!(
            "cluster: a\n{digitalocean}}}}}\nbackup: {{s3: {{bucket: a, region: a, endpoint: a, xxxxxxxx: 1}}}}\n{rest}"
        ),
        format!("cluster: a\n{digitalocean}}}}}\nusers: [{{xxxxxxxx: 1}}]\n{rest}"),
        format!("cluster: a\n{digitalocean}}}}}\ndatabases: [{{xxxxxxxx: 1}}]\n{rest}"),
        format!("cluster: a\n{digitalocean}}}}}\nextensions: [{{xxxxxxxx: 1}}]\n{rest}"),
        format!("cluster: a\n{digitalocean}}}}}\npostgresql: {{version: 15}}\nnodes: [{{xxxxxxxx: 1}}]\n"),
    ];
    let mut count = 0;
    for text in cases {
        let problems = Inventory::parse(Path::new("x.yaml"), &text).unwrap_err();
        let hint = problems.list[0].hint.clone().unwrap_or_default();
        let keys = hint.strip_prefix("the valid keys are ").unwrap_or_else(|| panic!("{problems}"));
        for key in keys.split(", ") {
            assert!(page.contains(&format!("`{key}`")), "docs/inventory.md does not explain `{key}`");
            count += 1;
        }
    }
    assert!(count > 30, "{count} keys");
}

#[test]
fn every_exit_code_is_documented() {
    use cluster::error::Exit;
    let page = fs::read_to_string("docs/exit-codes.md").unwrap();
    let all = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Refused,
        Exit::Unhealthy,
        Exit::Locked,
        Exit::Interrupted,
    ];
    for exit in all {
        assert!(page.contains(&format!("| {} |", exit as u8)), "{exit:?}");
    }
}

#[test]
fn every_scope_of_the_nodes_token_is_documented() {
    let page = fs::read_to_string("docs/digitalocean.md").unwrap();
    for scope in cluster_cloud::scope::FAILOVER {
        assert!(page.contains(&format!("`{scope}`")), "{scope}");
    }
}

/// The anchor that Markdown gives a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().unwrap_or(Path::new("")).join(target);
            assert!(path.exists(), "{} links to {target}", page.display());
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((target, anchor)) = link.split_once('#').filter(|(target, _)| !target.contains("://"))
            else {
                continue;
            };
            let path = page.parent().unwrap_or(Path::new("")).join(target);
            let path = if target.is_empty() { page.clone() } else { path };
            let text = fs::read_to_string(&path).unwrap();
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let anchors: Vec<String> =
                headings.map(|line| anchor_of(line.trim_start_matches(['#', ' ']))).collect();
            assert!(anchors.iter().any(|it| it == anchor), "{} links to {link}: {anchors:?}", page.display());
        }
    }
}

/// Command lines in the text and in the blocks of a page, without what a shell makes of the end.
fn command_lines(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let inline = text.split('`').filter(|it| !it.contains('\n')).map(str::to_owned);
    let shell = blocks(page, "sh").join("\n");
    let lines: Vec<String> = inline.chain(shell.lines().map(str::to_owned)).collect();
    let is_command = |line: &String| line.starts_with("cluster ") && !line.contains(['…', '|']);
    lines.into_iter().filter(is_command).collect()
}

#[test]
fn every_command_for_a_symptom_exists() {
    use clap::Parser as _;
    use clap::error::ErrorKind;
    use cluster::cli::Cli;
    let lines = command_lines(Path::new("docs/symptoms.md"));
    assert!(lines.len() > 40, "{lines:?}");
    for line in lines {
        // A placeholder that is no time, and an inventory that the environment would name.
        let line = line.replace("TIME", "2026-11-26T14:02:59Z");
        match Cli::try_parse_from(line.split_whitespace()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
                let missing = error.to_string();
                assert!(missing.contains("--inventory <FILE>"), "{line}: {missing}");
                assert!(!missing.contains("\n  <"), "{line}: {missing}");
            }
            Err(error) => panic!("{line}: {error}"),
        }
    }
}

/// What `cluster` thinks of PostgreSQL's settings, from the one table of them.
#[test]
fn the_tables_of_settings_are_what_the_program_does() {
    use cluster::settings::{Bound, Class, SETTINGS, Setting, Value};
    let versions = |setting: &Setting| match (setting.since, setting.until) {
        (12, 18) => String::new(),
        (12, until) => format!(" (to {until})"),
        (since, _) => format!(" (from {since})"),
    };
    let value = |value: Value| match value {
        Value::Text(text) => format!("`{}`", text.replace('|', "&#124;")),
        Value::Port => "`postgresql.port`".into(),
        Value::Node => "the node's name".into(),
        Value::ArchiveTimeout => "`backup.archive_within`, `0` without a repository".into(),
        Value::Libraries => "`repmgr`, those of `extensions`, then yours".into(),
        Value::Fitted(_) => "[fitted to the host](tuning.md)".into(),
        Value::Count(count) => match (count(3), count(9)) {
            (few, many) if few == many => format!("`{few}`"),
            (few, many) => format!("`{few}`, and more with more nodes: `{many}` with 9"),
        },
    };
    let mut ours =
        String::from("| set by `cluster` | to | can be overridden | because |\n|---|---|---|---|\n");
    let mut refused: Vec<(&str, Vec<String>)> = Vec::new();
    for setting in SETTINGS {
        let name = format!("`{}`{}", setting.name, versions(setting));
        let bound = match setting.bound {
            Some(Bound::Time(least, most, _)) => format!(", {least} to {most}"),
            Some(Bound::Most(most)) => format!(", {most} at most"),
            Some(Bound::Only(values)) => format!(", `{}`", values.join("` or `")),
            None => String::new(),
        };
        let least =
            setting.least.map(|least| format!(", {} at least with 3 nodes", least(3))).unwrap_or(bound);
        match setting.class {
            Class::Mandatory(it) => {
                let mine = if matches!(it, Value::Libraries) { "yes, added" } else { "no" };
                ours += &format!("| {name} | {} | {mine} | {} |\n", value(it), setting.why);
            }
            Class::Default(it) => {
                ours += &format!("| {name} | {} | yes{least} | {} |\n", value(it), setting.why);
            }
            Class::Free if !least.is_empty() => {
                ours += &format!("| {name} | PostgreSQL's own | yes{least} | {} |\n", setting.why);
            }
            Class::Free => {}
            Class::Blocked => match refused.iter_mut().find(|(why, _)| *why == setting.why) {
                Some((_, names)) => names.push(name),
                None => refused.push((setting.why, vec![name])),
            },
        }
    }
    let mut tables = ours + "\n| refused | because |\n|---|---|\n";
    for (why, names) in refused {
        tables += &format!("| {} | {why} |\n", names.join(", "));
    }
    let begin = "<!-- Made from src/settings/table.rs by `UPDATE_EXPECTED=1 cargo test --test cases`. -->\n";
    let page = fs::read_to_string("docs/inventory.md").unwrap();
    let (before, rest) = page.split_once(begin).expect("the page has the first mark");
    let (_, after) = rest.split_once(END).expect("the page has the second mark");
    golden::check("docs/inventory.md", &format!("{before}{begin}\n{tables}\n{END}{after}"));
}

/// The extensions that need no package of their own in the inventory, from the one table of them.
#[test]
fn the_list_of_extensions_is_the_one_that_the_program_knows() {
    use cluster::extensions::KNOWN;
    let mut list = String::from("| known extensions | from | loaded at the start |\n|---|---|---|\n");
    let mut comes_along = Vec::new();
    let mut packages: Vec<(String, bool, Vec<String>)> = Vec::new();
    for known in KNOWN {
        let name = format!("`{}`", known.name);
        let versions = match (known.since, known.until) {
            (12, 18) => String::new(),
            (12, until) => format!(" (to {until})"),
            (since, 18) => format!(" (from {since})"),
            (since, until) => format!(" ({since} to {until})"),
        };
        let Some(package) = known.package(17) else {
            comes_along.push(format!("{name}{versions}"));
            continue;
        };
        let loaded = known.library.is_some();
        match packages.iter_mut().find(|(it, also, _)| *it == package && *also == loaded) {
            Some((_, _, names)) => names.push(name),
            None => packages.push((package, loaded, vec![name])),
        }
    }
    for (package, loaded, names) in packages {
        list += &format!("| {} | {package} | {} |\n", names.join(", "), if loaded { "yes" } else { "" });
    }
    list += &format!("| {} | the server's package | `pg_stat_statements` |\n", comes_along.join(", "));
    let begin = "<!-- Made from src/extensions.rs by `UPDATE_EXPECTED=1 cargo test --test cases`. -->\n";
    let page = fs::read_to_string("docs/extensions.md").unwrap();
    let (before, rest) = page.split_once(begin).expect("the page has the first mark");
    let (_, after) = rest.split_once(END).expect("the page has the second mark");
    golden::check("docs/extensions.md", &format!("{before}{begin}\n{list}\n{END}{after}"));
}
