//! What `foreman demo` needs and nobody else: a repository with a failing test, and a model server
//! whose answers are scripted.

mod fixture;
mod script;
mod server;

pub use fixture::{Fixture, INTENT};
pub use server::{CONTEXT_TOKENS, LABEL, MODEL_NAME, ScriptedServer};
