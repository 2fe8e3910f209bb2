//! Core's rules and loops on the in-memory store, with a clock that tests move.
#![expect(clippy::expect_used, reason = "a test's helper that cannot go on fails the test")]
#![expect(clippy::large_futures, reason = "a test's future holds a whole fleet")]

mod agent_start;
mod behaviours;
mod claims;
mod control;
mod effects;
mod fleet_laws;
mod given_back;
mod hanging;
mod journals;
mod lab;
mod lane;
mod late_children;
mod late_claims;
mod liveness;
mod many_silent;
mod node_orders;
mod promises;
mod refusals;
mod registrar;
mod registrar_loop;
mod room_held;
mod runs;
mod scenarios;
mod scheduling;
mod scheduling_laws;
mod shared_budget;
mod sim;
mod store_faults;
mod strike_laws;
mod strikes;
mod workloads;
mod workloads_batch;
mod workloads_orders;
mod workloads_play;
