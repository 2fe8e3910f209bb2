//! Running a small system command with a limit on its time and its output.
//!
//! A command line is made of `'static` text only, so nothing that was read from a repository, a
//! model or an object can ever become a program or an argument here.

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::limits::{COMMAND_OUTPUT_BYTES_MAX, REAP_LIMIT};
use crate::text::lock;

/// A command that this crate runs: programs to try in order, and the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLine {
    /// The program under its possible names; the next is tried when one is not found.
    pub programs: &'static [&'static str],
    /// The arguments, passed as they are (no shell).
    pub args: &'static [&'static str],
}

impl CommandLine {
    /// The name a person knows the command by.
    pub fn name(&self) -> &'static str {
        self.programs.first().copied().unwrap_or("(no program)")
    }
}

/// What a command that ended has left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// The exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, at most [`COMMAND_OUTPUT_BYTES_MAX`], invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Whether the command ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// Why a command gave no output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The program is not installed, or not on PATH.
    #[error("{program} is not installed")]
    NotFound {
        /// The program looked for.
        program: &'static str,
    },
    /// The program is there and cannot be started.
    #[error("{program} cannot be started")]
    Start {
        /// The program.
        program: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program ran longer than allowed and was killed with its children.
    #[error("{program} did not end within {} ms and was killed", limit.as_millis())]
    TimedOut {
        /// The program.
        program: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// An earlier call was killed and has not ended yet, so no second one was started.
    #[error("{program} (pid {pid}) was killed earlier and hangs in the kernel; not started again")]
    Stuck {
        /// The program.
        program: &'static str,
        /// The process that does not end.
        pid: u32,
    },
    /// Its output could not be read.
    #[error("the output of {program} cannot be read")]
    Read {
        /// The program.
        program: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Runs commands. The host does it with [`OsCommands`], a test with
/// [`FakeCommands`](crate::fake::FakeCommands).
#[async_trait]
pub trait Commands: Send + Sync {
    /// Runs `line` for at most `limit` and returns what it printed, whatever its exit code.
    async fn run(&self, line: &CommandLine, limit: Duration) -> Result<Output, CommandError>;
}

/// The environment variables a child is given; all others (tokens among them) are kept from it.
const ENVIRONMENT_PASSED: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// Runs commands on this machine: own process group, no standard input, `LC_ALL=C`, a bare
/// environment, bounded output, killed with its children at the limit or when the caller goes.
#[derive(Debug, Default)]
pub struct OsCommands {
    stuck: Mutex<BTreeMap<&'static str, Child>>,
}

impl OsCommands {
    /// A runner with nothing stuck.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses a second copy of a program whose first copy does not die: one hanging driver must
    /// not collect a process per heartbeat.
    fn refuse_if_stuck(&self, program: &'static str) -> Result<(), CommandError> {
        let mut stuck = lock(&self.stuck);
        let Some(child) = stuck.get_mut(program) else {
            return Ok(());
        };
        if let (Ok(None), Some(pid)) = (child.try_wait(), child.id()) {
            return Err(CommandError::Stuck { program, pid });
        }
        stuck.remove(program);
        Ok(())
    }

    async fn run_one(
        &self,
        program: &'static str,
        args: &[&str],
        limit: Duration,
    ) -> Result<Output, CommandError> {
        self.refuse_if_stuck(program)?;
        let mut child = start(program, args)?;
        let mut group = Group(child.id().and_then(pid_of));
        let streams = (child.stdout.take(), child.stderr.take());
        let ended = tokio::time::timeout(limit, async {
            futures::join!(read(streams.0), read(streams.1), child.wait())
        })
        .await;
        if let Ok((stdout, stderr, status)) = ended {
            group.0 = None;
            let broken = |source| CommandError::Read { program, source };
            return Ok(Output {
                code: status.map_err(broken)?.code(),
                stdout: stdout.map_err(broken)?,
                stderr: stderr.map_err(broken)?,
            });
        }
        drop(group);
        if tokio::time::timeout(REAP_LIMIT, child.wait()).await.is_err() {
            lock(&self.stuck).insert(program, child);
        }
        Err(CommandError::TimedOut { program, limit })
    }
}

#[async_trait]
impl Commands for OsCommands {
    async fn run(&self, line: &CommandLine, limit: Duration) -> Result<Output, CommandError> {
        for program in line.programs {
            match self.run_one(program, line.args, limit).await {
                Err(CommandError::NotFound { .. }) => {}
                other => return other,
            }
        }
        Err(CommandError::NotFound { program: line.name() })
    }
}

fn start(program: &'static str, args: &[&str]) -> Result<Child, CommandError> {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C");
    for name in ENVIRONMENT_PASSED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            return CommandError::NotFound { program };
        }
        CommandError::Start { program, source }
    })
}

fn pid_of(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(COMMAND_OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Kills the whole process group when dropped, also when the caller's future is dropped. It is
/// disarmed once the leader was reaped, because its number may then belong to somebody else.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // "No such process" means that it ended by itself meanwhile: what we wanted.
            let _gone = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Instant;

    const SHORT: Duration = Duration::from_millis(150);
    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &'static [&'static str]) -> CommandLine {
        CommandLine { programs: &["no-such-program-here", "sh"], args: script }
    }

    #[tokio::test]
    async fn output_and_exit_code_come_back_and_the_second_name_is_tried() {
        let line = shell(&["-c", "echo out; echo err >&2; exit 7"]);
        let output = OsCommands::new().run(&line, LONG).await.expect("runs");
        assert_eq!(
            output,
            Output { code: Some(7), stdout: "out\n".into(), stderr: "err\n".into() }
        );
        assert!(!output.succeeded());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let line = CommandLine { programs: &["no-such-program-here"], args: &[] };
        let error = OsCommands::new().run(&line, LONG).await.expect_err("missing");
        assert_eq!(error.to_string(), "no-such-program-here is not installed");
    }

    #[tokio::test]
    async fn the_child_sees_a_bare_environment() {
        let line = CommandLine { programs: &["env"], args: &[] };
        let output = OsCommands::new().run(&line, LONG).await.expect("runs");
        let mut names: Vec<_> =
            output.stdout.lines().filter_map(|line| line.split('=').next()).collect();
        names.retain(|name| *name != "LD_LIBRARY_PATH");
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH"]);
    }

    #[tokio::test]
    async fn a_hanging_command_is_killed_with_its_children() {
        // The shell prints the number of its child, but its output never ends by itself.
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("pids");
        let script: &'static str =
            format!("sleep 1000 & echo $! $$ > '{}'; wait", file.display()).leak();
        let args: &'static [&'static str] = vec!["-c", script].leak();
        let line = CommandLine { programs: &["sh"], args };
        let error = OsCommands::new().run(&line, Duration::from_secs(2)).await;
        let error = error.expect_err("killed");
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        let pids = std::fs::read_to_string(&file).expect("the script wrote its pids");
        let deadline = Instant::now() + LONG;
        for pid in pids.split_whitespace() {
            while alive(pid) {
                assert!(Instant::now() < deadline, "pid {pid} survived");
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether the process still runs; a zombie that nobody reaped has ended.
    fn alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        stat.is_ok_and(|text| {
            let state = text.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
            state != Some('Z') && state != Some('X')
        })
    }

    #[tokio::test]
    async fn endless_output_is_cut_off() {
        let line = CommandLine { programs: &["yes"], args: &["0123456789"] };
        let output = OsCommands::new().run(&line, LONG).await.expect("its pipe is closed");
        assert_eq!(output.stdout.len() as u64, COMMAND_OUTPUT_BYTES_MAX);
        assert_eq!(output.code, None, "ended by SIGPIPE");
    }

    #[tokio::test]
    async fn a_program_that_does_not_die_is_not_started_twice() {
        let commands = OsCommands::new();
        let running = start("sleep", &["1000"]).expect("starts");
        let pid = running.id().expect("runs");
        lock(&commands.stuck).insert("sleep", running);
        let line = CommandLine { programs: &["sleep"], args: &["0"] };
        let error = commands.run(&line, SHORT).await.expect_err("refused");
        assert!(matches!(error, CommandError::Stuck { pid: p, .. } if p == pid), "{error}");
        drop(Group(pid_of(pid)));
        let deadline = Instant::now() + LONG;
        while commands.run(&line, LONG).await.is_err() {
            assert!(Instant::now() < deadline, "it never ran again");
            tokio::task::yield_now().await;
        }
    }
}
