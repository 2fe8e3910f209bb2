//! Core's rules and loops on the in-memory store, with a clock that tests move.

mod agent_start;
mod control;
mod effects;
mod lab;
mod registrar;
mod runs;
mod scheduling;
mod store_faults;
mod workloads;
