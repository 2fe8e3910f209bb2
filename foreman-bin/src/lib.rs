//! The foreman command, as a library: what its programs are made of.
#![warn(missing_docs)]

pub mod cli;
pub mod demo;
pub mod events;
pub mod exit;
pub mod follow;
pub mod leader;
pub mod manifest_file;
pub use foreman_probe::os_clock;
pub mod output;
pub mod parts;
pub mod progress;
pub mod settings;
pub mod target;
pub mod telemetry;
pub mod untrusted;
