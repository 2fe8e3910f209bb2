//! One line of a table: a command, what is wrong with it, and what must come of it.

use std::ffi::OsString;

use crate::crash::machine::{Ended, Machine};

/// A secret that stands in many inputs and must come out of none.
pub(super) const SECRET: &str = "hunter2-secret";
/// An error is read, not scrolled.
const LINES_MAX: usize = 12;
/// Even one about very long input, in bytes.
const BYTES_MAX: usize = 4096;

/// One command that must be refused.
pub(super) struct Bad {
    words: Vec<OsString>,
    variables: Vec<(&'static str, String)>,
    code: i32,
    says: Vec<String>,
}

/// A command that must end with this code and say this.
pub(super) fn bad<W: Into<OsString>>(
    code: i32,
    says: &str,
    words: impl IntoIterator<Item = W>,
) -> Bad {
    let words = words.into_iter().map(Into::into).collect();
    Bad { words, variables: Vec::new(), code, says: vec![says.to_owned()] }
}

impl Bad {
    /// With a variable of the environment.
    pub(super) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// It must say this, too.
    pub(super) fn and(mut self, says: impl Into<String>) -> Self {
        self.says.push(says.into());
        self
    }
}

/// What could be changed: every object, every reference, every file of the store's folder.
async fn everything(machine: &Machine) -> String {
    let mut all = machine.remote.references();
    for kind in ["nodes", "tasks", "workloads", "agents"] {
        all.push_str(&machine.works(&["get", kind, "-o", "json"]).await);
    }
    all
}

/// A machine with a store that has something in it.
pub(super) async fn machine() -> Machine {
    let machine = Machine::new("true").await;
    machine.submit().await;
    machine
}

/// Runs every line; all that is wrong is told at once.
pub(super) async fn refused(machine: &Machine, table: Vec<Bad>) {
    let before = everything(machine).await;
    let mut wrong = Vec::new();
    for bad in table {
        let mut command = machine.command(&[]);
        command.args(&bad.words).envs(bad.variables.iter().map(|(name, value)| (name, value)));
        let ended = Ended::of(command).await;
        let faults = faults(&bad, &ended);
        if !faults.is_empty() {
            let words: Vec<_> =
                bad.words.iter().map(|word| shortened(&word.to_string_lossy())).collect();
            let said = shortened(&ended.stderr);
            wrong.push(format!(
                "{words:?} {:?}\n  {}\n  code {:?}, said: {said}",
                bad.variables,
                faults.join("\n  "),
                ended.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(everything(machine).await, before, "something was changed");
}

fn shortened(text: &str) -> String {
    text.chars().take(600).collect()
}

fn faults(bad: &Bad, ended: &Ended) -> Vec<String> {
    let mut faults = Vec::new();
    let said = &ended.stderr;
    if ended.code != Some(bad.code) {
        faults.push(format!("code {} was wanted", bad.code));
    }
    if !said.starts_with("error: ") {
        faults.push("it does not begin with `error: `".to_owned());
    }
    for part in bad.says.iter().filter(|part| !said.contains(part.as_str())) {
        faults.push(format!("it does not say {part:?}"));
    }
    if said.lines().count() > LINES_MAX || said.len() > BYTES_MAX {
        faults.push(format!("{} lines, {} bytes are too much", said.lines().count(), said.len()));
    }
    let all = format!("{}{said}", ended.stdout);
    for never in ["panicked", "RUST_BACKTRACE", "stack backtrace", ".rs:", SECRET] {
        if all.contains(never) {
            faults.push(format!("it says {never:?}"));
        }
    }
    if all.chars().any(|c| c != '\n' && c.is_control()) {
        faults.push(format!("control characters came through: {all:?}"));
    }
    if !ended.stdout.is_empty() {
        faults.push(format!("stdout has {:?}", shortened(&ended.stdout)));
    }
    faults
}
