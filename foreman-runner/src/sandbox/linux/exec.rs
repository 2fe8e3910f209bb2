//! Without namespaces: give up rights, then become the command.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::setsid;

use super::super::policy::Report;
use super::init::{command, exec_report, report_missing};
use super::restrict::{Within, restrict};
use super::{Channel, Ended, Failed, Step, read_policy};

pub(crate) fn main(mut channel: Channel) -> Ended {
    match run(&mut channel) {
        Ok(code) => Ok(code),
        Err(failed) => Err((channel, failed)),
    }
}

fn run(channel: &mut Channel) -> Result<ExitCode, Failed> {
    prctl::set_pdeathsig(Signal::SIGKILL).step("tie the command to its parent")?;
    setsid().step("start a session")?;
    let mut lines = channel.lines().step("read the policy")?;
    let policy = read_policy(&mut lines)?;
    let missing = restrict(&policy, Within::Host)?;
    report_missing(channel, missing);
    let mut command = command(&policy)?;
    channel.report(&Report::Started);
    // Returns only when it failed. Our copies of the channel close at exec.
    let error = command.exec();
    channel.report(&exec_report(&policy, &error));
    Ok(ExitCode::FAILURE)
}
