//! The faults that a drill can make.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The fault that a drill injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Power off the primary's droplet, and power it on again later
    PowerOff,
    /// Kill the primary's postmaster
    Crash,
    /// Stop (SIGSTOP) every PostgreSQL process on the primary
    Freeze,
    /// Drop every packet of the primary's host except this machine's SSH
    Isolate,
    /// Hand over to a standby, as `cluster switchover` does
    Switchover,
    /// Kill the primary's postmaster while the nodes cannot reach the provider's API
    ApiOutage,
}

impl Fault {
    /// The fault's name on the command line.
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

    /// What the fault does, for the confirmation.
    pub fn deed(self, primary: &str, successor: &str) -> String {
        match self {
            Fault::PowerOff => {
                format!("{primary}'s droplet is powered off, and on again once {successor} takes writes")
            }
            Fault::Crash => format!("the postmaster of {primary} is killed (SIGKILL)"),
            Fault::Freeze => {
                format!("every PostgreSQL process on {primary} is stopped (SIGSTOP) and later released")
            }
            Fault::Isolate => format!(
                "{primary} drops every packet except this machine's SSH (in a separate nft table) until {successor} takes \
                 writes"
            ),
            Fault::Switchover => format!("{primary} stops cleanly and hands over to {successor}"),
            Fault::ApiOutage => format!(
                "the data nodes lose access to the provider's API (in a separate nft table), then the postmaster \
                 of {primary} is killed; access is restored once {successor} takes writes"
            ),
        }
    }

    /// What applications will notice.
    pub fn outlook(self) -> &'static str {
        match self {
            Fault::Switchover => "writes pause for a second or two; no acknowledged write is lost",
            Fault::Crash => "writes fail for about 5 s, and through the floating IP until it has moved",
            Fault::ApiOutage => {
                "writes through the floating IP fail for about 30 s: it cannot move while the API is unreachable"
            }
            Fault::PowerOff | Fault::Freeze | Fault::Isolate => {
                "writes fail for about 15 s, and through the floating IP until it has moved"
            }
        }
    }

    /// Whether writes not yet sent to the standby may be lost.
    pub fn may_lose(self) -> bool {
        self != Fault::Switchover
    }

    /// The state after the fault was undone; `None` if there is nothing to undo.
    pub fn remedy(self, primary: &str) -> Option<String> {
        match self {
            Fault::PowerOff => Some(format!("{primary} is powered on again")),
            Fault::Freeze => Some(format!("the processes left on {primary} are released")),
            Fault::Isolate => Some(format!("{primary} is reachable again")),
            Fault::ApiOutage => Some("the nodes reach the API again".to_owned()),
            Fault::Crash | Fault::Switchover => None,
        }
    }

    /// What becomes of the fault when nobody undoes it.
    pub fn left_behind(self, primary: &str) -> String {
        match self {
            Fault::PowerOff => format!("{primary} may be off, and stays so until `cluster up` powers it on"),
            Fault::Freeze => {
                format!("what is frozen on {primary} is released by a timer there, within three minutes")
            }
            Fault::Isolate => format!("{primary} is reachable again within three minutes, by a timer there"),
            Fault::ApiOutage => {
                "the nodes reach the API again within three minutes, by a timer on each".to_owned()
            }
            Fault::Crash | Fault::Switchover => "there is nothing else to undo".to_owned(),
        }
    }
}
