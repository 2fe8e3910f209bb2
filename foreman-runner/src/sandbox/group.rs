//! Running a command as a process group of its own, where no helper stands
//! between: on macOS, and unconfined.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::output::HeadTail;
use super::process::KILL_AFTER;
use super::{CommandOutput, Exit, SandboxCommand, SandboxError};

/// Runs `process`, which is set up but for its streams, and ends its whole group
/// with it. A process that left the group escapes this.
pub(super) async fn run(
    mut process: Command,
    command: &SandboxCommand,
    cancel: &CancellationToken,
) -> Result<CommandOutput, SandboxError> {
    let io_error = |source| SandboxError::Io { action: "run a command".to_owned(), source };
    let started_at = Instant::now();
    let (reader, writer) = std::io::pipe().map_err(io_error)?;
    let errors = writer.try_clone().map_err(io_error)?;
    process.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(Stdio::from(errors));
    let mut child = process.spawn().map_err(|source| SandboxError::Exec {
        program: command.argv.first().cloned().unwrap_or_default(),
        source,
    })?;
    drop(process);
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // A group that is gone needs no signal.
    let signal = |signal| {
        if let Some(group) = group {
            kill_process_group(group, signal).unwrap_or_default();
        }
    };
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(io_error)?;
    let mut collected = HeadTail::new(command.output_bytes_max);
    let mut piece = vec![0_u8; 16 << 10];
    let (mut stopped, mut status, mut killing) = (None, None, false);
    let timer = tokio::time::sleep(command.timeout);
    tokio::pin!(timer);
    loop {
        tokio::select! {
            read = output.read(&mut piece) => match read {
                Ok(0) | Err(_) => break,
                Ok(length) => collected.push(piece.get(..length).unwrap_or_default()),
            },
            ended = child.wait(), if status.is_none() => {
                status = Some(ended.map_err(io_error)?);
                signal(Signal::KILL);
            }
            () = cancel.cancelled(), if stopped.is_none() => {
                stopped = Some(Exit::Cancelled);
                signal(Signal::TERM);
                timer.as_mut().reset(tokio::time::Instant::now() + KILL_AFTER);
            }
            () = &mut timer, if !killing => {
                killing = stopped.is_some();
                stopped.get_or_insert(Exit::TimedOut);
                signal(if killing { Signal::KILL } else { Signal::TERM });
                timer.as_mut().reset(tokio::time::Instant::now() + KILL_AFTER);
            }
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait().await.map_err(io_error)?,
    };
    signal(Signal::KILL);
    let signalled = std::os::unix::process::ExitStatusExt::signal(&status).map(Exit::Signal);
    let ended = signalled.unwrap_or(Exit::Code(status.code().unwrap_or(-1)));
    Ok(CommandOutput {
        exit: stopped.unwrap_or(ended),
        truncated: collected.truncated(),
        output: collected.into_text(),
        duration: started_at.elapsed(),
    })
}
