//! stub
use crate::exit::Exit;
use crate::settings::Settings;
/// x
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {}
/// x
/// # Errors
/// x
pub async fn explain(_a: &ExplainArgs, _s: &Settings) -> anyhow::Result<Exit> {
    Err(anyhow::anyhow!("not built yet"))
}
