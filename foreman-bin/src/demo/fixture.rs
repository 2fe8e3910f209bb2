//! The demonstration's repository: one shell function, a test of it that fails, and the bare
//! repository that stands for a server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use foreman_runner::git::{DEFAULT_BASE_URL, Git, GitError, Repository};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// What the demonstration asks for.
pub const INTENT: &str = "greet the world when no name is given";
/// The line that is wrong, and what it becomes.
pub(super) const FIX_OLD: &str = "echo \"Hello, $1!\"";
/// See [`FIX_OLD`].
pub(super) const FIX_NEW: &str = "echo \"Hello, ${1:-world}!\"";

const FILES: &[(&str, &str)] = &[
    (
        "greet.sh",
        "# greet NAME: says hello to NAME, or to the world when no name is given.\n\
         greet() {\n    echo \"Hello, $1!\"\n}\n",
    ),
    (
        "test.sh",
        "#!/bin/sh\n# Checks greet.sh; ends with 1 when a check fails.\n. ./greet.sh\nfailed=0\n\
         check() {\n    if [ \"$2\" = \"$3\" ]; then\n        echo \"ok    $1\"\n    else\n        \
         echo \"FAIL  $1: expected '$2', got '$3'\"\n        failed=1\n    fi\n}\n\
         check \"greets by name\" \"Hello, Ada!\" \"$(greet Ada)\"\n\
         check \"greets the world without a name\" \"Hello, world!\" \"$(greet)\"\nexit $failed\n",
    ),
    (
        "README.md",
        "# greet\n\nA shell function that says hello. Run its checks with `sh test.sh`.\n",
    ),
    (
        ".foreman.toml",
        "# What must pass before a change is taken.\n[gate]\ntest = \"sh test.sh\"\n",
    ),
];

/// The demonstration's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixture {
    /// The folder of it all.
    pub dir: PathBuf,
    /// The bare repository into which branches are pushed.
    pub remote: PathBuf,
    /// The working copy that a person would have.
    pub repo: PathBuf,
    /// Whether it was there before.
    pub again: bool,
}

/// What a demonstration has in its folder.
const OURS: [&str; 4] = ["remote.git", "repo", "data", "cache"];

fn failed(what: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::Error, format!("cannot {what} {}", path.display())).because(error)
}

fn not_ours(dir: &Path) -> Failure {
    let dir = dir.display();
    Failure::new(Exit::Usage, format!("{dir} is not empty and has no demonstration in it"))
        .next("choose a new folder: foreman demo --dir DIR")
}

impl Fixture {
    /// Makes the folder, which must be empty, absent, or that of an earlier time, and nothing in it.
    ///
    /// # Errors
    /// There is something else in it; its name is not UTF-8; the disk refuses.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        if dir.to_str().is_none() {
            let dir = dir.display();
            return Err(Failure::new(Exit::Usage, format!("--dir: the path {dir} is not UTF-8"))
                .next("choose another folder: foreman demo --dir DIR"));
        }
        std::fs::create_dir_all(dir).map_err(|error| failed("make", dir, error))?;
        let dir = std::fs::canonicalize(dir).map_err(|error| failed("find", dir, error))?;
        for entry in std::fs::read_dir(&dir).map_err(|error| failed("read", &dir, error))? {
            let name = entry.map_err(|error| failed("read", &dir, error))?.file_name();
            if !OURS.iter().any(|ours| name == **ours) {
                return Err(not_ours(&dir));
            }
        }
        Ok(Self { remote: dir.join("remote.git"), repo: dir.join("repo"), again: false, dir })
    }

    /// Where the store of the demonstration is.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Makes the repositories in the folder that was opened, if they are not there. Whoever calls it
    /// holds the lock of [`Self::data_dir`]: two at once would make half of each.
    ///
    /// # Errors
    /// There is only a part of them; git is missing; the disk refuses.
    pub async fn make(self) -> Result<Self, Failure> {
        let fixture = self;
        let git = Git::default();
        if fixture.remote.join("HEAD").is_file() && fixture.repo.join("greet.sh").is_file() {
            fixture.check_unfixed(&git).await?;
            return Ok(Self { again: true, ..fixture });
        }
        if fixture.repo.exists() || fixture.remote.exists() {
            return Err(not_ours(&fixture.dir));
        }
        std::fs::create_dir(&fixture.repo).map_err(|error| failed("make", &fixture.repo, error))?;
        for (name, text) in FILES {
            let path = fixture.repo.join(name);
            std::fs::write(&path, text).map_err(|error| failed("write", &path, error))?;
        }
        fixture.commit(&git).await.map_err(|error| {
            Failure::new(Exit::Infrastructure, "the demonstration's repository was not made")
                .because(error)
        })?;
        Ok(fixture)
    }

    async fn commit(&self, git: &Git) -> Result<(), GitError> {
        let cancel = CancellationToken::new();
        let git_dir = self.repo.join(".git");
        let init = ["init", "--quiet", "--initial-branch=main"];
        git.call("make the repository").args(init).args([&self.repo]).run(&cancel).await?;
        git.call("make the bare repository")
            .args(init)
            .args([OsString::from("--bare"), self.remote.clone().into_os_string()])
            .run(&cancel)
            .await?;
        let here = |action| git.call(action).at(&git_dir, Some(&self.repo));
        here("add the files").args(["add", "--", "."]).run(&cancel).await?;
        here("commit")
            .args(["-c", "user.name=Foreman demo", "-c", "user.email=demo@localhost"])
            .args(["commit", "--quiet", "-m", "A greeting, and a check that fails"])
            .run(&cancel)
            .await?;
        let remote = self.remote.to_string_lossy().into_owned();
        here("name the remote").args(["remote", "add", "origin", &remote]).run(&cancel).await?;
        let repository = Repository::parse(&remote, DEFAULT_BASE_URL)
            .map_err(|error| GitError::Invalid { reason: error.to_string() })?;
        here("push the first commit")
            .with_remote(&repository)
            .args(["push", "--quiet", "--", &remote, "main:main"])
            .run(&cancel)
            .await?;
        Ok(())
    }

    /// The script can fix only what is broken: main must be as it was made.
    async fn check_unfixed(&self, git: &Git) -> Result<(), Failure> {
        let shown = self.git(git, "read greet.sh", &["show", "main:greet.sh"]).await?;
        if shown.contains(FIX_OLD) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Usage,
            format!("main of {} is fixed already, there is nothing to show", self.remote.display()),
        )
        .next("choose a new folder: foreman demo --dir DIR"))
    }

    /// The change that a branch of the bare repository holds.
    ///
    /// # Errors
    /// Git fails.
    pub async fn diff(&self, branch: &str) -> Result<String, Failure> {
        let range = format!("main...{branch}");
        self.git(&Git::default(), "show the change", &["diff", &range, "--"]).await
    }

    async fn git(&self, git: &Git, action: &str, arguments: &[&str]) -> Result<String, Failure> {
        let call = git.call(action).at(&self.remote, None).args(arguments);
        let output = call.run(&CancellationToken::new()).await.map_err(|error| {
            let remote = self.remote.display();
            Failure::new(Exit::Infrastructure, format!("{remote} cannot be read")).because(error)
        })?;
        Ok(output.text())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    async fn made(dir: &Path) -> Result<Fixture, Failure> {
        Fixture::open(dir)?.make().await
    }

    fn test_of(folder: &Path) -> (Option<i32>, String) {
        let output = Command::new("sh").arg("test.sh").current_dir(folder).output().expect("ran");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[tokio::test]
    async fn its_test_fails_as_made_and_passes_with_the_fix() {
        let dir = tempfile::tempdir().expect("a folder");
        let fixture = made(&dir.path().join("new")).await.expect("made");
        assert_eq!(
            test_of(&fixture.repo),
            (
                Some(1),
                "ok    greets by name\nFAIL  greets the world without a name: expected 'Hello, world!', got 'Hello, !'\n".to_owned()
            )
        );
        let greet = fixture.repo.join("greet.sh");
        let text = std::fs::read_to_string(&greet).expect("read");
        assert_eq!(text.matches(FIX_OLD).count(), 1);
        std::fs::write(&greet, text.replace(FIX_OLD, FIX_NEW)).expect("written");
        assert_eq!(test_of(&fixture.repo).0, Some(0));
    }

    #[tokio::test]
    async fn a_second_time_nothing_is_made_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = made(dir.path()).await.expect("made");
        let head = std::fs::read(first.repo.join(".git/refs/heads/main")).expect("read");
        let second = made(dir.path()).await.expect("there");
        assert!(second.again);
        assert_eq!(Fixture { again: false, ..second }, first);
        assert_eq!(std::fs::read(first.repo.join(".git/refs/heads/main")).expect("read"), head);
    }

    #[tokio::test]
    async fn a_folder_with_something_else_in_it_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("mine"), "x").expect("written");
        let failure = made(dir.path()).await.expect_err("refused");
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 1);
        std::fs::remove_file(dir.path().join("mine")).expect("removed");
        std::fs::create_dir(dir.path().join("repo")).expect("made");
        let failure = made(dir.path()).await.expect_err("half of one");
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
