//! `cluster lab`: a cloud on this machine, with hosts that really boot.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use cluster_lab::api::fault::Rule;
use cluster_lab::api::spaces_fault::{Away, SpacesFault};
use cluster_lab::fault::{Direction, Faults, Manner, Off};
use cluster_lab::home::Home;
use cluster_lab::lifecycle::{self, Started};
use cluster_lab::machine::MachineSpec;
use cluster_lab::{IMAGES, LabName, LabSettings, Subnets, Wrong, api, daemon, order, status};

use crate::{data, screen, tell};

/// Run a DigitalOcean-compatible API on this machine, with droplets that are containers and really boot
#[derive(Debug, Args)]
#[command(after_help = "Faults of the API and of its object storage can be ordered: see docs/lab.md.")]
pub struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Start a lab; first remove what a killed one of the same name left behind
    Start(StartArgs),
    /// Show a lab's API, droplets and floating IPs
    Status(Named),
    /// List the labs on this machine: name, state and ports
    List,
    /// Stop a lab and delete everything it created, including droplets and their disks
    Stop {
        #[command(flatten)]
        lab: Named,
        /// Also delete the droplet images; the next start rebuilds them
        #[arg(long)]
        purge: bool,
    },
    /// Run the daemon in the foreground
    #[command(hide = true)]
    Serve(Named),
    /// Cut a droplet off from another droplet, the API (`api`) or everything
    #[command(hide = true)]
    Cut {
        #[command(flatten)]
        lab: Named,
        /// The droplet's name or id
        droplet: String,
        /// Another droplet, or `api` [default: everything]
        from: Option<String>,
        /// Drop only the packets that the droplet sends
        #[arg(long)]
        one_way: bool,
        /// Reject packets instead of dropping them
        #[arg(long)]
        reject: bool,
    },
    /// Undo all cuts
    #[command(hide = true)]
    Heal(Named),
    /// Freeze all processes of a droplet
    #[command(hide = true)]
    Freeze(Chosen),
    /// Thaw a frozen droplet
    #[command(hide = true)]
    Thaw(Chosen),
    /// Order a fault of Spaces, in addition to those in force
    #[command(hide = true)]
    Spaces(SpacesArgs),
}

#[derive(Debug, Args)]
struct SpacesArgs {
    #[command(flatten)]
    lab: Named,
    /// Only requests with this method
    #[arg(long)]
    method: Option<String>,
    /// Only requests to this path; `*` stands for any characters
    #[arg(long, default_value = "*", value_name = "/BUCKET/KEY")]
    path: String,
    /// How many requests to let pass first
    #[arg(long, default_value_t = 0, value_name = "REQUESTS")]
    after: u32,
    /// How many requests it then happens to [default: all]
    #[arg(long, value_name = "REQUESTS")]
    times: Option<u32>,
    #[command(subcommand)]
    order: SpacesOrder,
}

#[derive(Debug, Subcommand)]
enum SpacesOrder {
    /// Answer late, or move bodies slowly
    Slow {
        /// Milliseconds before anything happens
        #[arg(long, default_value_t = 0)]
        ms: u64,
        /// How fast bodies move, either way
        #[arg(long)]
        bytes_per_second: Option<u64>,
    },
    /// Answer 403 AccessDenied
    Forbidden,
    /// Answer 500 InternalError
    Error,
    /// Answer 503 SlowDown
    SlowDown,
    /// Reset the connection in the middle of an upload
    Reset {
        /// Bytes of the upload to take first
        #[arg(long, default_value_t = 0)]
        after_bytes: u64,
    },
    /// Refuse what is written beyond a limit: 403 QuotaExceeded
    Full {
        /// What all buckets may hold [default: what they hold now]
        #[arg(long)]
        bytes: Option<u64>,
    },
    /// Have the bucket belong to another account
    Taken,
    /// Refuse all connections
    Away {
        /// Reset them instead
        #[arg(long)]
        reset: bool,
    },
    /// End all faults of Spaces
    Heal,
}

#[derive(Debug, Args)]
struct Named {
    /// The lab's name
    #[arg(long, global = true, default_value = "lab")]
    name: LabName,
}

#[derive(Debug, Args)]
struct Chosen {
    #[command(flatten)]
    lab: Named,
    /// The droplet's name or id
    droplet: String,
}

#[derive(Debug, Args)]
struct StartArgs {
    #[command(flatten)]
    lab: Named,
    /// The API's port on loopback
    #[arg(long, default_value_t = 8480)]
    port: u16,
    /// A private /16 that this machine does not use; every lab needs its own
    #[arg(long, default_value = "10.99.0.0/16")]
    subnet: Subnets,
    /// An image to build now; others are built on first use [default: debian-12-x64]
    #[arg(long = "image", value_name = "SLUG", value_parser = IMAGES.map(|(slug, _)| slug))]
    images: Vec<String>,
    /// Resume a lab that was killed, instead of removing what it left behind
    #[arg(long)]
    resume: bool,
    /// Time until a new droplet is active
    #[arg(long, value_name = "SECONDS", value_parser = milliseconds)]
    create_seconds: Option<u64>,
    /// Duration of a power action
    #[arg(long, value_name = "SECONDS", value_parser = milliseconds)]
    power_seconds: Option<u64>,
    /// Time until a floating IP points to another droplet
    #[arg(long, value_name = "SECONDS", value_parser = milliseconds)]
    assign_seconds: Option<u64>,
    /// Take as long as DigitalOcean does
    #[arg(long, conflicts_with = "no_delays")]
    real_times: bool,
    /// Add no delays beyond what the machines themselves need
    #[arg(long)]
    no_delays: bool,
}

/// Runs the command.
///
/// # Errors
/// As the command's own functions.
pub async fn run(args: LabArgs, json: bool) -> Result<ExitCode> {
    match args.command {
        LabCommand::Start(start) => {
            let name = start.lab.name.clone();
            let started = begin(start).await?;
            if started == Started::AlreadyRunning {
                tell!("lab {name} is already running");
            }
            show(&name, json)?;
        }
        LabCommand::Status(lab) => show(&lab.name, json)?,
        LabCommand::List => list(json)?,
        LabCommand::Stop { lab, purge } => {
            let was_there = lifecycle::stop(&lab.name, purge, |note| tell!("{note}")).await?;
            let now = if was_there { "is stopped; nothing of it is left" } else { "does not exist" };
            tell!("lab {} {now}", lab.name);
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
        LabCommand::Spaces(args) => {
            let (settings, _) = of(&args.lab.name)?;
            order_spaces(&settings, args).await?;
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

fn list(json: bool) -> Result<()> {
    let labs = status::list()?;
    if json {
        screen::json(&labs)?;
    } else if labs.is_empty() {
        tell!("there is no lab on this machine");
    }
    for lab in labs.iter().filter(|_| !json) {
        data!("{lab}");
    }
    Ok(())
}

fn of(name: &LabName) -> Result<(LabSettings, Vec<MachineSpec>)> {
    match LabSettings::load(name)? {
        Some(settings) => Ok((settings, Home::of(name).specs()?)),
        None => bail!(Wrong::new(
            format!("there is no lab `{name}`"),
            format!("start it with `cluster lab start --name {name}`")
        )),
    }
}

fn faults(settings: &LabSettings) -> Faults<'_> {
    Faults { lab: &settings.name, subnets: &settings.subnets, port: settings.port }
}

async fn order_spaces(settings: &LabSettings, args: SpacesArgs) -> Result<()> {
    let fault = match args.order {
        SpacesOrder::Slow { ms, bytes_per_second } => SpacesFault::Slow { ms, bytes_per_second },
        SpacesOrder::Forbidden => SpacesFault::Forbidden,
        SpacesOrder::Error => SpacesFault::Error,
        SpacesOrder::SlowDown => SpacesFault::SlowDown,
        SpacesOrder::Reset { after_bytes } => SpacesFault::Reset { after_bytes },
        SpacesOrder::Full { bytes } => SpacesFault::Full { bytes },
        SpacesOrder::Taken => SpacesFault::Taken,
        SpacesOrder::Away { reset } => {
            return order::spaces_away(settings, if reset { Away::Reset } else { Away::Refused }).await;
        }
        SpacesOrder::Heal => return order::heal_spaces(settings).await,
    };
    let rule = Rule { method: args.method, path: args.path, fault, after: args.after, count: args.times };
    order::spaces_fault(settings, &rule).await
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
                format!("the droplets are {}", names.join(", "))
            ))
        }
        (Some(_), Some(_)) => {
            bail!(Wrong::new(format!("several droplets are named `{wanted}`"), "use the id"))
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
