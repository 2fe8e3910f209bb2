//! The helper: three lives of one program.
//!
//! 1. **Supervisor** (`<exe> __sandbox`): reads the policy from its standard
//!    input (a socket), enters new namespaces if the system gives them, starts
//!    the second life, relays its reports, and ends everything when it is asked
//!    to or when the agent is gone.
//! 2. **Init** (`__sandbox init`), with namespaces: process 1 of a pid
//!    namespace. Puts the new root together, starts the command from a thread
//!    that gave up its rights, reaps orphans. When it ends, the kernel ends all
//!    that is left in the namespace.
//! 3. **Exec** (`__sandbox exec`), without namespaces: gives up its rights and
//!    becomes the command. The supervisor, a subreaper, ends what is left.
//!
//! (`__sandbox probe` only tries whether the second life is possible; `__sandbox tied` confines
//! nothing: it ties a trusted program's life to its parent's.)
//!
//! No `unsafe`: rights of a thread are inherited by what it starts, so nothing
//! has to run between fork and exec.

pub(crate) mod attempt;
mod exec;
mod init;
mod mounts;
mod namespaces;
mod restrict;
mod seccomp;
mod supervise;
mod tied;

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::policy::{Policy, Report};

/// A step of the set-up that failed, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) step: String,
    pub(crate) reason: String,
}

impl Failed {
    pub(crate) fn new(step: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self { step: step.into(), reason: format!("{reason}") }
    }
}

/// Adds the step to an error of the system.
pub(crate) trait Step<T> {
    fn step(self, step: &str) -> Result<T, Failed>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failed> {
        self.map_err(|error| Failed::new(step, error))
    }
}

/// See [`super::helper_main`].
pub(crate) fn helper_main(arguments: &[String]) -> ExitCode {
    if arguments.first().is_some_and(|life| life == attempt::LIFE) {
        return attempt::main(arguments.get(1..).unwrap_or_default());
    }
    if arguments.first().is_some_and(|life| life == super::TIED) {
        return tied::main();
    }
    let life = match arguments.first().map(String::as_str) {
        None => supervise::main,
        Some("init") => init::main,
        Some("exec") => exec::main,
        Some("probe") => init::probe,
        Some(_) => return ExitCode::FAILURE,
    };
    let Ok(channel) = Channel::from_stdin() else {
        return ExitCode::FAILURE;
    };
    match life(channel) {
        Ok(code) => code,
        Err((mut channel, failed)) => {
            channel.report(&Report::Setup { step: failed.step, reason: failed.reason });
            ExitCode::FAILURE
        }
    }
}

/// One end of the socket between two lives, or between helper and agent.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// The socket that the parent put in the place of standard input.
    fn from_stdin() -> io::Result<Self> {
        let stream = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { stream: UnixStream::from(stream) })
    }

    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    pub(crate) fn lines(&self) -> io::Result<BufReader<UnixStream>> {
        Ok(BufReader::new(self.stream.try_clone()?))
    }

    /// Reads one JSON document, a line; none at the end of the stream.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        lines: &mut BufReader<UnixStream>,
    ) -> io::Result<Option<T>> {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// Writes one JSON document as a line.
    pub(crate) fn write<T: serde::Serialize>(&mut self, document: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Writes a report. Nobody is left to tell when that fails: the reader sees
    /// the stream's end without a report, which it takes for a failure.
    pub(crate) fn report(&mut self, report: &Report) {
        if self.write(report).is_err() {
            tracing::debug!("the sandbox's parent is gone");
        }
    }
}

/// A life ended: with an exit code, or with a failure to report on the channel.
pub(crate) type Ended = Result<ExitCode, (Channel, Failed)>;

/// Reads the policy, the first line of a channel.
pub(crate) fn read_policy(lines: &mut BufReader<UnixStream>) -> Result<Policy, Failed> {
    Channel::read(lines)
        .step("read the policy")?
        .ok_or_else(|| Failed::new("read the policy", "the stream ended"))
}
