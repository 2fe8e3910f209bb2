//! A machine of its own for each test: home, store and the program.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use foreman_core::model::{AgenticTask, FleetNode, Key, Kind, Workload};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Store};
use foreman_probe::os_clock::{SystemClock, SystemEntropy};
use foreman_sqlite::SqliteStore;
use serde_json::Value;
use tempfile::TempDir;

/// The program under test: `cargo test` does not build another package's binaries.
pub(super) fn foreman() -> PathBuf {
    let test = std::env::current_exe().expect("this test's binary");
    let built = test.ancestors().nth(2).expect("target/<profile>").join("foreman");
    assert!(
        built.is_file(),
        "{} is missing: build it first: cargo build -p foreman-bin",
        built.display()
    );
    built
}

pub(super) struct Lab {
    dir: TempDir,
}

/// A command that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ended {
    /// Asserts the exit code.
    pub(super) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Asserts that stdout has this.
    pub(super) fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text), "stdout lacks {text:?}:\n{}\n{}", self.out, self.err);
        self
    }

    /// Asserts that stderr has this.
    pub(super) fn complains(self, text: &str) -> Self {
        assert!(self.err.contains(text), "stderr lacks {text:?}:\n{}\n{}", self.err, self.out);
        self
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Lab {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("home")).expect("made");
        Self { dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.path("home/.local/share/foreman")
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    }

    /// The command, in an environment of which nothing is inherited but PATH.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(foreman());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("HOME", self.path("home"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ended {
        ended(&self.command(arguments).output().expect("started"))
    }

    /// Runs with a text on stdin.
    pub(super) fn feed(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("fed");
        ended(&child.wait_with_output().expect("ended"))
    }

    /// Does something with the store of this machine, as an operator or an agent would.
    pub(super) fn with_store<T>(&self, act: impl AsyncFnOnce(Arc<SqliteStore>) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
            let file = self.data_dir().join("foreman.db");
            act(SqliteStore::open(file, clock, entropy).expect("opened")).await
        })
    }

    /// Writes a part of an object's status.
    pub(super) fn observe<K: Kind>(&self, name: &str, status: &Value)
    where
        SqliteStore: Store<K>,
    {
        let mut change = Change::<K>::of(Part::Status);
        for (field, value) in status.as_object().expect("a mapping") {
            // A few field names a process; `Change` takes static ones.
            change = change.set(String::leak(field.clone()), value);
        }
        self.with_store(async |store| {
            let store: &dyn Store<K> = &*store;
            store.patch(&K::key("default", name), change, Expect::Any).await.expect("written");
        });
    }

    pub(super) fn task_status(&self, name: &str, status: &Value) {
        self.observe::<AgenticTask>(name, status);
    }

    pub(super) fn node_status(&self, name: &str, status: &Value) {
        self.observe::<FleetNode>(name, status);
    }

    pub(super) fn workload_status(&self, name: &str, status: &Value) {
        self.observe::<Workload>(name, status);
    }

    pub(super) fn uid(&self, name: &str) -> String {
        self.with_store(async |store| {
            let store: &dyn Store<AgenticTask> = &*store;
            let task = store.get(&Key::namespaced("default", name)).await.expect("read");
            task.expect("there").meta.uid.to_string()
        })
    }

    /// Applies manifests, which must work.
    pub(super) fn apply(&self, manifests: &str) -> Ended {
        self.feed(&["apply", "-f", "-"], manifests).exits(0)
    }
}

fn ended(output: &std::process::Output) -> Ended {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A task of the simplest kind.
pub(super) fn task(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: foreman.llmkube.dev/v1alpha1\nkind: AgenticTask\nmetadata: {{name: {name}}}\n\
         spec:\n  kind: freeform\n  payload: {{prompt: write a line}}\n{more}"
    )
}

/// A node.
pub(super) fn node(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: foreman.llmkube.dev/v1alpha1\nkind: FleetNode\nmetadata: {{name: {name}}}\n\
         spec:\n  nodeName: {name}\n{more}"
    )
}

/// A workload of two steps.
pub(super) fn workload(name: &str) -> String {
    let step = |name: &str, kind: &str, depends: &str| {
        format!(
            "  - {{name: {name}, kind: {kind}, agentRef: {{name: a}}, dependsOn: [{depends}], \
             payload: {{repo: me/shop, prompt: do it}}}}\n"
        )
    };
    format!(
        "---\napiVersion: foreman.llmkube.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}}}\n\
         spec:\n  intent: make it right\n  pipeline:\n{}{}",
        step("code", "issue-fix", ""),
        step("verify", "verify", "code")
    )
}

/// Now, as a status says it.
pub(super) fn now() -> String {
    use foreman_core::ports::Clock as _;
    SystemClock::new().wall().to_string()
}

pub(super) fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}
