//! What people and other programs get wrong: each is one clear error with its exit code, nothing is
//! changed, and no text of others is obeyed by a terminal.

mod files;
mod flags;
mod repositories;
mod table;
mod targets;
mod terminal;
