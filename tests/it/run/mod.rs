//! Runs for real: the runner's executor with real git, a real sandbox and a model server on a socket.

mod coder;
mod continues;
mod llama;
mod malformed;
mod outcomes;
mod repositories;
mod resume;
mod secrets;
mod smart_http;
mod stopping;
