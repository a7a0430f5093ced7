//! `cluster explain`.

use std::path::Path;

use anyhow::Result;

use crate::error::Exit;

pub(super) async fn run(_path: &Path, _list: bool, _json: bool) -> Result<Exit> {
    todo!()
}
