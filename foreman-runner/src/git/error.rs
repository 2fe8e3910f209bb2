//! What can go wrong with git, told apart by what a person has to do about it.

/// How much of git's own words is kept, in characters.
const SAID_CHARS_MAX: usize = 2_000;

/// A call of git failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// There is no git program.
    #[error("git is not installed: no {program:?} on PATH; install git 2.39 or newer")]
    Missing {
        /// What was looked for.
        program: String,
    },
    /// A caller's mistake, found before git was started.
    #[error("{reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// The repository is not there, or hidden from us.
    #[error(
        "repository {repository} was not found: {said}; check its name, and that the credential may see it"
    )]
    NotFound {
        /// Which repository.
        repository: String,
        /// What git said.
        said: String,
    },
    /// The server wants another credential.
    #[error(
        "{repository} refused the credential: {said}; give a token that may do this by --token-file, \
         or set up a git credential helper"
    )]
    Denied {
        /// Which repository.
        repository: String,
        /// What git said.
        said: String,
    },
    /// The server was not reached, or fell silent.
    #[error("{repository} was not reached: {said}; check the network and try again")]
    Unreachable {
        /// Which repository.
        repository: String,
        /// What git said.
        said: String,
    },
    /// The server answered and refused the update of a reference.
    #[error("{repository} refused the update: {said}")]
    Rejected {
        /// Which repository.
        repository: String,
        /// What git said.
        said: String,
    },
    /// It took too long and was stopped.
    #[error("git could not {action} within {seconds} s and was stopped")]
    TimedOut {
        /// What was being done.
        action: String,
        /// The limit.
        seconds: u64,
    },
    /// The caller stopped it.
    #[error("stopped while git was to {action}")]
    Cancelled {
        /// What was being done.
        action: String,
    },
    /// Leave to do this lapsed while it was being done.
    #[error(
        "leave to {action} lapsed and git was stopped; the outcome at the target is to be looked up"
    )]
    NotAllowed {
        /// What was being done.
        action: String,
    },
    /// It wrote more than was asked for.
    #[error("git wrote more than {bytes_max} bytes to {action}")]
    TooMuchOutput {
        /// What was being done.
        action: String,
        /// The limit.
        bytes_max: usize,
    },
    /// Anything else.
    #[error("git could not {action} (exit {code}): {said}")]
    Failed {
        /// What was being done.
        action: String,
        /// The exit code, or 128 + signal.
        code: i32,
        /// What git said.
        said: String,
    },
    /// The system failed.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Sorts a failure by git's words, which are English because we ask for that.
pub(super) fn classified(
    action: &str,
    repository: Option<&str>,
    code: i32,
    stderr: &str,
) -> GitError {
    let said = summary(stderr);
    let Some(repository) = repository.map(redacted) else {
        return GitError::Failed { action: action.to_owned(), code, said };
    };
    let lower = stderr.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(REJECTED) {
        GitError::Rejected { repository, said }
    } else if says(DENIED) {
        GitError::Denied { repository, said }
    } else if says(NOT_FOUND) {
        GitError::NotFound { repository, said }
    } else if says(UNREACHABLE) {
        GitError::Unreachable { repository, said }
    } else {
        GitError::Failed { action: format!("{action} with {repository}"), code, said }
    }
}

const REJECTED: &[&str] = &[
    "[rejected]",
    "[remote rejected]",
    "stale info",
    "failed to push some refs",
    "pre-receive hook declined",
    "protected branch",
];
const DENIED: &[&str] = &[
    "authentication failed",
    "could not read username",
    "could not read password",
    "permission denied",
    "returned error: 401",
    "returned error: 403",
    "access denied",
    "terminal prompts disabled",
    "host key verification failed",
    "write access to repository not granted",
];
const NOT_FOUND: &[&str] = &[
    "repository not found",
    "returned error: 404",
    "not found",
    "does not appear to be a git repository",
    "does not exist",
    "no such file or directory",
    "detected dubious ownership",
];
const UNREACHABLE: &[&str] = &[
    "could not resolve host",
    "couldn't connect",
    "failed to connect",
    "connection refused",
    "connection timed out",
    "connection reset",
    "network is unreachable",
    "the remote end hung up",
    "early eof",
    "returned error: 5",
    "operation timed out",
    "ssl",
    "gnutls",
    "recv failure",
    "no route to host",
    "low speed",
    "empty reply",
    "temporary failure in name resolution",
];

/// The lines of git that matter, without secrets, on one line.
pub(super) fn summary(stderr: &str) -> String {
    let telling = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("hint:")
    };
    let lines: Vec<&str> = stderr.lines().filter(telling).map(str::trim).collect();
    let text = redacted(&lines.join("; "));
    let text: String = text.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
    if text.is_empty() { "git said nothing".to_owned() } else { text }
}

/// `text` with what stands between `://` and `@` of a URL taken out.
pub(crate) fn redacted(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        result.push_str(before);
        result.push_str("://");
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"');
        let (authority, tail) =
            after.split_at_checked(end.unwrap_or(after.len())).unwrap_or((after, ""));
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                result.push_str("***@");
                result.push_str(host);
            }
            None => result.push_str(authority),
        }
        rest = tail;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::{GitError, classified, redacted};

    #[test]
    fn credentials_of_urls_are_taken_out() {
        assert_eq!(
            redacted("fatal: 'https://me:hunter2@host/x' and https://t0ken@host:8/y z://q"),
            "fatal: 'https://***@host/x' and https://***@host:8/y z://q"
        );
        assert_eq!(redacted("plain me@host"), "plain me@host");
    }

    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are a failure of the test")]
    fn failures_are_told_apart() {
        let kind = |stderr: &str| match classified("fetch", Some("https://h/r"), 128, stderr) {
            GitError::NotFound { .. } => "not found",
            GitError::Denied { .. } => "denied",
            GitError::Unreachable { .. } => "unreachable",
            GitError::Rejected { .. } => "rejected",
            GitError::Failed { .. } => "failed",
            _ => "something else",
        };
        let cases = [
            (
                "remote: Repository not found.\nfatal: repository 'https://h/r/' not found",
                "not found",
            ),
            ("fatal: '/x' does not appear to be a git repository", "not found"),
            ("fatal: Authentication failed for 'https://h/r/'", "denied"),
            ("fatal: could not read Username for 'https://h': terminal prompts disabled", "denied"),
            (
                "fatal: unable to access 'https://h/': The requested URL returned error: 403",
                "denied",
            ),
            ("fatal: unable to access 'https://h/': Could not resolve host: h", "unreachable"),
            (
                "fatal: unable to access 'https://h/': The requested URL returned error: 502",
                "unreachable",
            ),
            (
                "! [rejected] a -> b (stale info)\nerror: failed to push some refs to 'x'",
                "rejected",
            ),
            ("fatal: bad object", "failed"),
        ];
        for (stderr, expected) in cases {
            assert_eq!(kind(stderr), expected, "{stderr}");
        }
    }
}
