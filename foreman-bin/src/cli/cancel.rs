//! stub
use crate::exit::Exit;
use crate::settings::Settings;
/// x
#[derive(Debug, clap::Args)]
pub struct CancelArgs {}
/// x
/// # Errors
/// x
pub async fn cancel(_a: &CancelArgs, _s: &Settings) -> anyhow::Result<Exit> {
    Err(anyhow::anyhow!("not built yet"))
}
