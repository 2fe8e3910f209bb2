//! The real binary on real repositories: only the model is scripted.

mod demo;
mod ends;
mod fix_round;
mod model;
mod next;
mod refusals;
mod resume;
mod steering;
mod support;
#[cfg(target_os = "linux")]
mod terminal;
mod together;
