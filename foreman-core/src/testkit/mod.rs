//! For tests: a simulated clock and chance, mocks, and the conformance cases of every port.

pub mod conformance;
pub mod mock;
pub mod sim;
