//! Who git says we are. Read by the trusted process only; no child that a model drives sees it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use foreman_runner::git::{Git, GitCredential};
use foreman_runner::workspace::Person;
use secrecy::SecretString;

use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// How long `git config` or `gh` may take.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Helper line by which git asks GitHub's own program, which knows for which hosts it has a token.
const GH_HELPER: &str = "!gh auth git-credential";

/// A credential, and where it came from.
#[derive(Debug, Clone)]
pub struct Credential {
    /// What git is given.
    pub git: GitCredential,
    /// Where it came from, for a person.
    pub origin: String,
    /// The file it was read from, which no sandbox may read.
    pub file: Option<PathBuf>,
}

impl Credential {
    /// No credential.
    pub fn none() -> Self {
        Self { git: GitCredential::None, origin: "none".to_owned(), file: None }
    }

    /// The first of: `token_file` (or `FOREMAN_TOKEN_FILE`, or the config file), the user's own git credential helper,
    /// GitHub's `gh`, the variable `FOREMAN_TOKEN`. None is no error: ssh keys and local
    /// repositories need none.
    ///
    /// # Errors
    /// The token file cannot be read or is empty.
    pub async fn find(settings: &Settings, token_file: Option<&Path>) -> Result<Self, Failure> {
        let file = token_file.map(Path::to_owned).or_else(|| settings.token_file.clone());
        if let Some(file) = file {
            let git = GitCredential::from_file(&file).map_err(|error| {
                Failure::new(Exit::Usage, format!("no token in {}", file.display()))
                    .next("put the token alone on the first line of the file")
                    .because(error)
            })?;
            let origin = format!("the token file {}", file.display());
            return Ok(Self { git, origin, file: Some(file) });
        }
        let of = |git, origin: &str| Ok(Self { git, origin: origin.to_owned(), file: None });
        if let Some(helper) = Git::default().user_credential_helper().await {
            return of(GitCredential::Helper(helper), "your git credential helper");
        }
        if said("gh", &["auth", "token"]).await.is_some() {
            return of(GitCredential::Helper(GH_HELPER.to_owned()), "gh");
        }
        if let Some(token) = settings.variable("FOREMAN_TOKEN") {
            let token = SecretString::from(token.to_owned());
            let git = GitCredential::Token { username: "x-access-token".to_owned(), token };
            return of(
                git,
                "FOREMAN_TOKEN (every process of yours can read it: prefer --token-file)",
            );
        }
        Ok(Self::none())
    }
}

/// Whom commits name: the user, as git knows him.
pub async fn author() -> Person {
    let name = said("git", &["config", "--global", "--get", "user.name"]).await;
    let email = said("git", &["config", "--global", "--get", "user.email"]).await;
    match (name, email) {
        (Some(name), Some(email)) => Person { name, email },
        _ => Person { name: "Foreman".to_owned(), email: "foreman@localhost".to_owned() },
    }
}

/// The first line that a program of the user prints; none when it fails or is not there.
async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ASK_LIMIT, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
