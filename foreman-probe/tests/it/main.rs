//! What the probe finds on recorded machines, and at servers that imitate the real ones.

mod accelerators;
mod assembly;
mod choosing;
mod declared;
mod garbage;
mod memory;
mod parts;
mod servers;
mod support;
