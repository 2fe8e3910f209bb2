//! The process between the agent and the confined command.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use super::super::policy::{Namespaces, Policy, Report, Request};
use super::super::HELPER_ARGUMENT;
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
    let (mut inner, child) = start_next_life(life, &policy)?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    prctl::set_dumpable(false).step("close the supervisor's memory")?;
    let ended = Arc::new(AtomicBool::new(false));
    let requests = inner.try_clone().step("watch the agent")?;
    let watch = Watch { inner: requests, life, pid, ended: Arc::clone(&ended) };
    thread::spawn(move || watch.serve(lines));
    let last = relay(channel, &mut inner, life)?;
    let status = waitpid(pid, None).step("wait for the command")?;
    ended.store(true, Ordering::SeqCst);
    if life == "exec" {
        sweep();
    }
    let report = last.unwrap_or_else(|| ended_report(life, status));
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
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .step(step)?;
    let mut channel = Channel::new(ours);
    channel.write(policy).step(step)?;
    Ok((channel, child))
}

/// Passes reports on until the inner life has no more. A report that ends the
/// story is held back until every process is gone.
fn relay(outer: &mut Channel, inner: &mut Channel, life: &str) -> Result<Option<Report>, Failed> {
    let mut lines = inner.lines().step("read reports")?;
    let mut started = false;
    let mut last = None;
    while let Ok(Some(report)) = Channel::read::<Report>(&mut lines) {
        match report {
            Report::Missing { .. } => outer.report(&report),
            Report::Started => {
                started = true;
                outer.report(&report);
            }
            Report::Setup { .. } | Report::Exec { .. } | Report::Exited(_) | Report::Signaled(_) => {
                last = Some(report);
            }
        }
    }
    if last.is_none() && !(started && life == "exec") {
        let reason = "the sandbox ended without a report; was it killed for want of memory?";
        last = Some(Report::Setup { step: "run the command".to_owned(), reason: reason.to_owned() });
    }
    Ok(last)
}

/// Without namespaces the child was the command itself.
fn ended_report(life: &str, status: WaitStatus) -> Report {
    match status {
        WaitStatus::Exited(_, code) if life == "exec" => Report::Exited(code),
        WaitStatus::Signaled(_, signal, _) if life == "exec" => Report::Signaled(signal as i32),
        other => Report::Setup {
            step: "wait for the command".to_owned(),
            reason: format!("unexpected end: {other:?}"),
        },
    }
}

/// Listens to the agent. Its silence is an order too: the stream's end means that
/// it is gone, and nothing of its run may stay.
struct Watch {
    inner: Channel,
    life: &'static str,
    pid: Pid,
    ended: Arc<AtomicBool>,
}

impl Watch {
    fn serve(mut self, mut lines: std::io::BufReader<UnixStream>) {
        while let Ok(Some(request)) = Channel::read::<Request>(&mut lines) {
            match request {
                Request::Terminate => self.terminate(),
                Request::Kill => break,
            }
        }
        if !self.ended.load(Ordering::SeqCst) {
            // The namespace's first process takes all others with it. An error
            // means that it is gone already.
            kill(self.pid, Signal::SIGKILL).unwrap_or_default();
            if self.life == "exec" {
                sweep();
            }
        }
    }

    fn terminate(&mut self) {
        if self.life == "init" {
            self.inner.report_request(Request::Terminate);
        } else {
            killpg(self.pid, Signal::SIGTERM).unwrap_or_default();
        }
    }
}

impl Channel {
    /// Passes a request on; an inner life that is gone needs none.
    fn report_request(&mut self, request: Request) {
        if self.write(&request).is_err() {
            tracing::debug!("the sandbox's inner life is gone");
        }
    }
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
