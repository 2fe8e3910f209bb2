//! The real binary on real repositories: only the model is scripted.

mod demo;
mod model;
mod refusals;
mod resume;
mod support;
mod together;
