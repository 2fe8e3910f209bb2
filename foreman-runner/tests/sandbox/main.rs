//! The sandbox against real processes. This program is its own helper, hence no
//! standard harness: `main` answers to `__sandbox` before anything else.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test program: it stops at what is unexpected, and its output is the report"
)]

#[cfg(target_os = "linux")]
mod escapes;
#[cfg(target_os = "linux")]
mod gate;
#[cfg(target_os = "linux")]
mod lifetime;
#[cfg(target_os = "linux")]
mod support;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == foreman_runner::sandbox::HELPER_ARGUMENT) {
        return foreman_runner::sandbox::helper_main(arguments.get(1..).unwrap_or_default());
    }
    run(&arguments)
}

#[cfg(not(target_os = "linux"))]
fn run(_arguments: &[String]) -> std::process::ExitCode {
    println!("test result: ok. 0 passed; 0 failed; the sandbox of this system is not tested");
    std::process::ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn run(arguments: &[String]) -> std::process::ExitCode {
    if let Some(role) = arguments.first().and_then(|it| it.strip_prefix("role=")) {
        return support::play(role, arguments.get(1..).unwrap_or_default());
    }
    let cases: Vec<support::Case> = [escapes::CASES, lifetime::CASES, gate::CASES].concat();
    support::run_all(&cases, arguments)
}
