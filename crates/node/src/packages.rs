//! Whether PostgreSQL's packages are being changed just now. What is started between the end of the old program and the
//! arrival of the new one runs the old one, deleted, for good.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use cluster_contract::config::Config;
use cluster_contract::journal::Event;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::journal;

/// What a package manager holds while it works, the first for all of its run, the second while dpkg does.
const LOCKS: [&str; 2] = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"];

/// The package that is being changed, if one of those is that PostgreSQL needs. A package that was left half done and
/// that nobody works on is none: what it has is what there is.
pub async fn changing(config: &Config) -> Option<String> {
    if !LOCKS.iter().any(|path| locked(path)) {
        return None;
    }
    let version = config.version;
    let mut command = tokio::process::Command::new("dpkg-query");
    command
        .args([
            "-W",
            "-f",
            "${Package} ${db:Status-Status}\n",
            "postgresql-common",
            "postgresql-client-common",
        ])
        .args([format!("postgresql-{version}"), format!("postgresql-client-{version}")])
        .args([format!("postgresql-{version}-repmgr"), "libpq5".to_owned()])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Some may not be installed: it tells of the others, and fails.
    let output = tokio::time::timeout(Duration::from_secs(5), command.output()).await.ok()?.ok()?;
    unfinished(&String::from_utf8_lossy(&output.stdout))
}

/// Waits until nobody changes them, for `limit` at most: a server that runs an old program is better than none.
pub async fn wait(config: &Config, limit: Duration) {
    let begun = tokio::time::Instant::now();
    let mut told = false;
    while let Some(package) = changing(config).await {
        if begun.elapsed() > limit {
            let text = format!(
                "{package} is still being changed after {} s; not waiting any longer",
                limit.as_secs()
            );
            journal::note(Event::PackageWaitGivenUp, &text);
            return;
        }
        if !told {
            journal::note(
                Event::PackageWait,
                &format!(
                    "waiting for the change of package {package} to finish, {} s at most",
                    limit.as_secs()
                ),
            );
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn locked(path: &str) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let lock = Flock::from(FlockType::WriteLock);
    // Who holds it, if somebody does.
    fcntl_getlk(&file, &lock).is_ok_and(|holder| holder.is_some())
}

/// The first package between two states. dpkg says `half-configured` before it runs the script that stops the old
/// server, and `installed` after the one that may start the new.
fn unfinished(states: &str) -> Option<String> {
    states.lines().find_map(|line| {
        let (package, state) = line.split_once(' ')?;
        ["half-configured", "half-installed", "unpacked"].contains(&state).then(|| package.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_between_two_states_is_being_changed() {
        let of = |states: &str| unfinished(states);
        assert_eq!(of("libpq5 installed\npostgresql-15 half-configured\n").as_deref(), Some("postgresql-15"));
        assert_eq!(of("libpq5 unpacked\npostgresql-15 unpacked\n").as_deref(), Some("libpq5"));
        assert_eq!(
            of("libpq5 installed\npostgresql-15 installed\npostgresql-common triggers-pending\n"),
            None
        );
        assert_eq!(of("postgresql-15 not-installed\npostgresql-client-15 config-files\n"), None);
    }
}
