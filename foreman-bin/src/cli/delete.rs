//! stub
use crate::exit::Exit;
use crate::settings::Settings;
/// x
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {}
/// x
/// # Errors
/// x
pub async fn delete(_a: &DeleteArgs, _s: &Settings) -> anyhow::Result<Exit> {
    Err(anyhow::anyhow!("not built yet"))
}
