//! stub
use crate::exit::Exit;
use crate::settings::Settings;
/// x
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {}
/// x
/// # Errors
/// x
pub async fn apply(_a: &ApplyArgs, _s: &Settings) -> anyhow::Result<Exit> {
    Err(anyhow::anyhow!("not built yet"))
}
