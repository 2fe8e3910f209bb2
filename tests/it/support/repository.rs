//! Real repositories: one that a person works in, and a bare one that is pushed to.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The bug that the scripted model mends.
pub(crate) const BROKEN: &str = "echo \"hello $1\"\n";
/// As it should be.
pub(crate) const MENDED: &str = "echo \"hello ${1:-world}\"\n";
/// The gate that tells them apart.
pub(crate) const GATE: &str = "[gate]\ntest = \"sh test.sh\"\n";
/// What the gate runs.
pub(crate) const TEST: &str = "test \"$(sh greet.sh)\" = 'hello world'\n";

/// Plain git as a person would run it; panics when it fails.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Somebody", "-c", "user.email=some@body.example"])
        .args(["-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .expect("git is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Writes a file of a tree, folders included.
pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text).expect("written");
}

/// A bare repository that is pushed to.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) path: PathBuf,
}

impl Remote {
    /// A bare repository `name.git` beneath `folder` with these files in one commit on `main`.
    pub(crate) fn with(folder: &Path, name: &str, files: &[(&str, &str)]) -> Self {
        let seed = folder.join(format!("{name}-seed"));
        std::fs::create_dir_all(&seed).expect("made");
        git(&seed, &["init", "-q", "-b", "main"]);
        for (file, text) in files {
            write(&seed, file, text);
        }
        git(&seed, &["add", "-A"]);
        git(&seed, &["commit", "-q", "--allow-empty", "-m", "first"]);
        let bare = format!("{name}.git");
        let seed_name = seed.file_name().expect("named").to_string_lossy().into_owned();
        git(folder, &["clone", "-q", "--bare", &seed_name, &bare]);
        Self { path: folder.join(bare) }
    }

    /// The repository with the broken greeting and the gate that finds it.
    pub(crate) fn greeting(folder: &Path) -> Self {
        let files = [("greet.sh", BROKEN), ("test.sh", TEST), (".foreman.toml", GATE)];
        Self::with(folder, "remote", &files)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    /// Its branches but `main`, sorted.
    pub(crate) fn branches(&self) -> Vec<String> {
        let all = self.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
        all.lines().filter(|name| *name != "main").map(str::to_owned).collect()
    }

    /// Every reference with its commit: equal before and after = nothing changed.
    pub(crate) fn references(&self) -> String {
        self.git(&["for-each-ref", "--format=%(refname) %(objectname)"])
    }

    /// The commit of a branch.
    pub(crate) fn tip(&self, branch: &str) -> String {
        self.git(&["rev-parse", &format!("refs/heads/{branch}")])
    }

    /// How many commits a branch has on top of `main`.
    pub(crate) fn ahead(&self, branch: &str) -> String {
        self.git(&["rev-list", "--count", &format!("main..{branch}")])
    }

    /// A file of a branch.
    pub(crate) fn file(&self, branch: &str, name: &str) -> String {
        let output = Command::new("git")
            .args(["show", &format!("{branch}:{name}")])
            .current_dir(&self.path)
            .output()
            .expect("git is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Somebody else pushes one commit on top of `from` to `branch`.
    pub(crate) fn pushed_by_somebody_else(&self, branch: &str, from: &str) -> String {
        let other = self.path.with_extension("other");
        if !other.exists() {
            let parent = self.path.parent().expect("a folder");
            let name = other.file_name().expect("named").to_string_lossy().into_owned();
            let bare = self.path.file_name().expect("named").to_string_lossy().into_owned();
            git(parent, &["clone", "-q", &bare, &name]);
        }
        git(&other, &["fetch", "-q", "origin"]);
        git(&other, &["checkout", "-q", "-B", "work", &format!("origin/{from}")]);
        write(&other, "somebody.txt", &format!("for {branch}\n"));
        git(&other, &["add", "-A"]);
        git(&other, &["commit", "-q", "-m", "by somebody else"]);
        git(&other, &["push", "-q", "-f", "origin", &format!("work:refs/heads/{branch}")]);
        git(&other, &["rev-parse", "HEAD"])
    }
}
