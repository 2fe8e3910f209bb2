//! Names that go onto git's command line: parsed once, valid ever after.

use std::path::{Path, PathBuf};

/// Longest branch name, in bytes.
const BRANCH_BYTES_MAX: usize = 200;
/// Longest repository name, in bytes.
const REPOSITORY_BYTES_MAX: usize = 2_000;

/// A branch name that git accepts and that cannot be taken for an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BranchName(String);

/// Why a text is no branch name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("branch name {name:?} {reason}")]
pub struct InvalidBranchName {
    /// What was given.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl BranchName {
    /// Checks the rules of `git check-ref-format --branch`.
    ///
    /// # Errors
    /// Names the rule that is broken.
    pub fn parse(name: &str) -> Result<Self, InvalidBranchName> {
        match broken_rule(name) {
            None => Ok(Self(name.to_owned())),
            Some(reason) => Err(InvalidBranchName {
                name: name.chars().take(BRANCH_BYTES_MAX).collect(),
                reason,
            }),
        }
    }

    /// The name, without `refs/heads/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole reference.
    pub fn reference(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl std::fmt::Display for BranchName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn broken_rule(name: &str) -> Option<&'static str> {
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let bad_part = |part: &str| {
        part.is_empty()
            || part.starts_with('.')
            || Path::new(part).extension().is_some_and(|it| it == "lock")
            || part == ".lock"
    };
    match name {
        "" => Some("is empty"),
        "@" | "HEAD" => Some("is reserved by git"),
        _ if name.len() > BRANCH_BYTES_MAX => Some("is longer than 200 bytes"),
        _ if name.starts_with('-') => Some("starts with '-'"),
        _ if name.starts_with("refs/") => {
            Some("starts with 'refs/': give the name after refs/heads/")
        }
        _ if name.chars().any(forbidden) => {
            Some("has a space, a control character or one of ~ ^ : ? * [ \\")
        }
        _ if name.contains("..") || name.contains("@{") => Some("holds '..' or '@{'"),
        _ if name.ends_with('.') => Some("ends with '.'"),
        _ if name.split('/').any(bad_part) => {
            Some("has a part that is empty, starts with '.' or ends with '.lock'")
        }
        _ => None,
    }
}

/// A repository that a person named: where git finds it, and how to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    url: String,
    local: Option<PathBuf>,
}

/// Why a text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("repository {given:?} {reason}")]
pub struct InvalidRepository {
    /// What was given, without credentials.
    pub given: String,
    /// What is wrong with it and what to write instead.
    pub reason: &'static str,
}

impl Repository {
    /// Understands a slug `owner/name` (beneath `base_url`), a URL (https, http,
    /// ssh, file), `user@host:path`, or an absolute path.
    ///
    /// # Errors
    /// Says what is wrong: another scheme, a credential in the URL, a relative path.
    pub fn parse(given: &str, base_url: &str) -> Result<Self, InvalidRepository> {
        let invalid = |reason| {
            let given: String = given.chars().take(200).collect();
            Err(InvalidRepository { given: super::redacted(&given), reason })
        };
        if given.is_empty() || given.starts_with('-') || given.len() > REPOSITORY_BYTES_MAX {
            return invalid("is empty, too long or starts with '-'");
        }
        if given.chars().any(|c| c.is_control() || c.is_whitespace() && c != ' ') {
            return invalid("has a control character");
        }
        let local = |path: PathBuf| Self { url: given.to_owned(), local: Some(path) };
        let elsewhere = Self { url: given.to_owned(), local: None };
        if Path::new(given).is_absolute() {
            let path = PathBuf::from(given);
            return if path.is_dir() {
                Ok(local(path))
            } else {
                invalid("is a path where there is no folder")
            };
        }
        if let Some((scheme, rest)) = given.split_once("://") {
            return match wrong_url(scheme, rest) {
                Some(reason) => invalid(reason),
                None if scheme == "file" => Ok(local(PathBuf::from(rest))),
                None => Ok(elsewhere),
            };
        }
        if given.contains("::") {
            return invalid("asks for a remote helper, which would run a program");
        }
        if let Some((host, path)) = given.split_once(':') {
            let host_only = host.rsplit('@').next().unwrap_or_default();
            // One letter is a drive of Windows.
            let no_host = host_only.len() < 2 || host_only.starts_with('-') || host.contains('/');
            return if no_host || host.starts_with('-') || path.is_empty() {
                invalid(NO_REPOSITORY)
            } else {
                Ok(elsewhere)
            };
        }
        match given.split_once('/') {
            Some((owner, name)) if is_slug_part(owner) && is_slug_part(name) => {
                let base = base_url.trim_end_matches('/');
                let name = name.strip_suffix(".git").unwrap_or(name);
                Ok(Self { url: format!("{base}/{owner}/{name}.git"), local: None })
            }
            _ => invalid(NO_REPOSITORY),
        }
    }

    /// What git is given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder, for a path or a file URL.
    pub fn local(&self) -> Option<&Path> {
        self.local.as_deref()
    }

    /// The one transport that git may use for it.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.url.split_once("://").map(|(scheme, _)| scheme) {
            Some("https") => "https",
            Some("http") => "http",
            Some("ssh") => "ssh",
            Some(_) => "file",
            None if self.local.is_some() => "file",
            None => "ssh",
        }
    }

    /// Scheme and host, which a token is for.
    pub(crate) fn origin(&self) -> Option<String> {
        let (scheme, rest) = self.url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let host = authority.rsplit('@').next()?;
        matches!(scheme, "https" | "http").then(|| format!("{scheme}://{host}"))
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::redacted(&self.url))
    }
}

const NO_REPOSITORY: &str = "is neither a slug owner/name, a URL nor an absolute path";

/// What is wrong with a URL, if something is.
fn wrong_url(scheme: &str, rest: &str) -> Option<&'static str> {
    if !matches!(scheme, "https" | "http" | "ssh" | "file") {
        return Some("has a scheme other than https, http, ssh or file");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    match () {
        () if user.contains(':') => {
            Some("holds a password: give the token by --token-file or a credential helper")
        }
        () if user.starts_with('-') || host.starts_with('-') => {
            Some("has a user or host that starts with '-'")
        }
        () if host.is_empty() && scheme != "file" => Some("has no host"),
        () if scheme != "file" && reqwest::Url::parse(&format!("{scheme}://{host}/")).is_err() => {
            Some("has no valid host or port")
        }
        () => None,
    }
}

fn is_slug_part(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with(['-', '.'])
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::{BranchName, Repository};

    #[test]
    fn branch_names_follow_gits_rules() {
        let long = "a".repeat(200);
        for good in ["main", "foreman/fix-login-7f3a", "a.b", "feature/ä", "x@y", long.as_str()] {
            assert!(BranchName::parse(good).is_ok(), "{good:?}");
        }
        let longer = "a".repeat(201);
        for bad in [
            "",
            "@",
            "HEAD",
            "-x",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a.lock",
            "a/.b",
            "/a",
            "a/",
            "a//b",
            "a.",
            "a@{1}",
            "refs/heads/a",
            "a\nb",
            "a\0b",
            "x/.lock",
            longer.as_str(),
        ] {
            assert!(BranchName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn repositories_become_urls() {
        let url = |given: &str| {
            Repository::parse(given, super::super::DEFAULT_BASE_URL)
                .map(|it| (it.url().to_owned(), it.protocol()))
        };
        let cases = [
            ("owner/name", "https://github.com/owner/name.git", "https"),
            ("owner/name.git", "https://github.com/owner/name.git", "https"),
            ("https://host/a/b", "https://host/a/b", "https"),
            ("git@host:a/b.git", "git@host:a/b.git", "ssh"),
            ("ssh://git@host/a", "ssh://git@host/a", "ssh"),
            ("file:///tmp", "file:///tmp", "file"),
            ("/tmp", "/tmp", "file"),
        ];
        for (given, expected, protocol) in cases {
            assert_eq!(url(given), Ok((expected.to_owned(), protocol)), "{given}");
        }
    }

    #[test]
    fn what_would_run_a_program_or_leak_a_token_is_no_repository() {
        for bad in [
            "",
            "-x",
            "--upload-pack=touch x",
            "ext::sh -c id",
            "ext::x/y",
            "fd::7",
            "./x",
            "../x/y",
            "a/b/c",
            "owner/",
            "/no/such/folder",
            "git://host/x",
            "https://",
            "https://u:p@host/x",
            "ssh://-oProxyCommand=id/x",
            "-oX@host:x",
            "owner/na me",
            "a\n/b",
            "C:\\x",
        ] {
            assert!(Repository::parse(bad, "https://github.com").is_err(), "{bad:?}");
        }
        let error = Repository::parse("https://u:hunter2@host/x", "https://github.com");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
