//! Which paths a command may read: worked out once per sandbox, because it
//! walks `/etc` and the folders of the user's toolchains.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::environment::{Layout, Toolchains, is_beneath};

/// Entries of `/etc` that are looked at; beyond it the rest is hidden as a whole.
const ETC_ENTRIES_MAX: usize = 50_000;
/// How deep `/etc` is walked.
const ETC_DEPTH_MAX: usize = 12;

/// Folders of the system that any user may read anyway.
const SYSTEM_FOLDERS: &[&str] = &[
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr",
    "/opt",
    "/etc",
    "/sys",
    "/nix/store",
    "/gnu/store",
    "/snap",
    "/var/lib/dpkg",
    "/var/cache/man",
    // macOS
    "/System",
    "/Library",
    "/Applications/Xcode.app",
    "/private/etc",
    "/private/var/db/timezone",
];

/// Needed only to find names on the network.
const RESOLVER_FOLDERS: &[&str] =
    &["/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"];

/// Folders of toolchains, beneath the user's home. Whole homes of tools, never
/// the home itself, `.config` or `.local/share`.
const HOME_TOOLCHAINS: &[&str] = &[
    ".local/bin",
    ".local/lib",
    ".local/share/mise",
    ".local/share/uv",
    ".local/share/pnpm",
    ".local/pipx",
    ".local/share/pipx",
    ".pyenv",
    ".nvm",
    ".volta",
    ".fnm",
    ".bun/bin",
    ".deno/bin",
    ".asdf",
    ".sdkman",
    ".rbenv",
    ".rvm",
    ".ghcup",
    ".dotnet",
    ".elan",
    ".juliaup",
    ".opam",
    ".m2/repository",
    ".gradle/wrapper",
    ".gradle/caches",
    ".mix",
    ".hex/packages",
    ".nix-profile",
    "bin",
];

/// Credentials beneath the user's home; hidden even when the user grants a
/// folder that holds them.
const HOME_CREDENTIALS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    "_netrc",
    ".git-credentials",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pypirc",
    ".config/gh",
    ".config/glab-cli",
    ".config/hub",
    ".config/git/credentials",
    ".config/gcloud",
    ".config/op",
    ".config/pypoetry/auth.toml",
    ".config/containers/auth.json",
    ".config/foreman",
    ".local/share/keyrings",
    ".local/share/uv/credentials",
    ".password-store",
    ".pgpass",
    ".my.cnf",
    ".vault-token",
    ".terraform.d",
    ".terraformrc",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".gem/credentials",
    ".bundle/config",
    ".hex/hex.config",
    ".nuget/NuGet/NuGet.Config",
    ".huggingface",
    ".cache/huggingface/token",
    ".mozilla",
    ".config/google-chrome",
    ".config/chromium",
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".psql_history",
    ".node_repl_history",
];

/// Where the agent's own store, journals and trees lie unless somebody says otherwise. A run works
/// beneath it, so only what is not of this run is hidden.
const OWN_DATA: &str = ".local/share/foreman";

/// What a sandbox is made from.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// The program that answers to [`super::HELPER_ARGUMENT`]; none = there is
    /// no sandbox.
    pub helper: Option<PathBuf>,
    /// The folders it works with.
    pub layout: Layout,
    /// What the user lets commands read besides (`--sandbox-read DIR`), and the
    /// git dir and mirror of the workspace, so that `git log` works inside.
    pub read: Vec<PathBuf>,
    /// What stays unreadable whatever else is granted: token files, the store.
    pub hide: Vec<PathBuf>,
    /// What stays read-only beneath the tree where the system can do that.
    pub protect: Vec<PathBuf>,
    /// Whether to use namespaces where the system gives them. Off only to test
    /// the fallback.
    pub namespaces: bool,
}

impl SandboxSettings {
    /// Settings for the folders of `layout`, with this very program as helper.
    pub fn new(layout: Layout) -> Self {
        Self {
            helper: std::env::current_exe().ok(),
            layout,
            read: Vec::new(),
            hide: Vec::new(),
            protect: Vec::new(),
            namespaces: true,
        }
    }
}

/// The readable paths and what is hidden beneath them.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    pub(crate) read: Vec<PathBuf>,
    pub(crate) resolver: Vec<PathBuf>,
    pub(crate) hide: Vec<PathBuf>,
}

/// The paths that any sandboxed command on this machine may read, before the
/// user's own additions; for `foreman doctor`.
pub fn readable_roots() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var(name).ok();
    roots(&Toolchains::from(&variable), &variable("PATH").unwrap_or_default())
}

/// Works out what may be read.
pub(crate) fn read_plan(
    settings: &SandboxSettings,
    toolchains: &Toolchains,
    path: &str,
) -> ReadPlan {
    let mut read: BTreeSet<PathBuf> = roots(toolchains, path).into_iter().collect();
    read.extend(settings.read.iter().filter_map(|path| path.canonicalize().ok()));
    let mut hide: BTreeSet<PathBuf> = settings.hide.iter().cloned().collect();
    hide.extend(HOME_CREDENTIALS.iter().map(|name| toolchains.home.join(name)));
    let own = real_place(&toolchains.home.join(OWN_DATA));
    hide.extend(own.into_iter().flat_map(|own| all_but(&own, &granted_beneath(&own, settings))));
    hide.extend(["credentials", "credentials.toml"].map(|name| toolchains.cargo_home.join(name)));
    hide.extend(unreadable_in_etc());
    let mut hide: BTreeSet<PathBuf> = hide.iter().filter_map(|path| real_place(path)).collect();
    // The default data directory is hidden by name, and holds the very folders of the run: what lies
    // beside those in it is granted to nobody.
    let layout = &settings.layout;
    let own = [&layout.tree, &layout.private, &layout.cache];
    hide.retain(|hidden| !own.iter().any(|folder| folder.starts_with(hidden)));
    let resolver =
        RESOLVER_FOLDERS.iter().map(PathBuf::from).filter(|path| path.is_dir()).collect();
    ReadPlan { read: read.into_iter().collect(), resolver, hide: hide.into_iter().collect() }
}

/// What of `folder` this run works with, at real paths. A grant of a folder around it is none of it.
fn granted_beneath(folder: &Path, settings: &SandboxSettings) -> Vec<PathBuf> {
    let Layout { tree, private, cache } = &settings.layout;
    let all = [tree, private, cache].into_iter().chain(&settings.read);
    let all = all.filter_map(|path| path.canonicalize().ok());
    all.filter(|path| path != folder && is_beneath(path, folder)).collect()
}

/// `folder`, or everything in it that neither is one of `kept` nor leads to one.
fn all_but(folder: &Path, kept: &[PathBuf]) -> Vec<PathBuf> {
    if kept.iter().any(|kept| is_beneath(folder, kept)) {
        return Vec::new();
    }
    if !kept.iter().any(|kept| is_beneath(kept, folder)) {
        return vec![folder.to_owned()];
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| all_but(&entry.path(), kept)).collect()
}

/// The path with its folder's links resolved, if there is something.
fn real_place(path: &Path) -> Option<PathBuf> {
    fs::symlink_metadata(path).ok()?;
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

/// Roots that exist; a root beneath another one is left in, it does no harm.
fn roots(toolchains: &Toolchains, path: &str) -> Vec<PathBuf> {
    let mut roots: BTreeSet<PathBuf> = SYSTEM_FOLDERS.iter().map(PathBuf::from).collect();
    roots.extend(HOME_TOOLCHAINS.iter().map(|name| toolchains.home.join(name)));
    roots.insert(toolchains.rustup_home.clone());
    // Not CARGO_HOME as a whole: other plugins of cargo keep tokens there.
    roots.extend(
        ["bin", "registry", "git", "config", "config.toml", "env"]
            .map(|name| toolchains.cargo_home.join(name)),
    );
    roots.extend(["pkg", "bin"].map(|name| toolchains.go_path.join(name)));
    for folder in std::env::split_paths(path) {
        roots.extend(granted_for_path_folder(&folder, &toolchains.home));
    }
    roots.retain(|root| root.exists());
    roots.into_iter().collect()
}

/// A folder on `PATH` and, when it is the `bin` of an installation, that
/// installation, unless this would open a home or a folder that holds one.
fn granted_for_path_folder(folder: &Path, home: &Path) -> Vec<PathBuf> {
    let too_much = |path: &Path| {
        !path.is_absolute()
            || is_beneath(home, path)
            || path.components().count() < 3
            || [".local", ".config", ".cargo"].iter().any(|name| path == home.join(name))
    };
    let system = |path: &Path| SYSTEM_FOLDERS.iter().any(|root| is_beneath(path, Path::new(root)));
    if folder.as_os_str().is_empty() || system(folder) || (too_much(folder)) {
        return Vec::new();
    }
    let mut granted = vec![folder.to_owned()];
    let parent = folder.parent().filter(|_| folder.ends_with("bin"));
    granted.extend(parent.filter(|parent| !too_much(parent)).map(Path::to_owned));
    granted
}

/// What another user could not read in `/etc`: shadow, keys, sudoers. An agent
/// that runs as root must not hand these on.
fn unreadable_in_etc() -> Vec<PathBuf> {
    let mut hidden = Vec::new();
    let mut seen = 0;
    let mut folders = vec![(PathBuf::from("/etc"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            hidden.push(folder);
            continue;
        };
        for entry in entries.flatten() {
            seen += 1;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_symlink() {
                continue;
            }
            let open = readable_by_others(&metadata);
            if !open || seen > ETC_ENTRIES_MAX || depth > ETC_DEPTH_MAX {
                hidden.push(entry.path());
            } else if metadata.is_dir() {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    hidden
}

#[cfg(unix)]
fn readable_by_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let needed = if metadata.is_dir() { 0o005 } else { 0o004 };
    metadata.permissions().mode() & needed == needed
}

#[cfg(test)]
mod tests {
    use super::{SandboxSettings, all_but, granted_for_path_folder, read_plan};
    use crate::sandbox::Layout;
    use crate::sandbox::environment::Toolchains;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    #[test]
    fn a_run_in_the_default_data_folder_sees_its_own_folders_and_nothing_else_there() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().canonicalize().expect("there");
        let data = home.join(".local/share/foreman");
        let folder = |name: &str| {
            let path = data.join(name);
            std::fs::create_dir_all(&path).expect("made");
            path
        };
        let layout = Layout {
            tree: folder("work/mine/tree"),
            private: folder("work/mine/private"),
            cache: folder("cache"),
        };
        let git_dir = folder("work/mine/git");
        let hidden = [folder("journals"), folder("work/another"), data.join("foreman.db")];
        std::fs::write(data.join("foreman.db"), "").expect("written");
        let mut settings = SandboxSettings::new(layout.clone());
        settings.read.push(git_dir.clone());
        let variable = |name: &str| (name == "HOME").then(|| home.display().to_string());
        let plan = read_plan(&settings, &Toolchains::from(&variable), "");
        let hides = |path: &Path| plan.hide.iter().any(|hidden| path.starts_with(hidden));
        for path in [&layout.tree, &layout.private, &layout.cache, &git_dir] {
            assert!(!hides(path), "{} is hidden", path.display());
        }
        for path in &hidden {
            assert!(hides(path), "{} is not hidden", path.display());
        }
        // A run that works elsewhere sees nothing of it.
        let mut elsewhere = SandboxSettings::new(Layout {
            tree: home.join("t"),
            private: home.join("p"),
            cache: home.join("c"),
        });
        elsewhere.read.push(home.clone());
        let plan = read_plan(&elsewhere, &Toolchains::from(&variable), "");
        assert!(plan.hide.contains(&data), "{:?}", plan.hide);
        let all: BTreeSet<_> = all_but(&data, &[]).into_iter().collect();
        assert_eq!(all, BTreeSet::from([data]));
    }

    fn granted(folder: &str) -> Vec<PathBuf> {
        granted_for_path_folder(Path::new(folder), Path::new("/home/u"))
    }

    #[test]
    fn a_folder_on_path_opens_its_installation_but_never_a_home() {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(granted("/srv/node/bin"), paths(&["/srv/node/bin", "/srv/node"]));
        assert_eq!(granted("/home/u/conda/bin"), paths(&["/home/u/conda/bin", "/home/u/conda"]));
        assert_eq!(granted("/home/u/bin"), paths(&["/home/u/bin"]));
        assert_eq!(granted("/home/u/.local/bin"), paths(&["/home/u/.local/bin"]));
        assert_eq!(granted("/home/u/.cargo/bin"), paths(&["/home/u/.cargo/bin"]));
        for nothing in ["", ".", "/", "/home", "/home/u", "/usr/bin", "bin"] {
            assert_eq!(granted(nothing), paths(&[]), "{nothing:?}");
        }
    }
}
