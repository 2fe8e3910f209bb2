//! Real processes that are killed, stopped and started again at the places where it hurts: work goes
//! on where it was, and the remote sees it once. Only the model is scripted.

mod beside;
mod drain;
mod kill;
pub(crate) mod machine;
pub(crate) mod model;
mod place;
mod processes;
mod state;
