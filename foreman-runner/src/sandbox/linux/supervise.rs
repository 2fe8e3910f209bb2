//! The process between the agent and the confined command.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use super::super::HELPER_ARGUMENT;
use super::super::policy::{Namespaces, Policy, Report, Request};
use super::{Channel, Ended, Failed, Step, namespaces, read_policy};

/// This very program, even if its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Rounds of looking for left-over processes; each ends all that it finds.
const SWEEPS_MAX: usize = 10_000;

pub(crate) fn main(mut channel: Channel) -> Ended {
    match run(&mut channel) {
        Ok(code) => Ok(code),
        Err(failed) => Err((channel, failed)),
    }
}

fn run(channel: &mut Channel) -> Result<ExitCode, Failed> {
    let mut lines = channel.lines().step("read the policy")?;
    let policy = read_policy(&mut lines)?;
    let life = enter_namespaces(channel, &policy)?;
    if life == "exec" {
        prctl::set_child_subreaper(true).step("adopt orphans")?;
    }
    let (inner, child) = start_next_life(life, &policy)?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // What this process can see is not for the command to read.
    prctl::set_dumpable(false).step("close the supervisor's memory")?;
    let mut watch = Watch { life, pid, inner, started: false, last: None };
    watch.serve(channel)?;
    let status = waitpid(pid, None).step("wait for the command")?;
    if life == "exec" {
        sweep();
    }
    let report = watch.last.unwrap_or_else(|| ended_report(life, status));
    channel.report(&report);
    Ok(ExitCode::SUCCESS)
}

/// Which life comes next: `init` inside namespaces, or `exec` without.
fn enter_namespaces(channel: &mut Channel, policy: &Policy) -> Result<&'static str, Failed> {
    match &policy.namespaces {
        Namespaces::Use => namespaces::enter(policy.network).map(|()| "init"),
        Namespaces::Missing(reason) => {
            channel.report(&Report::Missing {
                layer: "namespaces".to_owned(),
                reason: reason.clone(),
            });
            Ok("exec")
        }
    }
}

fn start_next_life(life: &str, policy: &Policy) -> Result<(Channel, Child), Failed> {
    let step = "start the sandbox's next life";
    let (ours, theirs) = UnixStream::pair().step(step)?;
    let child = Command::new(THIS_PROGRAM)
        .args([HELPER_ARGUMENT, life])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .step(step)?;
    let mut channel = Channel::new(ours);
    channel.write(policy).step(step)?;
    Ok((channel, child))
}

/// Without namespaces the child was the command itself.
fn ended_report(life: &str, status: WaitStatus) -> Report {
    if life == "exec" {
        if let WaitStatus::Exited(_, code) = status {
            return Report::Exited(code);
        }
        if let WaitStatus::Signaled(_, signal, _) = status {
            return Report::Signaled(signal as i32);
        }
    }
    Report::Setup {
        step: "wait for the command".to_owned(),
        reason: format!("unexpected end: {status:?}"),
    }
}

/// Stands between agent and command, in one thread: a process that entered a
/// pid namespace for its children can start none.
struct Watch {
    life: &'static str,
    pid: Pid,
    inner: Channel,
    started: bool,
    /// The report that ends the story; held back until every process is gone.
    last: Option<Report>,
}

impl Watch {
    /// Passes reports and requests on until the command has ended.
    fn serve(&mut self, outer: &mut Channel) -> Result<(), Failed> {
        let mut reports = LineReader::new(&self.inner).step("read reports")?;
        let mut requests = LineReader::new(outer).step("watch the agent")?;
        let mut listening = true;
        loop {
            let ready = wait_for(&reports, &requests, listening).step("watch the command")?;
            if ready.requests {
                let open = requests.fill();
                while let Some(request) = requests.next::<Request>() {
                    self.obey(request);
                }
                if !open {
                    // The agent is gone; nothing of its run may stay.
                    listening = false;
                    self.obey(Request::Kill);
                }
            }
            if ready.reports {
                let open = reports.fill();
                while let Some(report) = reports.next::<Report>() {
                    self.note(report, outer);
                }
                if !open {
                    if self.life == "init" || self.last.is_some() {
                        self.no_report_is_a_failure();
                        return Ok(());
                    }
                    return self.until_the_command_ends(outer, &mut requests, listening);
                }
            }
        }
    }

    /// Without namespaces the reports end when the command begins.
    fn until_the_command_ends(
        &mut self,
        outer: &Channel,
        requests: &mut LineReader,
        mut listening: bool,
    ) -> Result<(), Failed> {
        if !self.started {
            self.no_report_is_a_failure();
            return Ok(());
        }
        let ended = pidfd_open(self.pid)?;
        loop {
            let mut watched = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
            if listening {
                watched.push(PollFd::new(outer.stream.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(Failed::new("watch the command", error)),
            }
            let fired = |index: usize| watched.get(index).and_then(PollFd::any).unwrap_or(false);
            if fired(0) {
                return Ok(());
            }
            if fired(1) {
                let open = requests.fill();
                while let Some(request) = requests.next::<Request>() {
                    self.obey(request);
                }
                if !open {
                    listening = false;
                    self.obey(Request::Kill);
                }
            }
        }
    }

    fn no_report_is_a_failure(&mut self) {
        self.last.get_or_insert_with(|| Report::Setup {
            step: "run the command".to_owned(),
            reason: "the sandbox ended without a report; was it killed for want of memory?"
                .to_owned(),
        });
    }

    fn note(&mut self, report: Report, outer: &mut Channel) {
        match report {
            Report::Missing { .. } => outer.report(&report),
            Report::Started => {
                self.started = true;
                outer.report(&report);
            }
            Report::Setup { .. }
            | Report::Exec { .. }
            | Report::Exited(_)
            | Report::Signaled(_) => {
                self.last = Some(report);
            }
        }
    }

    /// An error of a signal means that its target is gone already.
    fn obey(&mut self, request: Request) {
        match (request, self.life) {
            (Request::Terminate, "init") => {
                if self.inner.write(&request).is_err() {
                    tracing::debug!("the sandbox's inner life is gone");
                }
            }
            (Request::Terminate, _) => killpg(self.pid, Signal::SIGTERM).unwrap_or_default(),
            // The namespace's first process takes all others with it.
            (Request::Kill, "init") => kill(self.pid, Signal::SIGKILL).unwrap_or_default(),
            (Request::Kill, _) => kill_tree(self.pid),
        }
    }
}

struct Ready {
    reports: bool,
    requests: bool,
}

fn wait_for(reports: &LineReader, requests: &LineReader, listening: bool) -> nix::Result<Ready> {
    let mut watched = vec![PollFd::new(reports.stream.as_fd(), PollFlags::POLLIN)];
    if listening {
        watched.push(PollFd::new(requests.stream.as_fd(), PollFlags::POLLIN));
    }
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(error) => return Err(error),
    }
    let fired = |index: usize| watched.get(index).and_then(PollFd::any).unwrap_or(false);
    Ok(Ready { reports: fired(0), requests: fired(1) })
}

/// Lines of a stream that is read only when it has something.
struct LineReader {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl LineReader {
    fn new(channel: &Channel) -> std::io::Result<Self> {
        Ok(Self { stream: channel.stream.try_clone()?, pending: Vec::new() })
    }

    /// Takes what is there; false at the stream's end.
    fn fill(&mut self) -> bool {
        let mut piece = [0_u8; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(length) => {
                self.pending.extend_from_slice(piece.get(..length).unwrap_or_default());
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    /// The next whole line, if it can be read as a `T`.
    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        let end = self.pending.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        serde_json::from_slice(&line).ok()
    }
}

/// A descriptor that becomes readable when the process ends.
fn pidfd_open(pid: Pid) -> Result<OwnedFd, Failed> {
    let step = "watch the command";
    let pid = rustix::process::Pid::from_raw(pid.as_raw())
        .ok_or_else(|| Failed::new(step, "the process has no number"))?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).step(step)
}

/// Ends and reaps everything beneath this process, orphans of orphans too.
fn sweep() {
    for _ in 0..SWEEPS_MAX {
        for pid in children_of(getpid()) {
            kill_tree(pid);
        }
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn kill_tree(pid: Pid) {
    // Stopped first, so that it starts no more while we look.
    kill(pid, Signal::SIGSTOP).unwrap_or_default();
    for child in children_of(pid) {
        kill_tree(child);
    }
    kill(pid, Signal::SIGKILL).unwrap_or_default();
}

/// Children of a process, from the list of all processes.
fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent.as_raw())).map(Pid::from_raw).collect()
}

/// The fourth field of `stat`; the second may hold anything, up to its last ')'.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
