//! The folders of one sandbox and the environment that points a command at
//! them. The environment is built from nothing; no variable of the agent gets in
//! but those named here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Variables of the agent that a command sees as they are: they name no
/// credential and tools misbehave without them.
const PASSED_VARIABLES: &[&str] = &["LANG", "LC_ALL", "LC_CTYPE", "TZ", "GOROOT", "JAVA_HOME"];

/// Variables that a proxy needs; passed only with the network.
const NETWORK_VARIABLES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The folders a sandbox works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The tree the command works on.
    pub tree: PathBuf,
    /// A folder of this run: private home, temporary folder and mount point.
    pub private: PathBuf,
    /// The cache folder of the repository; outlives the run.
    pub cache: PathBuf,
}

impl Layout {
    /// The command's `HOME`.
    pub fn home(&self) -> PathBuf {
        self.private.join("home")
    }

    /// The command's `TMPDIR`.
    pub fn tmp(&self) -> PathBuf {
        self.private.join("tmp")
    }

    /// Where successful `setup` steps are recorded, outside what a command may
    /// write.
    pub fn setup_marks(&self) -> PathBuf {
        self.cache.with_extension("setup")
    }

    /// Whether a `setup` step ever succeeded for this repository.
    pub fn is_set_up(&self) -> bool {
        std::fs::read_dir(self.setup_marks()).is_ok_and(|mut marks| marks.next().is_some())
    }

    /// Where the new root is put together.
    pub(crate) fn new_root(&self) -> PathBuf {
        self.private.join("root")
    }
}

/// Where the user's toolchains lie, as the agent's own environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchains {
    /// The user's home.
    pub(crate) home: PathBuf,
    /// `CARGO_HOME`, or its default.
    pub(crate) cargo_home: PathBuf,
    /// `RUSTUP_HOME`, or its default.
    pub(crate) rustup_home: PathBuf,
    /// `GOPATH`, or its default.
    pub(crate) go_path: PathBuf,
}

impl Toolchains {
    /// Reads the agent's environment through `variable`.
    pub(crate) fn from(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let home = PathBuf::from(variable("HOME").unwrap_or_else(|| "/nonexistent".to_owned()));
        let or = |name: &str, default: &str| {
            variable(name).map_or_else(|| home.join(default), PathBuf::from)
        };
        Self {
            cargo_home: or("CARGO_HOME", ".cargo"),
            rustup_home: or("RUSTUP_HOME", ".rustup"),
            go_path: or("GOPATH", "go"),
            home,
        }
    }
}

/// The environment of a command.
///
/// Downloaded dependencies: what a `setup` command fetched lies in the
/// repository's cache folder and is used from there; where no `setup` ever ran,
/// the user's own downloads are used read-only, so that a repository whose
/// dependencies are already on the machine needs no `setup` at all.
pub(crate) fn environment(
    layout: &Layout,
    toolchains: &Toolchains,
    network: bool,
    variable: &dyn Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    for name in PASSED_VARIABLES {
        if let Some(value) = variable(name) {
            set(name, value);
        }
    }
    if network {
        for name in NETWORK_VARIABLES {
            if let Some(value) = variable(name) {
                set(name, value);
            }
        }
    }
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let path = variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    set("PATH", path);
    set("HOME", text(layout.home()));
    set("TMPDIR", text(layout.tmp()));
    set("USER", "foreman".to_owned());
    set("LOGNAME", "foreman".to_owned());
    set("SHELL", "/bin/sh".to_owned());
    set("TERM", "dumb".to_owned());
    set("CI", "true".to_owned());
    set("NO_COLOR", "1".to_owned());
    set("PAGER", "cat".to_owned());
    set("GIT_PAGER", "cat".to_owned());
    set("GIT_TERMINAL_PROMPT", "0".to_owned());
    // Without this `git status` in the sandbox tries to write its index and
    // fails where the git dir is read-only.
    set("GIT_OPTIONAL_LOCKS", "0".to_owned());
    set("XDG_CACHE_HOME", text(layout.cache.join("xdg")));

    set("RUSTUP_HOME", text(toolchains.rustup_home.clone()));
    let cargo = layout.cache.join("cargo");
    // Only after a setup that succeeded: a half-filled cache hides what is there.
    let use_own = network || layout.is_set_up();
    let cargo = if use_own { cargo } else { toolchains.cargo_home.clone() };
    set("CARGO_HOME", text(cargo));
    if !network {
        set("CARGO_NET_OFFLINE", "true".to_owned());
        set("GOPROXY", "off".to_owned());
        set("GOTOOLCHAIN", "local".to_owned());
        set("npm_config_offline", "true".to_owned());
        set("PIP_NO_INDEX", "1".to_owned());
    }

    let go_path = if use_own { layout.cache.join("go") } else { toolchains.go_path.clone() };
    set("GOPATH", text(go_path));
    set("GOCACHE", text(layout.cache.join("go-build")));
    set("GOTELEMETRY", "off".to_owned());

    set("npm_config_cache", text(layout.cache.join("npm")));
    set("npm_config_update_notifier", "false".to_owned());
    set("PIP_CACHE_DIR", text(layout.cache.join("pip")));
    set("PIP_DISABLE_PIP_VERSION_CHECK", "1".to_owned());
    set("PYTHONUSERBASE", text(toolchains.home.join(".local")));
    set("PYTHONDONTWRITEBYTECODE", "1".to_owned());
    set("UV_CACHE_DIR", text(layout.cache.join("uv")));
    env
}

/// Whether `path` is `folder` or lies beneath it, by names alone.
pub(crate) fn is_beneath(path: &Path, folder: &Path) -> bool {
    path.starts_with(folder)
}

#[cfg(test)]
mod tests {
    use super::{Layout, Toolchains, environment};
    use std::path::PathBuf;

    #[test]
    fn no_variable_of_the_agent_gets_in_unless_it_is_named() {
        let agent = |name: &str| match name {
            "HOME" => Some("/home/u".to_owned()),
            "PATH" => Some("/usr/bin".to_owned()),
            "LANG" => Some("C.UTF-8".to_owned()),
            "GITHUB_TOKEN" | "SSH_AUTH_SOCK" | "AWS_SECRET_ACCESS_KEY" | "HTTPS_PROXY" => {
                Some("secret".to_owned())
            }
            _ => None,
        };
        let layout = Layout {
            tree: PathBuf::from("/w/tree"),
            private: PathBuf::from("/w/private"),
            cache: PathBuf::from("/w/cache"),
        };
        let env = environment(&layout, &Toolchains::from(&agent), false, &agent);
        assert!(env.values().all(|value| value != "secret"), "{env:?}");
        assert_eq!(env.get("HOME").map(String::as_str), Some("/w/private/home"));
        assert_eq!(env.get("CARGO_HOME").map(String::as_str), Some("/home/u/.cargo"));
        let with_network = environment(&layout, &Toolchains::from(&agent), true, &agent);
        assert_eq!(with_network.get("HTTPS_PROXY").map(String::as_str), Some("secret"));
        assert_eq!(with_network.get("GITHUB_TOKEN"), None);
        assert_eq!(with_network.get("CARGO_HOME").map(String::as_str), Some("/w/cache/cargo"));
    }
}
