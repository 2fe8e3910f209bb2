//! A trusted program that must not outlive the agent: git, while it does what the world can see.
//!
//! `__sandbox tied PARENT PROGRAM ARGUMENT…` asks the kernel to kill it when its parent dies, and
//! becomes the program. So an agent that is killed takes its push with it: the next one looks at the
//! remote, and nothing moves there behind its back. Nothing is confined.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// What a shell answers when there is no such program.
const NOT_STARTED: u8 = 127;

/// Becomes the program. Its arguments may be no text, so they are read anew.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(3);
    let parent = arguments.next().and_then(|text| text.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(program)) = (parent, arguments.next()) else {
        return ExitCode::FAILURE;
    };
    // Whoever died before the kernel was asked is not our parent any more.
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid().as_raw() != parent {
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program).args(arguments).exec();
    let told = writeln!(std::io::stderr(), "cannot start {}: {error}", program.display());
    drop(told);
    ExitCode::from(NOT_STARTED)
}
