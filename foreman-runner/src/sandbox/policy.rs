//! What the helper is told and what it answers: one JSON document down, one
//! JSON line per report up, over the socket that is the helper's standard input.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The whole of what a confined command may reach.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Where it starts.
    pub(crate) dir: PathBuf,
    /// Its whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Folders it may write.
    pub(crate) write: Vec<PathBuf>,
    /// Files and folders it may read and execute.
    pub(crate) read: Vec<PathBuf>,
    /// What stays out of reach although it lies beneath `read` or `write`.
    pub(crate) hide: Vec<PathBuf>,
    /// What stays read-only although it lies beneath `write`; needs a mount
    /// namespace, so nothing may rest on it alone.
    pub(crate) protect: Vec<PathBuf>,
    /// An empty folder on which the new root is put together.
    pub(crate) new_root: PathBuf,
    /// The private folder shown as `/tmp`.
    pub(crate) tmp: PathBuf,
    /// Whether the host's network stays.
    pub(crate) network: bool,
    /// Whether namespaces confine the command.
    pub(crate) namespaces: Namespaces,
}

/// Whether to confine by namespaces; found out once, by trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Namespaces {
    /// The system gives them; from here on a refusal is a failure.
    Use,
    /// The system refuses them, for this reason.
    Missing(String),
}

/// One report of the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A layer that could not be had; the command still runs.
    Missing { layer: String, reason: String },
    /// The command was not run.
    Setup { step: String, reason: String },
    /// The command could not be started.
    Exec { program: String, errno: i32 },
    /// The command runs; all layers that could be had are in force.
    Started,
    /// The command ended with this code.
    Exited(i32),
    /// This signal ended the command.
    Signaled(i32),
}

/// What the parent asks of a running helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Ask every process of the command to end.
    Terminate,
    /// End every process of the command.
    Kill,
}
