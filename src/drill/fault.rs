//! The faults that a drill can make.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is done to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its droplet loses its power, and gets it back
    PowerOff,
    /// Its postmaster is killed
    Crash,
    /// Every process of its PostgreSQL is stopped where it is
    Freeze,
    /// Its host drops every packet but this machine's SSH
    Isolate,
    /// It hands over to a standby, planned
    Switchover,
    /// Its postmaster is killed while the nodes cannot reach the provider's API
    ApiOutage,
}

impl Fault {
    /// As it is written on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Fault::PowerOff => "power-off",
            Fault::Crash => "crash",
            Fault::Freeze => "freeze",
            Fault::Isolate => "isolate",
            Fault::Switchover => "switchover",
            Fault::ApiOutage => "api-outage",
        }
    }

    /// What is done, for whoever is asked whether it may be.
    pub fn deed(self, primary: &str, successor: &str) -> String {
        match self {
            Fault::PowerOff => {
                format!("{primary}'s droplet is powered off, and on again once {successor} takes writes")
            }
            Fault::Crash => format!("the postmaster of {primary} is killed (SIGKILL)"),
            Fault::Freeze => {
                format!(
                    "every process of PostgreSQL on {primary} is stopped (SIGSTOP), and let go afterwards"
                )
            }
            Fault::Isolate => format!(
                "{primary} drops every packet but this machine's SSH (an nft table of its own), until {successor} takes \
                 writes"
            ),
            Fault::Switchover => format!("{primary} stops cleanly and hands over to {successor}"),
            Fault::ApiOutage => format!(
                "the data nodes lose their way to the provider's API (an nft table of its own), then the postmaster \
                 of {primary} is killed; the way is given back once {successor} takes writes"
            ),
        }
    }

    /// What an application is in for.
    pub fn outlook(self) -> &'static str {
        match self {
            Fault::Switchover => "writes pause for a second or two; no acknowledged write is lost",
            Fault::Crash => "writes fail for some 5 s, longer until the address has moved",
            Fault::ApiOutage => {
                "writes through the floating IP fail for some 30 s: it cannot move while the API cannot be reached"
            }
            Fault::PowerOff | Fault::Freeze | Fault::Isolate => {
                "writes fail for some 15 s, longer until the address has moved"
            }
        }
    }

    /// Whether the old primary goes without a word to the standby, so that what was on its way to it is lost.
    pub fn may_lose(self) -> bool {
        self != Fault::Switchover
    }

    /// What has been undone once everything is put back; none if there is nothing to undo.
    pub fn remedy(self, primary: &str) -> Option<String> {
        match self {
            Fault::PowerOff => Some(format!("{primary} has its power again")),
            Fault::Freeze => Some(format!("what is left on {primary} is let go")),
            Fault::Isolate => Some(format!("{primary} is let back in")),
            Fault::ApiOutage => Some("the nodes reach the API again".to_owned()),
            Fault::Crash | Fault::Switchover => None,
        }
    }
}
