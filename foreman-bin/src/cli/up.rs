//! `foreman up`.

use crate::exit::Exit;
use crate::settings::{ModelFlags, NodeFlags, Settings};

/// Flags of `foreman up`.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// The model server.
    #[command(flatten)]
    pub model: ModelFlags,
    /// This machine as a node.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Not built yet.
///
/// # Errors
/// Always.
pub async fn up(_args: UpArgs, _settings: Settings) -> Result<Exit, anyhow::Error> {
    Err(anyhow::anyhow!("not built yet"))
}
