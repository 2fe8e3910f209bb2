//! The foreman command, as a library: what its programs are made of.
#![warn(missing_docs)]

pub mod manifest_file;
