//! `cluster lab`: a cloud on this machine, with hosts that really boot.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use cluster_lab::fault::{Direction, Faults, Manner, Off};
use cluster_lab::home::Home;
use cluster_lab::lifecycle::{self, Started};
use cluster_lab::machine::MachineSpec;
use cluster_lab::{IMAGES, LabName, LabSettings, Subnets, Wrong, api, daemon, status};

use crate::{data, screen, tell};

/// A cloud on this machine: a DigitalOcean-compatible API whose droplets are hosts that really boot.
#[derive(Debug, Args)]
pub struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Start it, clearing away first what a killed one of the same name has left.
    Start(StartArgs),
    /// Show its API, droplets and floating addresses.
    Status(Named),
    /// Stop it and take away everything it made, droplets and their disks included.
    Stop {
        #[command(flatten)]
        lab: Named,
        /// Delete the images of droplets as well; the next start makes them again.
        #[arg(long)]
        purge: bool,
    },
    /// Run the daemon in the foreground.
    #[command(hide = true)]
    Serve(Named),
    /// Cut a droplet off from another, from the API (`api`) or from everything.
    #[command(hide = true)]
    Cut {
        #[command(flatten)]
        lab: Named,
        /// The droplet's name or id.
        droplet: String,
        /// Another droplet, or `api`; everything if left out.
        from: Option<String>,
        /// Only what the droplet sends is lost.
        #[arg(long)]
        one_way: bool,
        /// Refuse at once instead of losing silently.
        #[arg(long)]
        reject: bool,
    },
    /// Mend all cuts.
    #[command(hide = true)]
    Heal(Named),
    /// Stop a whole droplet where it is.
    #[command(hide = true)]
    Freeze(Chosen),
    /// Let a frozen droplet go on.
    #[command(hide = true)]
    Thaw(Chosen),
}

#[derive(Debug, Args)]
struct Named {
    /// The laboratory's name.
    #[arg(long, default_value = "lab")]
    name: LabName,
}

#[derive(Debug, Args)]
struct Chosen {
    #[command(flatten)]
    lab: Named,
    /// The droplet's name or id.
    droplet: String,
}

#[derive(Debug, Args)]
struct StartArgs {
    #[command(flatten)]
    lab: Named,
    /// The API's port, on loopback.
    #[arg(long, default_value_t = 8480)]
    port: u16,
    /// A private /16 that this machine does not use; laboratories side by side need one each.
    #[arg(long, default_value = "10.99.0.0/16")]
    subnet: Subnets,
    /// An image to have ready; others are made when a droplet first wants them. [default: debian-12-x64]
    #[arg(long = "image", value_name = "SLUG", value_parser = IMAGES.map(|(slug, _)| slug))]
    images: Vec<String>,
    /// Take up a laboratory that was killed, instead of clearing it away.
    #[arg(long)]
    resume: bool,
    /// How long it takes until a droplet is active.
    #[arg(long, value_name = "SECONDS", value_parser = milliseconds)]
    create_seconds: Option<u64>,
    /// How long a power action takes.
    #[arg(long, value_name = "SECONDS", value_parser = milliseconds)]
    power_seconds: Option<u64>,
    /// How long it takes until a floating address leads elsewhere.
    #[arg(long, value_name = "SECONDS", value_parser = milliseconds)]
    assign_seconds: Option<u64>,
    /// The times that DigitalOcean takes, instead of short ones.
    #[arg(long, conflicts_with = "no_delays")]
    real_times: bool,
    /// No time at all, but what the machines themselves take.
    #[arg(long)]
    no_delays: bool,
}

/// Runs the command.
///
/// # Errors
/// What the command's own functions say.
pub async fn run(args: LabArgs, json: bool) -> Result<ExitCode> {
    match args.command {
        LabCommand::Start(start) => {
            let name = start.lab.name.clone();
            let started = begin(start).await?;
            if started == Started::AlreadyRunning {
                tell!("the laboratory {name} runs already");
            }
            show(&name, json)?;
        }
        LabCommand::Status(lab) => show(&lab.name, json)?,
        LabCommand::Stop { lab, purge } => {
            let was_there = lifecycle::stop(&lab.name, purge).await?;
            let now = if was_there { "is stopped; nothing of it is left" } else { "was not there" };
            tell!("the laboratory {} {now}", lab.name);
        }
        LabCommand::Serve(lab) => daemon::serve(&lab.name).await?,
        LabCommand::Cut { lab, droplet, from, one_way, reject } => {
            let (settings, droplets) = of(&lab.name)?;
            let way = if one_way { Direction::Outgoing } else { Direction::Both };
            let manner = if reject { Manner::Refuse } else { Manner::Drop };
            let off = match from.as_deref() {
                None => Off::Everything,
                Some("api") => Off::Api,
                Some(other) => Off::Droplet(choose(&droplets, other)?),
            };
            faults(&settings).cut(choose(&droplets, &droplet)?, off, way, manner).await?;
        }
        LabCommand::Heal(lab) => {
            let (settings, droplets) = of(&lab.name)?;
            faults(&settings).heal(&droplets).await?;
        }
        LabCommand::Freeze(chosen) => {
            let (settings, droplets) = of(&chosen.lab.name)?;
            faults(&settings).freeze(choose(&droplets, &chosen.droplet)?).await?;
        }
        LabCommand::Thaw(chosen) => {
            let (settings, droplets) = of(&chosen.lab.name)?;
            faults(&settings).thaw(choose(&droplets, &chosen.droplet)?).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn begin(args: StartArgs) -> Result<Started> {
    let mut api = api::Settings::default();
    if args.real_times {
        api.times = api::settings::Times::real();
    }
    if args.no_delays {
        api.times = api::settings::Times::none();
    }
    let times = &mut api.times;
    times.create = args.create_seconds.unwrap_or(times.create);
    times.power = args.power_seconds.unwrap_or(times.power);
    times.assign = args.assign_seconds.unwrap_or(times.assign);
    let settings = LabSettings { name: args.lab.name, port: args.port, subnets: args.subnet, api };
    let images = if args.images.is_empty() { vec!["debian-12-x64".to_owned()] } else { args.images };
    lifecycle::start(&settings, &images, args.resume, |line| tell!("{line}")).await
}

fn show(name: &LabName, json: bool) -> Result<()> {
    let status = status::look(name)?;
    if json {
        screen::json(&status)?;
    } else {
        data!("{status}");
    }
    Ok(())
}

fn of(name: &LabName) -> Result<(LabSettings, Vec<MachineSpec>)> {
    match LabSettings::load(name)? {
        Some(settings) => Ok((settings, Home::of(name).specs()?)),
        None => bail!(Wrong::new(
            format!("there is no laboratory {name}"),
            format!("`cluster lab start --name {name}`")
        )),
    }
}

fn faults(settings: &LabSettings) -> Faults<'_> {
    Faults { lab: &settings.name, subnets: &settings.subnets, port: settings.port }
}

/// A droplet by its id, or by its name if only one has it.
fn choose<'a>(droplets: &'a [MachineSpec], wanted: &str) -> Result<&'a MachineSpec> {
    if let Some(droplet) = droplets.iter().find(|droplet| wanted.parse() == Ok(droplet.id)) {
        return Ok(droplet);
    }
    let mut named = droplets.iter().filter(|droplet| droplet.name == wanted);
    match (named.next(), named.next()) {
        (Some(droplet), None) => Ok(droplet),
        (None, _) => {
            let names: Vec<_> = droplets.iter().map(|droplet| droplet.name.as_str()).collect();
            bail!(Wrong::new(
                format!("there is no droplet `{wanted}`"),
                format!("there is {}", names.join(", "))
            ))
        }
        (Some(_), Some(_)) => {
            bail!(Wrong::new(format!("several droplets are called `{wanted}`"), "give the id"))
        }
    }
}

/// Seconds, perhaps with a fraction, as milliseconds; at most a day.
fn milliseconds(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok((seconds * 1000.0).round() as u64),
        _ => Err("not a number of seconds from 0 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Whole {
        #[command(flatten)]
        lab: LabArgs,
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Whole as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn seconds_have_fractions() {
        assert_eq!(milliseconds("1.5"), Ok(1500));
        assert_eq!(milliseconds("0"), Ok(0));
        for bad in ["-1", "x", "NaN", "1e9"] {
            assert!(milliseconds(bad).is_err(), "{bad}");
        }
    }
}
