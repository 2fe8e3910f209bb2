//! `foreman version`.

use serde_json::json;

use crate::exit::Exit;
use crate::output::{self, FormatArgs};

/// Flags of `foreman version`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Print the version of this program. Foreman asks nobody whether there is a newer one.",
    after_long_help = "Examples:\n  foreman version\n  foreman version -o json"
)]
pub struct VersionArgs {
    /// The form of the answer.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Prints the version.
///
/// # Errors
/// The output cannot be written.
pub fn version(args: &VersionArgs) -> anyhow::Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let report = json!({
        "version": version,
        "os": os,
        "arch": arch,
        "apiVersion": foreman_core::model::API_VERSION,
    });
    match args.format.machine(&report)? {
        Some(text) => output::print(&text)?,
        None => output::line(format!("foreman {version} ({os} {arch})"))?,
    }
    Ok(Exit::OnTarget)
}
