//! `cluster psql`: a session, where writes go or where reads do.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use super::completions;
use super::connect::{self, Login};
use crate::connect::Connection;
use crate::connect::format::conninfo;
use crate::error::{Advice, Exit};
use crate::inventory::Source;

/// `cluster psql`.
#[derive(Debug, Args)]
pub struct PsqlArgs {
    /// Connect to this data node, whatever its role
    #[arg(short, long, conflicts_with = "read", add = completions::data_nodes())]
    node: Option<String>,
    /// Connect to a node for reading, a standby if there is one
    #[arg(long)]
    read: bool,
    #[command(flatten)]
    login: Login,
    /// Arguments for psql, after `--`
    #[arg(last = true)]
    args: Vec<OsString>,
}

pub(super) async fn run(source: &Source, args: PsqlArgs) -> Result<Exit> {
    let connection = connect::connection(source, &args.login).await?;
    let conninfo = target(&connection, args.node.as_deref(), args.read)?;
    // The connection goes as an argument, which others can see; the password is in the file that it names.
    let error = Command::new("psql").arg(conninfo).args(args.args).exec();
    Err(Advice::failed(format!("cannot run psql: {error}")).hint("apt-get install postgresql-client").into())
}

fn target(connection: &Connection, node: Option<&str>, read: bool) -> Result<String> {
    let Some(node) = node else {
        let servers = if read { &connection.read } else { &connection.write };
        return Ok(conninfo(connection, servers, !read));
    };
    let server: Vec<_> =
        connection.read.iter().filter(|server| server.node.as_deref() == Some(node)).cloned().collect();
    if server.is_empty() {
        let names: Vec<_> = connection.read.iter().filter_map(|server| server.node.as_deref()).collect();
        return Err(Advice::usage(format!("`{node}` is not a data node of this cluster"))
            .hint(format!("its data nodes are {}", names.join(" and ")))
            .into());
    }
    Ok(conninfo(connection, &server, false))
}
