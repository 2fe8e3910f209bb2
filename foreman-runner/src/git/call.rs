//! One run of the git program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use foreman_core::PERMIT_CHECK;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::error::{classified, summary};
use super::settings::{FIXED_VARIABLES, PASSED_VARIABLES, SETTINGS, TOKEN_HELPER};
use super::{Git, GitCredential, GitError, Repository};

/// How long a call may take that only touches this machine.
pub(crate) const LOCAL_LIMIT: Duration = Duration::from_mins(2);
/// How long a call may take that talks to a server.
pub(crate) const NETWORK_LIMIT: Duration = Duration::from_mins(30);
/// How long git may take to end after it was asked to.
const KILL_AFTER: Duration = Duration::from_secs(5);
/// Output kept of a call unless it asks for more, in bytes.
const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Words of git kept for an error, in bytes.
const ERRORS_BYTES_MAX: usize = 64 << 10;

/// A call of git, put together and then run once.
#[derive(Debug)]
pub struct GitCall<'a> {
    git: &'a Git,
    action: String,
    git_dir: Option<PathBuf>,
    work_tree: Option<PathBuf>,
    remote: Option<&'a Repository>,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    stdin: Vec<u8>,
    limit: Duration,
    output_bytes_max: usize,
    codes: &'static [i32],
}

/// What a call wrote.
#[derive(Debug, Clone)]
pub struct GitOutput {
    /// The exit code: 0, or one that the call said it expects.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, without secrets, on one line.
    pub said: String,
}

impl GitOutput {
    /// Standard output as text without the last line's end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches(['\n', '\r']).to_owned()
    }

    /// The fields of `-z` output.
    pub fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.stdout.split(|byte| *byte == 0).filter(|field| !field.is_empty())
    }
}

impl<'a> GitCall<'a> {
    pub(super) fn new(git: &'a Git, action: &str) -> Self {
        Self {
            git,
            action: action.to_owned(),
            git_dir: None,
            work_tree: None,
            remote: None,
            arguments: Vec::new(),
            variables: Vec::new(),
            stdin: Vec::new(),
            limit: LOCAL_LIMIT,
            output_bytes_max: OUTPUT_BYTES_MAX,
            codes: &[],
        }
    }

    /// Works on this git dir, and on this tree if there is one.
    #[must_use]
    pub fn at(mut self, git_dir: &Path, work_tree: Option<&Path>) -> Self {
        self.git_dir = Some(git_dir.to_owned());
        self.work_tree = work_tree.map(Path::to_owned);
        self
    }

    /// Talks to this repository: its transport is allowed, the credential is
    /// sent to its host, the limit is that of the network.
    #[must_use]
    pub fn with_remote(mut self, remote: &'a Repository) -> Self {
        self.remote = Some(remote);
        self.limit = NETWORK_LIMIT;
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of git's environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// What git reads from standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = bytes;
        self
    }

    /// Another limit of time.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Another limit of output, in bytes.
    #[must_use]
    pub fn output_bytes_max(mut self, bytes_max: usize) -> Self {
        self.output_bytes_max = bytes_max;
        self
    }

    /// Exit codes beside 0 that are an answer, not a failure.
    #[must_use]
    pub fn expecting(mut self, codes: &'static [i32]) -> Self {
        self.codes = codes;
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn run(self, cancel: &CancellationToken) -> Result<GitOutput, GitError> {
        self.run_while(cancel, || true).await
    }

    /// Runs it as long as `still_allowed`, which is asked each second.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn run_while(
        self,
        cancel: &CancellationToken,
        still_allowed: impl Fn() -> bool,
    ) -> Result<GitOutput, GitError> {
        if cancel.is_cancelled() {
            return Err(GitError::Cancelled { action: self.action });
        }
        if !still_allowed() {
            return Err(GitError::NotAllowed { action: self.action });
        }
        let mut child = self.command().spawn().map_err(|source| {
            if source.kind() == std::io::ErrorKind::NotFound {
                let program = self.git.program.display().to_string();
                return GitError::Missing { program };
            }
            self.io(source)
        })?;
        let ended = Box::pin(self.supervised(&mut child, cancel, still_allowed)).await;
        // Whatever it left behind in its group ends with it.
        signal(group_of(&child).or(last_group(&ended)), Signal::KILL);
        let Finished { status, stdout, stderr, .. } = ended?;
        let code = status.code().unwrap_or_else(|| {
            128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()
        });
        if stdout.len() > self.output_bytes_max {
            let bytes_max = self.output_bytes_max;
            return Err(GitError::TooMuchOutput { action: self.action, bytes_max });
        }
        let stderr = String::from_utf8_lossy(&stderr);
        if code != 0 && !self.codes.contains(&code) {
            // A push tells its refusals on standard output.
            let words = format!(
                "{stderr}\n{}",
                if self.remote.is_some() {
                    String::from_utf8_lossy(&stdout)
                } else {
                    String::new().into()
                }
            );
            let repository = self.remote.map(Repository::url);
            return Err(classified(&self.action, repository, code, &words));
        }
        Ok(GitOutput { code, stdout, said: summary(&stderr) })
    }

    fn io(&self, source: std::io::Error) -> GitError {
        GitError::Io { action: format!("run git to {}", self.action), source }
    }

    fn command(&self) -> Command {
        let mut command = self.git.start(self.remote.is_some());
        command.env_clear().process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in PASSED_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(FIXED_VARIABLES.iter().copied());
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        self.add_remote_settings(&mut command);
        if let Some(git_dir) = &self.git_dir {
            let mut option = OsString::from("--git-dir=");
            option.push(git_dir);
            command.arg(option);
        }
        match (&self.work_tree, &self.git_dir) {
            (Some(tree), _) => {
                let mut option = OsString::from("--work-tree=");
                option.push(tree);
                command.arg(option).current_dir(tree);
            }
            (None, Some(git_dir)) => {
                command.current_dir(git_dir);
            }
            // Never where a repository might be found by looking around.
            (None, None) => {
                command.current_dir("/").env("GIT_CEILING_DIRECTORIES", "/");
            }
        }
        command.args(&self.arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn add_remote_settings(&self, command: &mut Command) {
        let Some(remote) = self.remote else { return };
        command.arg("-c").arg(format!("protocol.{}.allow=always", remote.protocol()));
        let Some(origin) = remote.origin() else {
            return;
        };
        match &self.git.credential {
            GitCredential::None => {}
            GitCredential::Token { username, token } => {
                command.arg("-c").arg(format!("credential.{origin}.helper={TOKEN_HELPER}"));
                command.env("FOREMAN_GIT_USERNAME", username);
                command.env("FOREMAN_GIT_TOKEN", token.expose_secret());
            }
            GitCredential::Helper(helper) => {
                command.arg("-c").arg(format!("credential.{origin}.helper={helper}"));
            }
        }
    }

    /// Feeds it, reads it, and stops it when it must be.
    async fn supervised(
        &self,
        child: &mut Child,
        cancel: &CancellationToken,
        still_allowed: impl Fn() -> bool,
    ) -> Result<Finished, GitError> {
        let group = group_of(child);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // Git may end before it read all; its exit code tells more.
                drop(stdin.write_all(&self.stdin).await);
            }
        };
        let work = async {
            let ((), out, err, status) = tokio::join!(
                feed,
                bounded(stdout, self.output_bytes_max),
                bounded(stderr, ERRORS_BYTES_MAX),
                child.wait()
            );
            Ok(Finished {
                group,
                status: status.map_err(|source| self.io(source))?,
                stdout: out.map_err(|source| self.io(source))?,
                stderr: err.map_err(|source| self.io(source))?,
            })
        };
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(PERMIT_CHECK);
        let deadline = tokio::time::sleep(self.limit);
        tokio::pin!(deadline);
        let action = || self.action.clone();
        let why = loop {
            tokio::select! {
                finished = &mut work => return finished,
                () = cancel.cancelled() => break GitError::Cancelled { action: action() },
                () = &mut deadline => {
                    break GitError::TimedOut { action: action(), seconds: self.limit.as_secs() };
                }
                _ = ticks.tick() => if !still_allowed() {
                    break GitError::NotAllowed { action: action() };
                },
            }
        };
        // An effect that may no longer be done is not asked to end politely.
        let first =
            if matches!(why, GitError::NotAllowed { .. }) { Signal::KILL } else { Signal::TERM };
        signal(group, first);
        if tokio::time::timeout(KILL_AFTER, &mut work).await.is_err() {
            signal(group, Signal::KILL);
            if tokio::time::timeout(KILL_AFTER, &mut work).await.is_err() {
                tracing::warn!(action = self.action, "git did not end after it was killed");
            }
        }
        Err(why)
    }
}

struct Finished {
    group: Option<Pid>,
    status: std::process::ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn group_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

fn last_group(ended: &Result<Finished, GitError>) -> Option<Pid> {
    ended.as_ref().ok().and_then(|finished| finished.group)
}

/// A group that is gone needs no signal.
fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        kill_process_group(group, signal).unwrap_or_default();
    }
}

/// Reads to the end, and keeps one byte more than `bytes_max` at most, by which
/// the caller sees that there was more.
async fn bounded(
    stream: Option<impl AsyncRead + Unpin>,
    bytes_max: usize,
) -> std::io::Result<Vec<u8>> {
    let Some(mut stream) = stream else {
        return Ok(Vec::new());
    };
    let mut kept = Vec::new();
    let mut piece = vec![0_u8; 32 << 10];
    loop {
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Ok(kept);
        }
        let room = (bytes_max + 1).saturating_sub(kept.len());
        kept.extend_from_slice(piece.get(..length.min(room)).unwrap_or_default());
    }
}
