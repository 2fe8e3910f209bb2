//! A machine for one test: home, repository, remote, model, and a `git` that can be stopped.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::model::{Model, Script};
use super::processes::{Process, descendants, living};
use crate::support::repository::{BROKEN, Remote, TEST};
use crate::support::within;

/// Pause between two looks at something that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How long what a dead process leaves behind may live on.
const ORPHANS_GONE: Duration = Duration::from_secs(5);
/// What `foreman up` is given to hand over, in seconds.
pub(crate) const DRAIN_SECONDS: u64 = 12;

/// Where a process is stopped by the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// In the gate's own command.
    Gate,
    /// In git, before it pushes.
    BeforePush,
    /// In git, after it pushed.
    AfterPush,
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::BeforePush => "before-push",
            Self::AfterPush => "after-push",
        }
    }
}

/// A machine, until dropped.
pub(crate) struct Machine {
    _folder: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) remote: Remote,
    pub(crate) model: Model,
}

/// The program under test: `cargo test` does not build another package's binaries.
fn foreman() -> PathBuf {
    let test = std::env::current_exe().expect("this test's binary");
    let built = test.ancestors().nth(2).expect("target/<profile>").join("foreman");
    assert!(built.is_file(), "{} is missing: cargo build -p foreman-bin --bins", built.display());
    built
}

/// The usual coder: reads, mends, runs a command, submits. The command is turn [`COMMAND_TURN`].
pub(crate) fn coder(command: &str) -> Script {
    let mend = json!({"path": "greet.sh", "old_string": "$1", "new_string": "${1:-world}"});
    vec![
        ("read_file", json!({"path": "greet.sh"})),
        ("str_replace", mend),
        ("bash", json!({"command": command})),
        (
            "submit_result",
            json!({"verdict": "GO", "summary": "as asked", "commit_message": "Greet the world"}),
        ),
    ]
}

/// The coder's turn that changes the tree, the last one to do so.
pub(crate) const MEND_TURN: usize = 2;
/// The coder's turn that runs its command.
pub(crate) const COMMAND_TURN: usize = 3;
/// The coder's turns.
pub(crate) const TURNS: usize = 4;

/// The usual reviewer: reads the change and agrees.
pub(crate) fn reviewer() -> Script {
    let agree = json!({"verdict": "GO", "summary": "read it all"});
    vec![("git_diff", json!({})), ("submit_result", agree)]
}

impl Machine {
    /// A machine whose coder runs this command in its third turn.
    pub(crate) async fn new(command: &str) -> Self {
        Self::with(coder(command), reviewer(), &[]).await
    }

    /// A machine with scripts of one's own, and more files in the repository.
    pub(crate) async fn with(coder: Script, reviewer: Script, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("there");
        for name in ["home", "bin", "stop", "reached", "shown"] {
            std::fs::create_dir(root.join(name)).expect("made");
        }
        // It waits in its tree, where nothing is committed, until it is let go or killed.
        let open = root.join("shown/gate-stops");
        let gate = format!(
            "if [ -e {} ]; then mkdir -p .block && mkfifo .block/gate && : > .block/gate-reached && read -r x < .block/gate; fi\n{TEST}",
            open.display()
        );
        let mut files = vec![
            ("greet.sh", BROKEN),
            ("test.sh", gate.as_str()),
            (".foreman.toml", "[gate]\ntest = \"sh test.sh\"\n"),
            (".gitignore", ".block/\n"),
        ];
        files.extend_from_slice(more);
        let remote = Remote::with(&root, "remote", &files);
        let machine =
            Self { _folder: folder, root, remote, model: Model::start(coder, reviewer).await };
        machine.wrap_git();
        machine
    }

    /// A `git` first on the path that stops at a push when it is told to, and counts pushes.
    fn wrap_git(&self) {
        let path = std::env::var_os("PATH").expect("a PATH");
        let mut real = std::env::split_paths(&path).map(|folder| folder.join("git"));
        let real = real.find(|git| git.is_file()).expect("git is installed");
        let script = r#"#!/bin/sh
push= dry=
for word in "$@"; do case "$word" in push) push=1 ;; --dry-run) dry=1 ;; esac; done
[ -n "$push" ] && [ -z "$dry" ] || exec GIT "$@"
echo push >> ROOT/pushes
if [ -e ROOT/stop/before-push ]; then : > ROOT/reached/before-push; read -r x < ROOT/fifo; fi
[ -e ROOT/stop/after-push ] || exec GIT "$@"
GIT "$@"
code=$?
: > ROOT/reached/after-push
read -r x < ROOT/fifo
exit $code
"#;
        let script = script.replace("GIT", &real.display().to_string());
        let script = script.replace("ROOT", &self.root.display().to_string());
        let wrapper = self.root.join("bin/git");
        std::fs::write(&wrapper, script).expect("written");
        std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).expect("executable");
        let made = std::process::Command::new("mkfifo").arg(self.root.join("fifo")).status();
        assert!(made.expect("mkfifo is installed").success());
    }

    /// From now on processes stop there.
    pub(crate) fn stop_at(&self, stop: Stop) {
        let name = match stop {
            Stop::Gate => "shown/gate-stops".to_owned(),
            Stop::BeforePush | Stop::AfterPush => format!("stop/{}", stop.name()),
        };
        std::fs::write(self.root.join(name), "").expect("written");
    }

    /// From now on nothing is stopped. What waits already goes on waiting.
    pub(crate) fn stop_nowhere(&self) {
        for folder in ["stop", "shown", "reached"] {
            for entry in std::fs::read_dir(self.root.join(folder)).expect("there") {
                std::fs::remove_file(entry.expect("read").path()).expect("removed");
            }
        }
    }

    /// Lets the git that waits go on.
    pub(crate) async fn let_git_go(&self) {
        let fifo = self.root.join("fifo");
        let written = tokio::task::spawn_blocking(move || std::fs::write(fifo, "go\n"));
        within("git taking its leave", written).await.expect("no panic").expect("written");
    }

    /// Waits until something has stopped there.
    pub(crate) async fn stopped_at(&self, stop: Stop) {
        match stop {
            Stop::Gate => self.in_a_tree(".block/gate-reached").await,
            Stop::BeforePush | Stop::AfterPush => {
                let marker = self.root.join("reached").join(stop.name());
                self.wait(stop.name(), || marker.exists()).await;
            }
        }
    }

    /// Waits until a file is in a tree of this machine.
    pub(crate) async fn in_a_tree(&self, name: &str) {
        let data = self.data();
        self.wait(name, || found(&data, name)).await;
    }

    /// Waits for a condition that nobody announces.
    pub(crate) async fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        within(what, async {
            while !holds() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
        .await;
    }

    /// Waits until all of these are gone.
    pub(super) async fn assert_gone(&self, family: &[Process]) {
        let gone = self.wait("the end of what it started", || living(family).is_empty());
        let in_time = tokio::time::timeout(ORPHANS_GONE, gone).await.is_ok();
        assert!(
            in_time,
            "outlived their parent by {} s: {:#?}",
            ORPHANS_GONE.as_secs(),
            living(family)
        );
    }

    /// Where the store, the journals and the trees are.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("home/.local/share/foreman")
    }

    /// How often git was told to push.
    pub(crate) fn pushes(&self) -> usize {
        std::fs::read_to_string(self.root.join("pushes")).unwrap_or_default().lines().count()
    }

    /// The command, in a process group of its own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new(foreman());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:{path}", self.root.join("bin").display()))
            .env("HOME", self.root.join("home"))
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments)).await
    }

    /// Runs a command that must work; what it printed.
    pub(crate) async fn works(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running { child: self.command(arguments).spawn().expect("started") }
    }

    /// Starts `foreman up`.
    pub(crate) fn up(&self) -> Running {
        let shown = self.root.join("shown");
        let drain = DRAIN_SECONDS.to_string();
        self.start(&[
            "up",
            "--model-url",
            &self.model.url,
            "--drain-deadline",
            &drain,
            "--sandbox-read",
            text(&shown),
        ])
    }

    /// Submits the usual intent and leaves it to whoever works; the Workload's name.
    pub(crate) async fn submit(&self) -> String {
        let repo = self.remote.url();
        let run = ["run", "--repo", &repo, "--detach", "-o", "json", "greet the world"];
        let ended = self.run(&run).await;
        assert_eq!(ended.code, Some(6), "{ended:?}");
        let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        told["workload"].as_str().expect("a name").to_owned()
    }

    /// The objects of a kind.
    pub(crate) async fn get(&self, kind: &str) -> Vec<Value> {
        let found: Value =
            serde_json::from_str(&self.works(&["get", kind, "-o", "json"]).await).expect("JSON");
        match found.get("items") {
            Some(items) => items.as_array().expect("a list").clone(),
            None => vec![found],
        }
    }

    /// The coder's task, once something holds of it.
    pub(crate) async fn code_task(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.object("tasks", "-code", what, wanted).await
    }

    /// The object whose name ends so, once something holds of it.
    pub(crate) async fn object(
        &self,
        kind: &str,
        end: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let named = |object: &Value| {
            object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(end))
        };
        within(&format!("{kind} {end}: {what}"), async {
            loop {
                let found = self.get(kind).await;
                if let Some(object) =
                    found.into_iter().find(|object| named(object) && wanted(object))
                {
                    return object;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
        .await
    }
}

/// Whether a file is in one of the trees.
fn found(folder: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let folder = entry.path();
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && (folder.join(name).exists() || found(&folder, name))
    })
}

/// A path that is text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Runs a command to its end.
    pub(crate) async fn of(mut command: Command) -> Self {
        Self::from(within("the end of a command", command.output()).await.expect("started"))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// A command that goes on; it is killed when dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Tells its whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(i32::try_from(self.pid()).expect("a pid")), signal)
            .expect("signalled");
    }

    /// What it started, however far below.
    pub(super) fn family(&self) -> Vec<Process> {
        descendants(self.pid())
    }

    /// Kills it as a power cut would: the group gets no word, and what it started must end by itself.
    pub(crate) async fn kill(self, machine: &Machine) {
        let family = self.family();
        self.signal(Signal::SIGKILL);
        let ended = self.ended().await;
        assert_eq!(ended.code, None, "{ended:?}");
        machine.assert_gone(&family).await;
    }

    pub(crate) async fn ended(self) -> Ended {
        within("the end of a process", self.child.wait_with_output())
            .await
            .expect("waited for")
            .into()
    }
}
