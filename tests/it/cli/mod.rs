//! The command line, as a person meets it: the real program, its output and its exit codes.

mod asking;
mod help;
mod lab;
mod machine;
mod objects;
mod questions;
mod reading;
mod story;
mod verbs;
