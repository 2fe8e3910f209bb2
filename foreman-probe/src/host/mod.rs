//! The machine itself: memory, processors, disk.

pub mod cgroup;
pub mod cpu;
pub mod darwin;
pub mod disk;
pub mod memory;
