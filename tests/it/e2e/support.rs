//! Starting the binary, waiting for conditions with a deadline, small repositories.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long anything may take before a test gives it up.
pub(super) const DEADLINE: Duration = Duration::from_mins(1);
/// Pause between two looks at something that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// The program under test: `cargo test` does not build another package's binaries.
fn foreman() -> PathBuf {
    let test = std::env::current_exe().expect("this test's binary");
    let built = test.ancestors().nth(2).expect("target/<profile>").join("foreman");
    assert!(built.is_file(), "{} is missing: cargo build -p foreman-bin --bins", built.display());
    built
}

/// A machine of its own: home, store and repository, all in one folder.
pub(super) struct Lab {
    dir: TempDir,
    /// Whether nothing is said of directories, as at most people's.
    defaults: bool,
}

impl Lab {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("home")).expect("made");
        Self { dir, defaults: false }
    }

    /// As [`Self::new`], with all directories where they are when nobody names any.
    pub(super) fn with_default_directories() -> Self {
        Self { defaults: true, ..Self::new() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("there").join(name)
    }

    /// A bare repository with one commit: `greet.sh`, and a `test.sh` that fails.
    pub(super) fn repository(&self) -> PathBuf {
        self.repository_of(&[
            ("greet.sh", "greet() {\n    echo \"Hello, $1!\"\n}\n"),
            (
                "test.sh",
                ". ./greet.sh\n[ \"$(greet)\" = 'Hello, world!' ] || { echo FAIL; exit 1; }\necho ok\n",
            ),
            (".foreman.toml", "[gate]\ntest = \"sh test.sh\"\n"),
        ])
    }

    /// A bare repository with one commit of these files.
    pub(super) fn repository_of(&self, files: &[(&str, &str)]) -> PathBuf {
        let (work, bare) = (self.path("work"), self.path("remote.git"));
        std::fs::create_dir(&work).expect("made");
        for (name, text) in files {
            std::fs::write(work.join(name), text).expect("written");
        }
        Self::git(&work, &["init", "-q", "-b", "main"]);
        Self::git(&work, &["add", "."]);
        Self::git(&work, &["commit", "-q", "-m", "first"]);
        let clone = ["clone", "-q", "--bare", path(&work), path(&bare)];
        Self::git(&self.path(""), &clone);
        bare
    }

    /// What git says.
    pub(super) fn git(dir: &Path, arguments: &[&str]) -> String {
        let output = StdCommand::new("git")
            .current_dir(dir)
            .args(["-c", "user.name=t", "-c", "user.email=t@t"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim_end().to_owned()
    }

    /// The folder of the program under test.
    pub(super) fn foreman_dir() -> PathBuf {
        foreman().parent().expect("a folder").to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.set_up(Command::new(foreman()), arguments)
    }

    /// The command, run by another program that is given its path and arguments.
    pub(super) fn command_through(&self, mut program: Command, arguments: &[&str]) -> Command {
        program.arg(foreman());
        self.set_up(program, arguments)
    }

    fn set_up(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("HOME", self.path("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if !self.defaults {
            command.env("FOREMAN_DATA_DIR", self.path("data"));
            command.env("FOREMAN_CACHE_DIR", self.path("cache"));
        }
        command
    }

    /// Runs a command to its end.
    pub(super) async fn run(&self, arguments: &[&str]) -> Ended {
        let output = tokio::time::timeout(DEADLINE, self.command(arguments).output()).await;
        Ended::of(&output.expect("ended in time").expect("started"))
    }

    /// Starts a command that goes on.
    pub(super) fn start(&self, arguments: &[&str]) -> Running {
        Running { child: self.command(arguments).spawn().expect("started") }
    }

    /// The objects of a kind in the store in `home`.
    pub(super) async fn get(&self, kind: &str) -> Vec<Value> {
        let ended = self.run(&["get", kind, "-o", "json"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let found: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        match found.get("items") {
            Some(items) => items.as_array().expect("a list").clone(),
            None => vec![found],
        }
    }

    /// The one object of a kind that `wanted` holds of, once it does.
    pub(super) async fn until(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        within(async {
            loop {
                if let Some(found) = self.get(kind).await.into_iter().find(|one| wanted(one)) {
                    return found;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
        .await
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Self { code: output.status.code(), stdout, stderr }
    }

    /// The lines of an event stream; each must be JSON.
    pub(super) fn events(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last line, which must be the only result.
    pub(super) fn result(&self) -> Value {
        let events = self.events();
        let results = events.iter().filter(|event| event["type"] == "result").count();
        assert_eq!(results, 1, "{self:?}");
        let last = events.last().expect("a line").clone();
        assert_eq!(last["type"], "result", "{self:?}");
        assert_eq!(last["exitCode"].as_i64(), self.code.map(i64::from), "{self:?}");
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], at + 1, "{self:?}");
        }
        last
    }
}

/// A command that goes on; it is killed when dropped.
pub(super) struct Running {
    child: Child,
}

impl Running {
    pub(super) fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        let id = Pid::from_raw(i32::try_from(id).expect("a pid"));
        kill(id, signal).expect("signalled");
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits until stderr says this.
    pub(super) async fn says(&mut self, text: &str) {
        let mut lines = BufReader::new(self.child.stderr.take().expect("piped")).lines();
        within(async {
            while let Some(line) = lines.next_line().await.expect("read") {
                if line.contains(text) {
                    break;
                }
            }
        })
        .await;
        // The rest is read on, so that the program is never held up by a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    }

    /// Reads the first line of its stdout and goes away, as `head -1` does.
    pub(super) async fn read_a_line_and_leave(&mut self) -> String {
        let mut stdout = BufReader::new(self.child.stdout.take().expect("piped"));
        let mut line = String::new();
        within(stdout.read_line(&mut line)).await.expect("read");
        line
    }

    pub(super) async fn ended(self) -> Ended {
        Ended::of(&within(self.child.wait_with_output()).await.expect("waited for"))
    }
}

pub(super) async fn within<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, waiting).await.expect("came about in time")
}

pub(super) fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
