//! Names that git is given: branches and repositories. They come from manifests, issues and models,
//! so nothing that git could take for an option, another transport or a credential passes.

/// Checks a branch name by the rules of `git check-ref-format --branch`.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_branch(name: &str) -> Result<(), String> {
    let shown = |rule: &str| Err(format!("branch {name:?} {rule}"));
    if name.is_empty() {
        return shown("is empty");
    }
    if name.starts_with('-') {
        return shown("begins with '-', which git takes for an option");
    }
    if let Some(c) = name.chars().find(|c| c.is_control() || " ~^:?*[\\".contains(*c)) {
        return shown(&format!("has {c:?}, which git does not allow"));
    }
    if ["..", "//", "@{"].iter().any(|pair| name.contains(pair)) {
        return shown("has \"..\", \"//\" or \"@{\", which git does not allow");
    }
    if name.starts_with('/') || name.ends_with('/') || name.ends_with('.') {
        return shown("begins with '/' or ends with '/' or '.'");
    }
    if name == "@" || name == "HEAD" || name.starts_with("refs/") {
        return shown("is a name that git keeps for itself: give the short name of a branch");
    }
    if name.split('/').any(|part| part.starts_with('.') || has_lock_suffix(part)) {
        return shown("has a part that begins with '.' or ends with \".lock\"");
    }
    Ok(())
}

fn has_lock_suffix(part: &str) -> bool {
    part.strip_suffix(".lock").is_some()
}

/// Checks a repository: `owner/name`, a URL without credentials, or an absolute path.
///
/// # Errors
/// The rule that the text breaks.
pub fn check_repo(repo: &str) -> Result<(), String> {
    // The text may hold a password: it is never repeated.
    let err = |rule: &str| Err(format!("repo {rule}"));
    if repo.is_empty() {
        return err("is empty");
    }
    if repo.starts_with('-') {
        return err("begins with '-', which git takes for an option");
    }
    if repo.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return err("has white space or control characters");
    }
    if repo.starts_with('/') {
        return Ok(());
    }
    if let Some((scheme, rest)) = repo.split_once("://") {
        return check_url(scheme, rest);
    }
    if repo.contains("::") {
        return err("names a remote helper of git, which could run any program");
    }
    if let Some((host, path)) = repo.split_once(':') {
        let user_and_host = host.strip_prefix("git@").unwrap_or(host);
        return if !path.is_empty() && !user_and_host.is_empty() && host_like(user_and_host) {
            Ok(())
        } else {
            err(
                "is no slug, URL or absolute path: use owner/name, https://host/owner/name or /path",
            )
        };
    }
    let parts: Vec<_> = repo.split('/').collect();
    match parts.as_slice() {
        [owner, name] if slug_part(owner) && slug_part(name) => Ok(()),
        _ => err(
            "is no slug, URL or absolute path: use owner/name, https://host/owner/name or /path",
        ),
    }
}

fn check_url(scheme: &str, rest: &str) -> Result<(), String> {
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme.as_str() {
        "file" if authority.is_empty() || authority == "localhost" => return Ok(()),
        "https" | "http" | "ssh" | "git" => {}
        _ => {
            return Err(format!(
                "repo has the scheme {scheme:?}: use https, http, ssh, git or file"
            ));
        }
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let secret = user.is_some_and(|user| user.contains(':') || scheme != "ssh");
    if secret {
        return Err("repo holds credentials: leave them out of the URL, git's credential helper \
                    or a Secret gives them"
            .to_owned());
    }
    if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return Err("repo has a host that begins with '-'".to_owned());
    }
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    if path.trim_matches('/').is_empty() || !(host_like(host) || host.starts_with('[')) {
        return Err("repo has no host or no path: use scheme://host/owner/name".to_owned());
    }
    Ok(())
}

fn host_like(host: &str) -> bool {
    !host.is_empty() && !host.starts_with('-') && host.chars().all(name_char)
}

fn slug_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && part.chars().all(name_char)
}

fn name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_that_git_takes_pass_and_the_others_are_named() {
        let good =
            ["main", "foreman/w/issue-1", "a.b", "x@y", "ümlaut", "release-1.2", "a/-b", "lock"];
        for name in good {
            assert_eq!(check_branch(name), Ok(()), "{name}");
        }
        let bad = [
            "",
            "-f",
            "--upload-pack=x",
            "a b",
            "a..b",
            "a//b",
            "a@{1}",
            "/a",
            "a/",
            "a.",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a\nb",
            "a\u{7f}b",
            "@",
            "HEAD",
            "refs/heads/a",
        ];
        for name in bad {
            assert!(check_branch(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn repositories_are_slugs_urls_or_absolute_paths() {
        let good = [
            "owner/name",
            "o.o/n_n",
            "https://github.com/owner/name.git",
            "http://forge:3000/a/b",
            "ssh://git@host/a",
            "ssh://git@host:22/a",
            "git@host:a/b.git",
            "host:a/b",
            "/srv/repo",
            "file:///srv/repo",
            "https://[::1]/a",
            "git://host/a",
        ];
        for repo in good {
            assert_eq!(check_repo(repo), Ok(()), "{repo}");
        }
        let bad = [
            "",
            "name",
            "a/b/c",
            "../b",
            "a/..",
            "-x/y",
            "--upload-pack=/bin/sh",
            "ext::sh -c id",
            "ext::sh",
            "https://user:secret@host/a",
            "https://token@host/a",
            "https:///a",
            "https://host",
            "https://host/",
            "ftp://host/a",
            "ssh://-oProxyCommand=x/a",
            "ssh://git:pw@host/a",
            "ssh://-oX@host/a",
            "-oX:a",
            "a b/c",
            "host:",
            ":a",
            "~/repo",
            "./repo",
            "file://other/srv",
            "https://-x/a",
        ];
        for repo in bad {
            assert!(check_repo(repo).is_err(), "{repo:?}");
        }
    }

    #[test]
    fn a_refused_repository_is_not_repeated_with_its_password() {
        let error = check_repo("https://user:hunter2@host/a").expect_err("credentials");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
