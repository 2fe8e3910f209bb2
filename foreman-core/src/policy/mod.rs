//! Policy: what the schema cannot say of a manifest, and where work may go.

pub mod admit;
pub mod git_names;
pub mod validate;
mod validate_agent;

pub use admit::{Egress, Forbidden, Gate, Policy, admit, admit_address, egress};
pub use git_names::{check_branch, check_repo};
pub use validate::{Finding, Severity, validate};
