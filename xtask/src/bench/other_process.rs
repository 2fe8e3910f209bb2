//! Another process that writes to the store: this program again, told by an environment variable.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use foreman_core::model::{AgenticTask, Key};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Stores};
use foreman_sqlite::SqliteStore;

use super::system::{MachineClock, MachineEntropy};

/// Set in the other process: the store's file.
pub(super) const FILE: &str = "FOREMAN_BENCH_FILE";
/// How long the other process may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What the other process does: for each line `name attempt` on stdin it patches that task and then
/// answers with a line.
pub(super) fn serve(file: &Path) -> anyhow::Result<()> {
    let store = SqliteStore::open(file, MachineClock::new(), MachineEntropy::new())?;
    let stores = Stores::of(&store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (name, attempt) = line.split_once(' ').context("a line without a number")?;
        let change =
            Change::<AgenticTask>::of(Part::Status).set("attempt", attempt.parse::<i64>()?);
        let key = Key::namespaced(super::store::NAMESPACE, name);
        runtime.block_on(stores.tasks.patch(&key, change, Expect::Any))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "done")?;
        out.flush()?;
    }
    Ok(())
}

/// The other process, as seen from here.
pub(super) struct OtherProcess {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Instant>,
}

impl OtherProcess {
    pub(super) fn start(file: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("bench")
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start another process")?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the other process has no pipes");
        };
        let (done, answers) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let lines = std::io::BufReader::new(output).lines();
            for _ in lines.map_while(Result::ok) {
                if done.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, orders, answers })
    }

    /// Orders a patch.
    pub(super) fn order(&mut self, name: &str, attempt: i64) -> anyhow::Result<()> {
        writeln!(self.orders, "{name} {attempt}").context("the other process is gone")
    }

    /// When the last order was acknowledged.
    pub(super) fn acknowledged(&self) -> anyhow::Result<Instant> {
        self.answers.recv_timeout(ANSWER_MAX).context("the other process does not answer")
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // It ends by itself when its stdin closes; a bench does not wait for it to think so.
        if self.child.kill().is_ok() {
            self.child.wait().map(drop).unwrap_or_default();
        }
    }
}
