//! For tests: a simulated clock and chance, mocks, and the conformance cases of every port.

pub mod conformance;
pub mod fault;
pub mod load;
pub mod mock;
pub mod scripted;
pub mod sim;
pub mod told;

#[cfg(feature = "seeded-bugs")]
pub use crate::bugs::{Bug, with as with_bug};
