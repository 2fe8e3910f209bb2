//! stub
use crate::exit::Exit;
use crate::settings::Settings;
/// x
#[derive(Debug, clap::Args)]
pub struct GetArgs {}
/// x
/// # Errors
/// x
pub async fn get(_a: &GetArgs, _s: &Settings) -> anyhow::Result<Exit> {
    Err(anyhow::anyhow!("not built yet"))
}
