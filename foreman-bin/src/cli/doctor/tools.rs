//! Git, the model server, the sandbox, and which `foreman` this is.

use std::path::{Path, PathBuf};

use foreman_probe::{Discovery, FoundModel, discover};
use foreman_runner::git::Git;
use foreman_runner::sandbox::Tier;
use foreman_runner::sandbox_probe;
use tokio_util::sync::CancellationToken;

use super::{Check, chain};
use crate::settings::Settings;

/// The oldest git that does what is asked of it.
const GIT_MIN: (u32, u32) = (2, 39);
/// Below this, agents run out of context in the middle of a change.
const CONTEXT_TOKENS_MIN: u64 = 32_768;
/// What helps against a context that is too small.
const CONTEXT_FIX: &str = "OLLAMA_CONTEXT_LENGTH=65536 ollama serve, or llama-server -c 65536";
/// How to get a model server.
const MODEL_FIX: &str = "start one: OLLAMA_CONTEXT_LENGTH=65536 ollama serve | llama-server -m model.gguf --jinja -c 65536 | \
lms server start; or name one with --model-url";

pub(super) async fn git() -> Check {
    let fix = format!("install git {}.{} or newer", GIT_MIN.0, GIT_MIN.1);
    let cancel = CancellationToken::new();
    match Git::default().call("ask git for its version").args(["--version"]).run(&cancel).await {
        Err(error) => Check::fail("git", chain(&error), fix),
        Ok(output) => {
            let text = output.text();
            let version = text.trim().trim_start_matches("git version ").to_owned();
            match parse_version(&version) {
                Some(found) if found >= GIT_MIN => Check::ok("git", version),
                Some(_) => Check::fail("git", format!("{version} is too old"), fix),
                None => {
                    Check::warn("git", format!("its version {version:?} is not understood"), fix)
                }
            }
        }
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', ' ', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) async fn model(settings: &Settings) -> Vec<Check> {
    let config = match settings.discovery() {
        Ok(config) => config,
        Err(failure) => return vec![Check::fail("model", chain(&failure), "correct the file")],
    };
    match discover(&config).await {
        Ok(discovery) => of_discovery(&discovery),
        Err(error) => vec![Check::fail("model", chain(&error), "check HTTPS_PROXY and NO_PROXY")],
    }
}

fn of_discovery(discovery: &Discovery) -> Vec<Check> {
    match &discovery.chosen {
        Err(error) => {
            let tried = discovery.tried_line();
            vec![Check::fail("model", format!("{error}; tried: {tried}"), MODEL_FIX)]
        }
        Ok(choice) => vec![Check::ok("model", choice.to_string()), context(&choice.model)],
    }
}

fn context(model: &FoundModel) -> Check {
    match model.context_tokens {
        Some(tokens) if tokens < CONTEXT_TOKENS_MIN => Check::warn(
            "context",
            format!(
                "{} serves {tokens} tokens, {CONTEXT_TOKENS_MIN} or more are needed",
                model.name
            ),
            CONTEXT_FIX,
        ),
        Some(tokens) => Check::ok("context", format!("{tokens} tokens")),
        None => Check::warn(
            "context",
            format!("{} does not say how much context it serves", model.server.as_str()),
            CONTEXT_FIX,
        ),
    }
}

pub(super) async fn sandbox(settings: &Settings) -> Check {
    let required = settings.node.sandbox;
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => return Check::fail("sandbox", chain(&error), "make TMPDIR writable"),
    };
    let report = sandbox_probe::probe(std::env::current_exe().ok(), scratch.path()).await;
    let held = report.findings.iter().filter(|finding| finding.held).count();
    let tried = report.findings.len();
    let why = report.why_not_more.map_or_else(String::new, |why| format!("; {why}"));
    if report.tier >= required {
        Check::ok("sandbox", format!("{}, {held} of {tried} escapes refused{why}", report.tier))
    } else {
        let fix = if cfg!(target_os = "linux") {
            "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
kernel.apparmor_restrict_unprivileged_userns=0), or use Linux 6.7 or newer"
        } else {
            "check that /usr/bin/sandbox-exec runs"
        };
        let accept = format!("{fix}; or accept what it holds: --sandbox {}", accepted(report.tier));
        Check::fail("sandbox", format!("{}, but {required} is required{why}", report.tier), accept)
    }
}

const fn accepted(tier: Tier) -> &'static str {
    match tier {
        Tier::None => "none (runs are then not confined at all)",
        Tier::Files => "files",
        Tier::Network => "network",
        Tier::Full => "full",
    }
}

/// Whether `foreman` on PATH is this program.
pub(super) fn path() -> Check {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = first_on_path(std::env::split_paths(&path));
    match (first, own) {
        (Some(first), Some(own)) if first.canonicalize().is_ok_and(|first| first == own) => {
            Check::ok("path", own.display().to_string())
        }
        (Some(first), Some(own)) => Check::warn(
            "path",
            format!("typing foreman runs {}, not this one ({})", first.display(), own.display()),
            "put the folder of this one first on PATH, or call it by its path",
        ),
        (None, Some(own)) => Check::ok("path", format!("{} (not on PATH)", own.display())),
        (_, None) => Check::warn("path", "this program does not know its own path", "mount /proc"),
    }
}

fn first_on_path(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.map(|folder| folder.join("foreman")).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file)
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_systems_write_them() {
        assert_eq!(parse_version("2.39.5"), Some((2, 39)));
        assert_eq!(parse_version("2.50.1 (Apple Git-155)"), Some((2, 50)));
        assert_eq!(parse_version("2.47-rc0"), Some((2, 47)));
        assert_eq!(parse_version("weird"), None);
    }

    #[test]
    fn the_first_executable_on_path_is_what_a_shell_takes() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().expect("a directory");
        let folders = ["a", "b", "c"].map(|name| root.path().join(name));
        for folder in &folders {
            std::fs::create_dir(folder).expect("made");
        }
        std::fs::write(folders[0].join("foreman"), "no program").expect("written");
        for folder in &folders[1..] {
            std::fs::write(folder.join("foreman"), "#!/bin/sh").expect("written");
            std::fs::set_permissions(
                folder.join("foreman"),
                std::fs::Permissions::from_mode(0o755),
            )
            .expect("set");
        }
        assert_eq!(first_on_path(folders.clone().into_iter()), Some(folders[1].join("foreman")));
    }
}
