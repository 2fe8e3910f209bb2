//! One task: its states, its claim, its permits.

pub(crate) mod attempts;
pub(crate) mod authority;
pub(crate) mod budget;
pub(crate) mod claim;
pub(crate) mod hanging;
pub(crate) mod intake;
pub(crate) mod lifecycle;
pub(crate) mod retry;
pub(crate) mod standing;
pub(crate) mod take_back;
pub(crate) mod timeout;
pub(crate) mod writes;
