//! Process 1 of the pid namespace.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, setsid};

use super::super::policy::{Policy, Report, Request};
use super::mounts::{change_root, try_mount};
use super::namespaces;
use super::restrict::{Within, restrict};
use super::{Channel, Ended, Failed, Step, read_policy};

/// Why the command does not run.
enum NotStarted {
    Setup(Failed),
    Exec(std::io::Error),
}

pub(crate) fn main(mut channel: Channel) -> Ended {
    match run(&mut channel) {
        Ok(code) => Ok(code),
        Err(failed) => Err((channel, failed)),
    }
}

/// Tries namespaces and mounts in them, and says whether they can be had.
pub(crate) fn probe(mut channel: Channel) -> Ended {
    let tried = channel
        .lines()
        .step("read the policy")
        .and_then(|mut lines| read_policy(&mut lines))
        .and_then(|policy| {
            namespaces::enter(policy.network)?;
            try_mount(&policy.new_root)
        });
    match tried {
        Ok(()) => {
            channel.report(&Report::Started);
            Ok(ExitCode::SUCCESS)
        }
        Err(failed) => Err((channel, failed)),
    }
}

fn run(channel: &mut Channel) -> Result<ExitCode, Failed> {
    prctl::set_pdeathsig(Signal::SIGKILL).step("tie the sandbox to its parent")?;
    // The command runs as the same user: it must not reach into this process.
    prctl::set_dumpable(false).step("close the sandbox's memory")?;
    setsid().step("start a session")?;
    let mut lines = channel.lines().step("read the policy")?;
    let policy = read_policy(&mut lines)?;
    let missing = change_root(&policy)?;
    report_missing(channel, missing);
    // A thread's rights are its own: the command gets this one's, and process 1
    // keeps what it needs to end the command.
    let started = thread::scope(|scope| scope.spawn(|| start(&policy)).join());
    let command = match started {
        Ok(Ok((pid, missing))) => {
            report_missing(channel, missing);
            channel.report(&Report::Started);
            pid
        }
        Ok(Err(NotStarted::Setup(failed))) => return Err(failed),
        Ok(Err(NotStarted::Exec(error))) => {
            channel.report(&exec_report(&policy, &error));
            return Ok(ExitCode::SUCCESS);
        }
        Err(_) => {
            return Err(Failed::new("start the command", "the starting thread panicked"));
        }
    };
    thread::spawn(move || {
        while let Ok(Some(request)) = Channel::read::<Request>(&mut lines) {
            match request {
                // Everything in the namespace but process 1.
                Request::Terminate => signal_all(Signal::SIGTERM),
                Request::Kill => signal_all(Signal::SIGKILL),
            }
        }
    });
    channel.report(&reap_until(command)?);
    Ok(ExitCode::SUCCESS)
}

/// Signals all but process 1; that there is nobody left is no error.
fn signal_all(signal: Signal) {
    kill(Pid::from_raw(-1), signal).unwrap_or_default();
}

pub(crate) fn report_missing(channel: &mut Channel, missing: Vec<(String, String)>) {
    for (layer, reason) in missing {
        channel.report(&Report::Missing { layer, reason });
    }
}

pub(crate) fn exec_report(policy: &Policy, error: &std::io::Error) -> Report {
    Report::Exec {
        program: policy.argv.first().cloned().unwrap_or_default(),
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    }
}

/// The command, ready to start; its environment is the policy's alone.
pub(crate) fn command(policy: &Policy) -> Result<Command, Failed> {
    let (program, arguments) = policy
        .argv
        .split_first()
        .ok_or_else(|| Failed::new("read the policy", "the command is empty"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&policy.env).current_dir(&policy.dir);
    command.stdin(Stdio::null());
    Ok(command)
}

type Missing = Vec<(String, String)>;

fn start(policy: &Policy) -> Result<(Pid, Missing), NotStarted> {
    let missing = restrict(policy, Within::Namespaces).map_err(NotStarted::Setup)?;
    let mut command = command(policy).map_err(NotStarted::Setup)?;
    let child = command.process_group(0).spawn().map_err(NotStarted::Exec)?;
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    Ok((Pid::from_raw(pid), missing))
}

/// Reaps every child until `command` itself ended.
fn reap_until(command: Pid) -> Result<Report, Failed> {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => return Ok(Report::Exited(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return Ok(Report::Signaled(signal as i32));
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(Failed::new("wait for the command", error)),
        }
    }
}
