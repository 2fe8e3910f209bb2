//! Talking to a helper process (Linux).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::output::HeadTail;
use super::policy::{Namespaces, Policy, Report, Request};
use super::process::KILL_AFTER;
use super::{CommandOutput, Exit, HELPER_ARGUMENT, SandboxCommand, SandboxError};

/// How long the trial of namespaces may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);
/// How long a helper may take to end everything after it was told to, before it
/// is killed itself.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(5);
/// How long output may stay open after every process is gone.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Output is read in pieces of this size, in bytes.
const PIECE_BYTES: usize = 16 << 10;

/// A helper and the two ends we hold.
struct Running {
    child: Child,
    reports: Lines<BufReader<OwnedReadHalf>>,
    requests: OwnedWriteHalf,
    output: pipe::Receiver,
}

/// Finds out whether the system gives namespaces.
pub(super) async fn try_namespaces(
    helper: &Path,
    policy: &Policy,
) -> Result<Namespaces, SandboxError> {
    let trial = async {
        let mut running = start(helper, &["probe"], policy).await?;
        let report = next_report(&mut running.reports).await?;
        running.child.wait().await.map_err(|source| io_error("wait for the sandbox", source))?;
        Ok(match report {
            Some(Report::Started) => Namespaces::Use,
            Some(Report::Setup { step, reason }) => {
                Namespaces::Missing(format!("{step}: {reason}"))
            }
            other => Namespaces::Missing(format!("unexpected answer of the trial: {other:?}")),
        })
    };
    tokio::time::timeout(TRIAL_LIMIT, trial).await.unwrap_or_else(|_| {
        Ok(Namespaces::Missing(format!("the trial took more than {} s", TRIAL_LIMIT.as_secs())))
    })
}

/// Runs one command to its end.
pub(super) async fn run(
    helper: &Path,
    policy: &Policy,
    command: &SandboxCommand,
    cancel: &CancellationToken,
) -> Result<CommandOutput, SandboxError> {
    let started_at = Instant::now();
    let mut running = start(helper, &[], policy).await?;
    let mut collected = HeadTail::new(command.output_bytes_max);
    let watched = watch(&mut running, &mut collected, command, cancel).await?;
    drain(&mut running.output, &mut collected).await;
    running.child.wait().await.map_err(|source| io_error("wait for the sandbox", source))?;
    let said = watched.last.is_none();
    let exit = match watched.exit(policy) {
        // What a helper said before it died without a report is the only trace.
        Err(SandboxError::Setup { step, reason }) if said => {
            let said = collected.into_text();
            return Err(SandboxError::Setup { step, reason: format!("{reason} {}", said.trim()) });
        }
        other => other?,
    };
    Ok(CommandOutput {
        exit,
        truncated: collected.truncated(),
        output: collected.into_text(),
        duration: started_at.elapsed(),
    })
}

async fn start(helper: &Path, life: &[&str], policy: &Policy) -> Result<Running, SandboxError> {
    let step = "start the sandbox helper";
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|it| io_error(step, it))?;
    let (reader, writer) = std::io::pipe().map_err(|source| io_error(step, source))?;
    let errors = writer.try_clone().map_err(|source| io_error(step, source))?;
    let mut process = Command::new(helper);
    // Nothing of the agent's environment: the helper is the command's neighbour.
    process.arg(HELPER_ARGUMENT).args(life).env_clear().current_dir("/").process_group(0);
    process.stdin(Stdio::from(OwnedFd::from(theirs)));
    process.stdout(Stdio::from(writer)).stderr(Stdio::from(errors));
    // Not killed on drop: it ends everything by itself when our end closes.
    let child = process.spawn().map_err(|source| {
        io_error(&format!("start the sandbox helper {}", helper.display()), source)
    })?;
    // Our copies of its ends must close, or the streams never end.
    drop(process);
    ours.set_nonblocking(true).map_err(|source| io_error(step, source))?;
    let stream = UnixStream::from_std(ours).map_err(|source| io_error(step, source))?;
    let (read, mut requests) = stream.into_split();
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))
        .map_err(|source| io_error(step, source))?;
    send(&mut requests, policy).await.map_err(|source| io_error(step, source))?;
    Ok(Running { child, reports: BufReader::new(read).lines(), requests, output })
}

async fn send<T: serde::Serialize>(to: &mut OwnedWriteHalf, document: &T) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    to.write_all(&line).await
}

fn io_error(action: &str, source: std::io::Error) -> SandboxError {
    SandboxError::Io { action: action.to_owned(), source }
}

async fn next_report(
    reports: &mut Lines<BufReader<OwnedReadHalf>>,
) -> Result<Option<Report>, SandboxError> {
    let Some(line) = reports.next_line().await.map_err(|it| io_error("read a report", it))? else {
        return Ok(None);
    };
    serde_json::from_str(&line).map(Some).map_err(|error| SandboxError::Setup {
        step: "read a report of the helper".to_owned(),
        reason: format!("{error}: is the helper of another version?"),
    })
}

/// What was seen of a command.
#[derive(Default)]
struct Watched {
    last: Option<Report>,
    stopped: Option<Exit>,
}

impl Watched {
    fn exit(self, policy: &Policy) -> Result<Exit, SandboxError> {
        let no_report = || SandboxError::Setup {
            step: format!("run {:?}", policy.argv.first().map_or("", String::as_str)),
            reason: "the helper ended without a report; was it killed, or is the program named \
                     in SandboxSettings::helper no helper?"
                .to_owned(),
        };
        match (self.last, self.stopped) {
            (Some(Report::Exec { program, errno }), _) => Err(SandboxError::Exec {
                program,
                source: std::io::Error::from_raw_os_error(errno),
            }),
            // Whatever else came of it, we stopped it.
            (_, Some(stopped)) => Ok(stopped),
            (Some(Report::Exited(code)), None) => Ok(Exit::Code(code)),
            (Some(Report::Signaled(signal)), None) => Ok(Exit::Signal(signal)),
            (Some(Report::Setup { step, reason }), None) => {
                Err(SandboxError::Setup { step, reason })
            }
            (Some(Report::Started | Report::Missing { .. }) | None, None) => Err(no_report()),
        }
    }
}

/// How far stopping has gone.
#[derive(Clone, Copy)]
enum Stage {
    Running,
    Asked,
    Killed,
    Given,
}

/// Reads output and reports until the helper closed both, and stops the command
/// when it is time.
async fn watch(
    running: &mut Running,
    collected: &mut HeadTail,
    command: &SandboxCommand,
    cancel: &CancellationToken,
) -> Result<Watched, SandboxError> {
    let mut watched = Watched::default();
    let mut stage = Stage::Running;
    let mut piece = vec![0_u8; PIECE_BYTES];
    let mut open = true;
    let timer = tokio::time::sleep(command.timeout);
    tokio::pin!(timer);
    loop {
        tokio::select! {
            report = next_report(&mut running.reports) => match report {
                Ok(Some(Report::Missing { layer, reason })) => {
                    tracing::debug!(layer, reason, "the sandbox lacks a layer");
                }
                Ok(Some(report)) => watched.last = Some(report),
                Ok(None) => return Ok(watched),
                Err(error) => return Err(error),
            },
            read = running.output.read(&mut piece), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(length) => collected.push(piece.get(..length).unwrap_or_default()),
            },
            () = cancel.cancelled(), if matches!(stage, Stage::Running) => {
                watched.stopped = Some(Exit::Cancelled);
                stage = stop(running, stage, timer.as_mut()).await;
            }
            () = &mut timer, if !matches!(stage, Stage::Given) => {
                watched.stopped.get_or_insert(Exit::TimedOut);
                stage = stop(running, stage, timer.as_mut()).await;
            }
        }
    }
}

/// One more step towards the end of a command: ask, kill, kill the helper.
async fn stop(
    running: &mut Running,
    stage: Stage,
    mut timer: std::pin::Pin<&mut tokio::time::Sleep>,
) -> Stage {
    let now = tokio::time::Instant::now();
    // A request that cannot be sent finds the helper gone; its report decides.
    match stage {
        Stage::Running => {
            drop(send(&mut running.requests, &Request::Terminate).await);
            timer.as_mut().reset(now + KILL_AFTER);
            Stage::Asked
        }
        Stage::Asked => {
            drop(send(&mut running.requests, &Request::Kill).await);
            timer.as_mut().reset(now + SUPERVISOR_LIMIT);
            Stage::Killed
        }
        Stage::Killed | Stage::Given => {
            drop(running.child.start_kill());
            Stage::Given
        }
    }
}

/// What is still in the pipe when every process is gone.
async fn drain(output: &mut pipe::Receiver, collected: &mut HeadTail) {
    let mut piece = vec![0_u8; PIECE_BYTES];
    let rest = async {
        while let Ok(length) = output.read(&mut piece).await {
            if length == 0 {
                break;
            }
            collected.push(piece.get(..length).unwrap_or_default());
        }
    };
    if tokio::time::timeout(DRAIN_LIMIT, rest).await.is_err() {
        tracing::warn!("output of a sandboxed command stayed open after its end");
    }
}
