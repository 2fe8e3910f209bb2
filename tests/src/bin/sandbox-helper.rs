//! The sandbox's helper for the suites: what `foreman __sandbox` is for the `foreman` command.

use std::process::ExitCode;

use foreman_runner::sandbox::{HELPER_ARGUMENT, helper_main};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == HELPER_ARGUMENT => helper_main(rest),
        _ => ExitCode::FAILURE,
    }
}
