//! Executes a run: model client, tools, sandbox, workspace, gate.

pub mod observe;
pub mod budget;
pub mod journal;
pub mod limits;
pub mod model_client;
pub mod prompt;
pub mod redact;
pub mod sandbox;
pub mod sandbox_probe;
pub mod text;
pub mod tool;
pub mod turn;
pub mod gate;
pub mod git;
pub mod project;
pub mod publish;
pub mod workspace;
