//! `cluster render`: every script as it runs on a host, for shellcheck.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::error::Exit;
use crate::facts::probe;
use crate::script;

pub(super) fn run(directory: &Path) -> Result<Exit> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for (name, text) in script::ALL.iter().chain([&("probe", probe::SCRIPT), &script::OF_THE_GUARD]) {
        let path = directory.join(format!("{name}.sh"));
        let text = if text.starts_with("#!") { (*text).to_owned() } else { format!("#!/bin/sh\n{text}") };
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Exit::Done)
}
