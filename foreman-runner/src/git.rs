//! Git, run by the trusted process beside a tree that a model writes.
//!
//! A repository is code: hooks, `core.fsmonitor`, filters, text converters,
//! pagers, remote helpers. So every call here names its git dir and work tree
//! itself and never lets git look for them; reads no configuration but that of
//! our own git dirs, which no sandboxed process can write; switches off what
//! would run a program; allows exactly the transport of the URL at hand; asks
//! nobody for a password; and has limits of time and output.
//!
//! The token travels in the environment of git alone, to a helper that answers
//! for one host. It is never an argument and never in a URL.

mod call;
mod error;
mod names;
mod settings;

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::sandbox::tied_words;

pub use call::{GitCall, GitOutput};
pub use error::GitError;
pub(crate) use error::redacted;
pub use names::{BranchName, InvalidBranchName, InvalidRepository, Repository};

/// Where slugs such as `owner/name` live unless the user says otherwise.
pub const DEFAULT_BASE_URL: &str = "https://github.com";

/// A longer line is no token, in bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Who git says we are to a server over HTTP.
#[derive(Debug, Clone, Default)]
pub enum GitCredential {
    /// Nobody; ssh keys and agents of the user still work.
    #[default]
    None,
    /// A token, sent to the repository's own host only.
    Token {
        /// The user name beside the token; hosts that ignore it want some word.
        username: String,
        /// The token.
        token: SecretString,
    },
    /// A credential helper of the user, such as `osxkeychain` or
    /// `!gh auth git-credential`, in git's own notation.
    Helper(String),
}

impl GitCredential {
    /// Reads a token from a file: its first line, without surrounding space.
    ///
    /// # Errors
    /// `Io` when it cannot be read, `Invalid` when it is empty, too long or no text.
    pub fn from_file(path: &Path) -> Result<Self, GitError> {
        let text = std::fs::read_to_string(path).map_err(|source| GitError::Io {
            action: format!("read the token file {}", path.display()),
            source,
        })?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() > TOKEN_BYTES_MAX || token.chars().any(char::is_control) {
            return Err(GitError::Invalid {
                reason: format!(
                    "the first line of {} is no token: it is longer than {TOKEN_BYTES_MAX} bytes or \
                     has control characters",
                    path.display()
                ),
            });
        }
        if token.is_empty() {
            return Err(GitError::Invalid {
                reason: format!("the token file {} is empty", path.display()),
            });
        }
        Ok(Self::Token {
            username: "x-access-token".to_owned(),
            token: SecretString::from(token.to_owned()),
        })
    }
}

/// The git program and what it is called with.
#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    credential: GitCredential,
    /// What ties a child to this process, see [`Git::with_helper`].
    helper: Option<PathBuf>,
}

impl Default for Git {
    fn default() -> Self {
        Self::new(GitCredential::None)
    }
}

impl Git {
    /// The `git` of the agent's `PATH`.
    pub fn new(credential: GitCredential) -> Self {
        Self { program: PathBuf::from("git"), credential, helper: None }
    }

    /// Lets no call that talks to a server outlive this process, however that ends: a push whose
    /// agent was killed would go on without its permit. `helper` is the program that answers to
    /// [`crate::sandbox::HELPER_ARGUMENT`]; without one, or where the system cannot tie a child to its
    /// parent, such a call ends by itself.
    #[must_use]
    pub fn with_helper(mut self, helper: Option<PathBuf>) -> Self {
        self.helper = helper.filter(|_| cfg!(target_os = "linux"));
        self
    }

    /// The beginning of a call's command line.
    fn start(&self, talks_to_server: bool) -> tokio::process::Command {
        match self.helper.as_ref().filter(|_| talks_to_server) {
            Some(helper) => {
                let mut command = tokio::process::Command::new(helper);
                command.args(tied_words(&self.program));
                command
            }
            None => tokio::process::Command::new(&self.program),
        }
    }

    /// Another git program.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// A call that needs no repository, or gets one by [`GitCall::at`].
    pub fn call(&self, action: &str) -> GitCall<'_> {
        GitCall::new(self, action)
    }

    /// The credential helpers of the user's own configuration, in order: what
    /// [`GitCredential::Helper`] takes. None when there is none or no git.
    pub async fn user_credential_helper(&self) -> Option<String> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["config", "--global", "--get", "credential.helper"]);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(call::LOCAL_LIMIT, command.output()).await.ok()?.ok()?;
        let helper = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !helper.is_empty()).then_some(helper)
    }
}

#[cfg(test)]
mod tests;
