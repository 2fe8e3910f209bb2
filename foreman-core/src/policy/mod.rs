//! Policy: what the schema cannot say of a manifest.

pub mod git_names;
pub mod validate;
mod validate_agent;

pub use git_names::{check_branch, check_repo};
pub use validate::{Finding, Severity, validate};
