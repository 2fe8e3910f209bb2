//! What the probe finds on recorded machines, and at servers that imitate the real ones.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    reason = "helpers of tests stand outside of test functions"
)]

mod accelerators;
mod assembly;
mod choosing;
mod declared;
mod discovery;
mod garbage;
mod memory;
mod parts;
mod served;
mod servers;
mod support;
