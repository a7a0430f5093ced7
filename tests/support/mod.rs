//! What tests on real hosts share: a lab of their own, hosts in it, and the program as a person would run it.

mod bare;
mod droplet;
mod lab;

pub(crate) use bare::BareHost;
pub(crate) use droplet::{Droplet, dial, greeted, is_reset, is_silent, is_unreachable, within};
pub(crate) use lab::{Lab, PREPARED, Run, block_on, look_again};

/// An ssh that ends, whatever the host does: a test that waits for ever says nothing.
fn ssh() -> std::process::Command {
    let mut ssh = std::process::Command::new("timeout");
    // Longer than anything that a test has a host do.
    ssh.args(["-k", "10", "1200", "ssh"]);
    ssh
}
