//! docs/errors.md: every mistake that the cases make, by topic.

use std::fs;
use std::path::Path;

use crate::docs::END;
use crate::{ansible, cli, golden, inventory};

const BEGIN: &str =
    "<!-- Made from the cases in tests/data by `UPDATE_EXPECTED=1 cargo test --test cases`. -->\n";

/// The topics of docs/errors.md, in order, with the cases of each: a name, or the beginning of names.
const TOPICS: &[(&str, &[&str])] = &[
    (
        "Command line",
        &[
            "cli/no-command",
            "cli/unknown-command",
            "cli/synonym",
            "cli/connect-two",
            "cli/error-json",
            "cli/usage-json",
            "cli/no-inventory",
            "cli/user-",
            "cli/inventory-",
            "cli/missing-inventory",
            "cli/bad-inventory",
            "cli/locked-up",
            "cli/locked-down",
            "cli/adopt-",
        ],
    ),
    (
        "Inventory: syntax and keys",
        &[
            "inventory/a-list",
            "inventory/duplicate-key",
            "inventory/empty",
            "inventory/ini",
            "inventory/missing-key",
            "inventory/not-yaml",
            "inventory/number-",
            "inventory/only-comments",
            "inventory/quoted-word",
            "inventory/several-mistakes",
            "inventory/tab",
            "inventory/unknown-key",
            "inventory/wrong-type",
            "inventory/bad-cluster-name",
        ],
    ),
    (
        "Inventory: nodes",
        &[
            "inventory/bad-address",
            "inventory/bad-connection-host",
            "inventory/bad-host-key",
            "inventory/bad-node-name",
            "inventory/droplet-id",
            "inventory/duplicate-droplet-ids",
            "inventory/duplicate-ids",
            "inventory/mixed-families",
            "inventory/duplicate-names",
            "inventory/missing-address",
            "inventory/missing-connection-host",
            "inventory/no-nodes",
            "inventory/no-primary",
            "inventory/node-id",
            "inventory/shared-",
            "inventory/two-primaries",
            "inventory/two-witnesses",
            "inventory/unknown-role",
        ],
    ),
    (
        "Inventory: users, databases and clients",
        &[
            "inventory/bad-client",
            "inventory/bad-user-name",
            "inventory/client-network",
            "inventory/control-character",
            "inventory/duplicate-database",
            "inventory/duplicate-user",
            "inventory/empty-password",
            "inventory/owner-",
            "inventory/password-",
            "inventory/quoted-names",
            "inventory/reserved-",
            "inventory/superuser-",
            "inventory/unquoted-password",
            "inventory/weak-superuser",
        ],
    ),
    (
        "Inventory: PostgreSQL and failover",
        &[
            "inventory/bad-setting-name",
            "inventory/blocked-settings",
            "inventory/lag-limit",
            "inventory/lease-",
            "inventory/not-a-text",
            "inventory/owned-setting",
            "inventory/privileged-port",
            "inventory/prove-every",
            "inventory/settings-",
            "inventory/unknown-settings",
            "inventory/unsupported-version",
            "inventory/version-",
        ],
    ),
    ("Extensions", &["inventory/extension", "plan/extension-"]),
    (
        "Inventory: provider",
        &[
            "inventory/bad-floating-ip",
            "inventory/bad-slug",
            "inventory/bad-ssh-user",
            "inventory/bad-vpc",
            "inventory/floating-ip",
            "inventory/missing-ssh-key",
            "inventory/no-provider",
            "inventory/plain-http",
            "inventory/ssh-",
            "inventory/two-providers",
            "inventory/unknown-provider",
        ],
    ),
    ("Ansible inventories", &["ansible/", "cli/ansible-"]),
    (
        "Tokens and the provider's API",
        &[
            "cli/api-",
            "cli/missing-token-file",
            "cli/no-failover-token",
            "cli/no-token",
            "cli/plain-http",
            "cli/refused-token",
            "cli/same-token-twice",
            "cli/token-",
        ],
    ),
    (
        "The provider's account and catalog",
        &[
            "cli/droplet-limit",
            "cli/floating-ip-limit",
            "cli/locked-account",
            "cli/several-at-the-provider",
            "cli/tag-in-another-case",
            "cli/unknown-image",
            "cli/unknown-region",
            "cli/unknown-size",
        ],
    ),
    (
        "Droplets and floating IPs",
        &[
            "plan/another-floating-ip",
            "plan/floating-ip",
            "plan/renamed-",
            "plan/stranger-",
            "plan/untagged-",
        ],
    ),
    ("SSH", &["cli/key-with-a-passphrase", "cli/ssh-", "plan/first-contact", "plan/not-root"]),
    (
        "Hosts",
        &[
            "cli/missing-node-program",
            "plan/full-disk",
            "plan/no-such-package",
            "plan/other-",
            "plan/port-taken",
        ],
    ),
    (
        "Existing data",
        &[
            "plan/existed-",
            "plan/foreign-",
            "plan/no-primary-",
            "plan/replaced-data",
            "plan/split-brain",
            "plan/standby-of-another-cluster",
        ],
    ),
    (
        "Changes that a running cluster cannot make",
        &[
            "plan/changed-settings-both-ways",
            "plan/cluster-renamed",
            "plan/connection-host",
            "plan/id-changed",
            "plan/node-renamed",
            "plan/port-changed",
            "plan/primary-taken-out",
            "plan/remove-",
            "plan/replace-",
            "plan/replaced-host",
            "plan/standby-to-witness",
            "plan/version-changed",
            "plan/witness-to-standby",
        ],
    ),
    (
        "Switchover, failover, maintenance and drills",
        &[
            "cli/drill-",
            "cli/explain-",
            "cli/failover-",
            "cli/logs-",
            "cli/pause-",
            "cli/rejoin-",
            "cli/resume-",
            "cli/switchover-",
        ],
    ),
    ("The lab", &["cli/lab-"]),
];

/// What is printed and the exit code, where a case is a mistake.
fn mistake(case: &Path) -> Option<(String, String)> {
    let expected = fs::read_to_string(case.with_extension("txt"));
    match case.parent()?.file_name()?.to_str()? {
        "inventory" => {
            let told = inventory::told(case);
            (!told.starts_with("accepted")).then(|| (format!("error: {}", told.trim_end()), "2".to_owned()))
        }
        "ansible" => ansible::refusal(case).map(|told| (format!("error: {told}"), "2".to_owned())),
        "cli" => {
            let expected = expected.unwrap_or_else(|_| cli::transcript(case));
            let (code, rest) = expected.split_once('\n')?;
            let code = code.trim_start_matches("exit code ");
            let (_, told) =
                rest.split_once("-- stderr\n").filter(|_| ["1", "2", "3", "5"].contains(&code))?;
            let told: Vec<&str> = told.lines().take_while(|line| !line.starts_with("Usage")).collect();
            Some((told.join("\n").trim().to_owned(), code.to_owned()))
        }
        _ => {
            let expected = expected.unwrap_or_default();
            expected.starts_with("refused:").then(|| (expected.trim_end().to_owned(), "3".to_owned()))
        }
    }
}

/// Every mistake that the cases make, what is printed, and the exit code. What stands outside the marks is kept.
#[test]
fn the_list_of_errors_is_what_the_program_prints() {
    let mut sections = vec![String::new(); TOPICS.len()];
    let mut count = 0;
    for case in ["inventory", "ansible", "cli", "plan"].into_iter().flat_map(golden::cases) {
        let Some((told, code)) = mistake(&case) else { continue };
        let name = case.with_extension("").strip_prefix("tests/data").unwrap().display().to_string();
        let length = |names: &[&str]| {
            names.iter().filter(|it| name.starts_with(**it)).map(|it| it.len()).max().unwrap_or_default()
        };
        let topic = (0..TOPICS.len()).max_by_key(|topic| length(TOPICS[*topic].1)).unwrap();
        assert!(length(TOPICS[topic].1) > 0, "{name} belongs to no topic of docs/errors.md");
        sections[topic] += &format!("\n{} Exit code {code}.\n\n```text\n{told}\n```\n", about(&case));
        count += 1;
    }
    assert!(count > 80, "{count} errors");
    let mut list = String::new();
    for ((topic, _), section) in TOPICS.iter().zip(&sections) {
        assert!(!section.is_empty(), "no case belongs to {topic}");
        list += &format!("- [{topic}](#{})\n", anchor(topic));
    }
    for ((topic, _), section) in TOPICS.iter().zip(&sections) {
        list += &format!("\n## {topic}\n{section}");
    }
    let page = fs::read_to_string("docs/errors.md").unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the first mark");
    let (_, after) = rest.split_once(END).expect("the page has the second mark");
    golden::check("docs/errors.md", &format!("{before}{BEGIN}\n{list}\n{END}{after}"));
}

/// The anchor that Markdown gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|it| it.is_alphanumeric() || *it == ' ').collect::<String>().replace(' ', "-")
}

/// The first line of a case, which says what it is about.
fn about(case: &Path) -> String {
    let text = fs::read_to_string(case).unwrap();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("# ").unwrap_or("An empty file.").to_owned()
}
