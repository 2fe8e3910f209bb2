//! Executes a run: model client, tools, sandbox, workspace, gate.

pub mod sandbox;
pub mod sandbox_probe;
