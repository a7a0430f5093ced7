//! A private key that only a person can open: found out before anything is made that it should open.

use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use super::World;
use crate::error::Advice;

impl World {
    /// Whether the inventory's SSH keys can be used without a person.
    ///
    /// # Errors
    /// [`Advice`], if one has a passphrase and no agent holds it.
    pub async fn usable_key(&self) -> Result<()> {
        for key in self.inventory.ssh_keys() {
            usable(key).await?;
        }
        Ok(())
    }
}

async fn usable(key: &Path) -> Result<()> {
    if opens(key).await || held_by_agent(key).await {
        return Ok(());
    }
    Err(Advice::refused(format!("{} has a passphrase and is not loaded into an SSH agent", key.display()))
            .hint(format!(
                "load it with `ssh-add {}` (`eval $(ssh-agent)` starts an agent), or name a key without a passphrase \
                 as `ssh_key`",
                key.display()
            ))
            .into())
}

/// Whether it has no passphrase. Where ssh-keygen is not there, ssh will tell.
async fn opens(key: &Path) -> bool {
    let output = Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(key).output().await;
    output.map_or(true, |output| {
        output.status.success() || !String::from_utf8_lossy(&output.stderr).contains("incorrect passphrase")
    })
}

/// Whether an agent signs with it: by its public half, if there is one beside it, as ssh does it.
async fn held_by_agent(key: &Path) -> bool {
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    let output = Command::new("ssh-add").arg("-T").arg(&public).output().await;
    output.is_ok_and(|output| output.status.success())
}
