//! Executes a run: model client, tools, sandbox, workspace, gate.

pub mod attempt;
pub mod budget;
pub mod gate;
pub mod git;
pub mod journal;
pub mod limits;
pub mod model_client;
pub mod observe;
pub mod project;
pub mod prompt;
pub mod publish;
pub mod redact;
pub mod sandbox;
pub mod sandbox_probe;
pub mod text;
pub mod tool;
pub mod turn;
pub mod workspace;
