//! Parts of the examples that tests use.

pub mod own_store;
