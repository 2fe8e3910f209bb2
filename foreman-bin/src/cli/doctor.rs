//! stub
use crate::exit::Exit;
use crate::settings::{ModelFlags, NodeFlags, Settings};
/// x
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// x
    #[command(flatten)]
    pub model: ModelFlags,
    /// x
    #[command(flatten)]
    pub node: NodeFlags,
}
/// x
/// # Errors
/// x
pub async fn doctor(_a: &DoctorArgs, _s: &Settings) -> anyhow::Result<Exit> {
    Err(anyhow::anyhow!("not built yet"))
}
