//! One task: its states, its claim, its permits.

pub(crate) mod authority;
pub(crate) mod claim;
