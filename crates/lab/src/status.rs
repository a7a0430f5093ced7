//! What a lab looks like from outside. No secret is part of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use super::api::state::{Power, State};
use super::home::Home;
use super::machine::cgroup::Cgroup;
use super::settings::LabSettings;
use super::{LabName, daemon, prerequisites};

/// A lab, running or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: LabName,
    /// Whether its API answers. Droplets may run without.
    pub running: bool,
    /// Where its API is.
    pub api_url: Option<String>,
    /// The file with the operator's token.
    pub token_file: Option<PathBuf>,
    /// The file with the token that only moves addresses.
    pub failover_token_file: Option<PathBuf>,
    /// Its object storage.
    pub spaces: Option<SpacesStatus>,
    /// Its droplets, by id.
    pub droplets: Vec<DropletStatus>,
    /// Its floating addresses.
    pub floating_ips: Vec<FloatingStatus>,
}

/// The object storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpacesStatus {
    /// Where it is, by a name that droplets know.
    pub endpoint: String,
    /// Where it is for the operator, who does not know the name.
    pub address: SocketAddrV4,
    /// The file with the certificate of its authority.
    pub ca_file: PathBuf,
    /// The faults in force.
    pub faults: Vec<String>,
}

/// A droplet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropletStatus {
    /// Its id in the API.
    pub id: u64,
    /// Its name, which others may have as well.
    pub name: String,
    /// Its public address.
    pub address: Ipv4Addr,
    /// Its address on the private network.
    pub private_address: Ipv4Addr,
    /// `new`, `active` or `off`, as in the API; or `frozen`, or `failed` for one that could not be made.
    pub state: &'static str,
    /// Why it could not be made.
    pub why: Option<String>,
}

/// A floating address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FloatingStatus {
    /// The address.
    pub address: Ipv4Addr,
    /// The name of the droplet that it leads to.
    pub droplet: Option<String>,
}

/// Looks at a lab.
///
/// # Errors
/// Its files cannot be read.
pub fn look(name: &LabName) -> Result<Status> {
    let settings = LabSettings::load(name)?;
    if settings.is_some() {
        // What it is made of is not for everybody to read.
        prerequisites::root()?;
    }
    let home = Home::of(name);
    let state = match std::fs::read(home.state()) {
        Ok(json) => serde_json::from_slice(&json)
            .with_context(|| format!("cannot parse {}", home.state().display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", home.state().display())),
    };
    let names: BTreeMap<_, _> =
        state.droplets.iter().map(|(id, droplet)| (*id, &droplet.spec.name)).collect();
    let droplets = state.droplets.iter().map(|(id, droplet)| DropletStatus {
        id: *id,
        name: droplet.spec.name.clone(),
        address: droplet.spec.public_ip,
        private_address: droplet.spec.private_ip,
        why: state.creation_failed(*id).map(str::to_owned),
        state: match droplet.power {
            Power::New if state.creation_failed(*id).is_some() => "failed",
            Power::New => "new",
            Power::Off => "off",
            Power::Active if Cgroup::of(name, *id).is_ok_and(|group| group.is_frozen()) => "frozen",
            Power::Active => "active",
        },
    });
    let floating = state.addresses.values().map(|address| FloatingStatus {
        address: address.ip,
        droplet: address.holder.and_then(|id| names.get(&id)).map(|name| (*name).clone()),
    });
    Ok(Status {
        name: name.clone(),
        running: daemon::running(name)?.is_some(),
        api_url: settings.as_ref().map(LabSettings::api_url),
        token_file: settings.as_ref().map(|_| home.token()),
        failover_token_file: settings.as_ref().map(|_| home.failover_token()),
        spaces: settings.as_ref().map(|settings| SpacesStatus {
            endpoint: settings.spaces_endpoint(),
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, settings.spaces_port()),
            ca_file: home.spaces_ca(),
            faults: state.spaces_faults.describe(),
        }),
        droplets: droplets.collect(),
        floating_ips: floating.collect(),
    })
}

/// A lab among all of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub name: LabName,
    /// Whether its API answers.
    pub running: bool,
    /// The port of its API, on loopback.
    pub api_port: u16,
    /// The port of its object storage, on loopback.
    pub spaces_port: u16,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listed { name, running, api_port, spaces_port } = self;
        let state = if *running { "running" } else { "stopped" };
        write!(f, "{:<12} {state:<7}  API {api_port}, Spaces {spaces_port}", name.as_str())
    }
}

/// All labs on this machine, by name.
///
/// # Errors
/// Their files cannot be read.
pub fn list() -> Result<Vec<Listed>> {
    let all = LabSettings::all()?.into_iter();
    all.map(|settings| {
        let running = daemon::running(&settings.name)?.is_some();
        Ok(listed(settings, running))
    })
    .collect()
}

fn listed(settings: LabSettings, running: bool) -> Listed {
    let spaces_port = settings.spaces_port();
    Listed { name: settings.name, running, api_port: settings.port, spaces_port }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(api_url), Some(token_file)) = (&self.api_url, &self.token_file) else {
            return writeln!(f, "there is no lab `{}`", self.name);
        };
        let state = if self.running { "running" } else { "stopped, not cleaned up" };
        writeln!(f, "lab {}: {state}", self.name)?;
        writeln!(f, "API          {api_url}")?;
        writeln!(f, "token        {}", token_file.display())?;
        if let Some(file) = &self.failover_token_file {
            writeln!(f, "nodes' token {}", file.display())?;
        }
        if let Some(spaces) = &self.spaces {
            writeln!(f, "Spaces       {} at {}", spaces.endpoint, spaces.address)?;
            writeln!(f, "its CA       {}", spaces.ca_file.display())?;
            for fault in &spaces.faults {
                writeln!(f, "{:<13}fault: {fault}", "")?;
            }
        }
        for (number, droplet) in self.droplets.iter().enumerate() {
            let title = if number == 0 { "droplets" } else { "" };
            let DropletStatus { id, name, address, private_address, state, why } = droplet;
            writeln!(f, "{title:<13} {name:<12} {state:<7} {address:<15} {private_address:<15} {id}")?;
            if let Some(why) = why {
                writeln!(f, "{:<13} {why}", "")?;
            }
        }
        for (number, floating) in self.floating_ips.iter().enumerate() {
            let title = if number == 0 { "floating IPs" } else { "" };
            let leads =
                floating.droplet.as_deref().map_or("unassigned".to_owned(), |name| format!("to {name}"));
            writeln!(f, "{title:<13}{:<15} {leads}", floating.address)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_among_others_is_a_line_with_its_ports() {
        let settings = LabSettings {
            name: "two".parse().unwrap(),
            port: 8481,
            subnets: "10.98.0.0/16".parse().unwrap(),
            api: crate::api::Settings::default(),
        };
        let lab = listed(settings, true);
        assert_eq!(lab.to_string(), "two          running  API 8481, Spaces 9481");
        let lab = Listed { running: false, ..lab };
        assert_eq!(lab.to_string(), "two          stopped  API 8481, Spaces 9481");
    }
}
