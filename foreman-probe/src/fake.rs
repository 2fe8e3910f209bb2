//! A machine made of recorded text, for tests of this crate and of those who use it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::command::{CommandError, CommandLine, Commands, Output};
use crate::sys::{Hardware, Os, RawMemory, Sys};
use crate::text::lock;

/// Commands that answer with recorded text; one that is not recorded is "not installed".
#[derive(Debug, Default)]
pub struct FakeCommands {
    answers: Mutex<BTreeMap<String, Output>>,
    hanging: Mutex<BTreeSet<String>>,
    calls: Mutex<BTreeMap<String, u32>>,
}

impl FakeCommands {
    /// No command is installed.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the command called `line` (name and arguments, separated by spaces, or the
    /// name alone for any arguments) prints `stdout` and ends with `code`.
    pub fn answer(&self, line: &str, code: i32, stdout: &str) {
        lock(&self.hanging).remove(line);
        let output = Output { code: Some(code), stdout: stdout.to_owned(), stderr: String::new() };
        lock(&self.answers).insert(line.to_owned(), output);
    }

    /// From now on that command never ends.
    pub fn hang(&self, line: &str) {
        lock(&self.hanging).insert(line.to_owned());
    }

    /// From now on that command is not installed.
    pub fn remove(&self, line: &str) {
        lock(&self.hanging).remove(line);
        lock(&self.answers).remove(line);
    }

    /// How often the program `name` was started.
    pub fn calls(&self, name: &str) -> u32 {
        lock(&self.calls).get(name).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Commands for FakeCommands {
    async fn run(&self, line: &CommandLine, limit: Duration) -> Result<Output, CommandError> {
        let program = line.name();
        let whole = format!("{program} {}", line.args.join(" "));
        *lock(&self.calls).entry(program.to_owned()).or_default() += 1;
        let hangs = {
            let hanging = lock(&self.hanging);
            hanging.contains(program) || hanging.contains(&whole)
        };
        if hangs {
            return tokio::time::timeout(limit, std::future::pending())
                .await
                .unwrap_or(Err(CommandError::TimedOut { program, limit }));
        }
        let answers = lock(&self.answers);
        let answer = answers.get(&whole).or_else(|| answers.get(program));
        answer.cloned().ok_or(CommandError::NotFound { program })
    }
}

/// Numbers instead of calls to the system; what is absent fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeHardware {
    /// Memory of the machine.
    pub memory: Option<RawMemory>,
    /// Processors.
    pub cores: Option<usize>,
    /// Free bytes of every file system.
    pub disk_free_bytes: Option<u64>,
}

fn recorded<T>(value: Option<T>, what: &str) -> io::Result<T> {
    value.ok_or_else(|| io::Error::other(format!("no {what} recorded")))
}

impl Hardware for FakeHardware {
    fn memory(&self) -> io::Result<RawMemory> {
        recorded(self.memory, "memory")
    }
    fn cores(&self) -> io::Result<usize> {
        recorded(self.cores, "cores")
    }
    fn disk_free_bytes(&self, _path: &Path) -> io::Result<u64> {
        recorded(self.disk_free_bytes, "disk")
    }
}

/// A machine with `os`, whose `/` is the folder `root`.
pub fn machine(os: Os, root: &Path, commands: Arc<FakeCommands>, hardware: FakeHardware) -> Sys {
    let arch = if os == Os::Darwin { "arm64" } else { "amd64" };
    Sys { os, arch: arch.to_owned(), root: root.to_owned(), commands, hardware: Arc::new(hardware) }
}
