//! The machine as the parts see it: a root folder, commands, and three calls to the system.
//!
//! Everything a part reads comes through [`Sys`], so every parser runs everywhere on recorded
//! text: a test gives another root and other commands.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::command::{Commands, OsCommands};
use crate::limits::SYSTEM_FILE_BYTES_MAX;

/// The operating system, by what differs for a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// Linux: `/proc`, `/sys`, control groups.
    Linux,
    /// macOS: `sysctl`, `vm_stat`, `system_profiler`.
    Darwin,
    /// Another Unix, under its Go name.
    Other(&'static str),
}

impl Os {
    /// The system this program was built for.
    pub fn this() -> Self {
        match std::env::consts::OS {
            "linux" => Self::Linux,
            "macos" => Self::Darwin,
            other => Self::Other(other),
        }
    }

    /// The name that Go uses, which is what `status.os` of a node holds.
    pub fn go_name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Darwin => "darwin",
            Self::Other(name) => name,
        }
    }
}

/// The processor architecture under the name that Go uses (`amd64`, `arm64`), from Rust's name.
pub fn go_arch(rust_name: &str) -> &str {
    match rust_name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Memory of the whole machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawMemory {
    /// What is built in.
    pub total_bytes: u64,
    /// What a new process could get without swapping.
    pub available_bytes: u64,
}

/// The calls to the system that are neither a file nor a command. They may block.
pub trait Hardware: Send + Sync {
    /// The memory of the machine, before limits of control groups.
    fn memory(&self) -> io::Result<RawMemory>;
    /// The processors this process may use.
    fn cores(&self) -> io::Result<usize>;
    /// The bytes that an ordinary user may still write on the file system that holds `path`.
    fn disk_free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// The machine this program runs on: sysinfo, the standard library and `statvfs`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsHardware;

impl Hardware for OsHardware {
    fn memory(&self) -> io::Result<RawMemory> {
        let mut system = sysinfo::System::new().map_err(io::Error::other)?;
        system.refresh_memory();
        match system.total_memory() {
            0 => Err(io::Error::other("the system reports no memory at all")),
            total_bytes => {
                Ok(RawMemory { total_bytes, available_bytes: system.available_memory() })
            }
        }
    }

    fn cores(&self) -> io::Result<usize> {
        std::thread::available_parallelism().map(usize::from)
    }

    fn disk_free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_frsize.saturating_mul(stat.f_bavail))
    }
}

/// The machine as the parts see it. Cheap to clone.
#[derive(Clone)]
pub struct Sys {
    /// The operating system whose rules apply.
    pub os: Os,
    /// The architecture, in Go's words.
    pub arch: String,
    /// The folder that stands for `/`.
    pub root: PathBuf,
    /// What runs commands.
    pub commands: Arc<dyn Commands>,
    /// What answers the calls to the system.
    pub hardware: Arc<dyn Hardware>,
}

impl Sys {
    /// The machine this program runs on.
    pub fn this_machine() -> Self {
        Self {
            os: Os::this(),
            arch: go_arch(std::env::consts::ARCH).to_owned(),
            root: PathBuf::from("/"),
            commands: Arc::new(OsCommands::new()),
            hardware: Arc::new(OsHardware),
        }
    }

    /// `path` (absolute) under the root.
    pub(crate) fn under_root(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file, at most [`SYSTEM_FILE_BYTES_MAX`] of it.
    pub(crate) fn read(&self, path: &Path) -> io::Result<String> {
        let file = std::fs::File::open(self.under_root(path))?;
        let mut bytes = Vec::new();
        file.take(SYSTEM_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The trimmed text of a file that may be missing.
    pub(crate) fn read_if_there(&self, path: &Path) -> Option<String> {
        self.read(path).ok().map(|text| text.trim().to_owned())
    }

    /// The names in a folder, sorted; none when the folder cannot be read.
    pub(crate) fn names(&self, path: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.under_root(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Runs blocking work of one part on a thread of its own, never two at a time.
///
/// A thread instead of the runtime's blocking pool, because the runtime waits for its pool when it
/// ends: a file system that hangs would keep the whole program from leaving.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aside {
    busy: Arc<AtomicBool>,
}

impl Aside {
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err("an earlier look still hangs in the kernel; not started again".to_owned());
        }
        let free = Free(Arc::clone(&self.busy));
        let (done, answer) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("probe-{name}"));
        let started = thread.spawn(move || {
            let free = free;
            let result = work();
            drop(free);
            // Nobody listens any more when the part ran into its limit.
            let _unheard = done.send(result);
        });
        if let Err(error) = started {
            return Err(format!("no thread could be started: {error}"));
        }
        answer.await.map_err(|_| "the look panicked".to_owned())
    }
}

/// Marks the part free again, also when the work panics or its thread never starts.
struct Free(Arc<AtomicBool>);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_their_go_names() {
        assert_eq!(["x86_64", "aarch64", "riscv64"].map(go_arch), ["amd64", "arm64", "riscv64"]);
        assert_eq!(Os::Darwin.go_name(), "darwin");
        assert_eq!(Os::Linux.go_name(), "linux");
    }

    #[test]
    fn this_machine_answers() {
        let memory = OsHardware.memory().expect("memory");
        assert!(memory.total_bytes >= memory.available_bytes && memory.total_bytes > 1 << 20);
        assert!(OsHardware.cores().expect("cores") >= 1);
        assert!(OsHardware.disk_free_bytes(Path::new("/")).is_ok());
    }

    #[tokio::test]
    async fn a_panicking_look_is_an_error_and_the_next_one_runs() {
        let aside = Aside::default();
        let broken = aside.run("test", || panic!("on purpose")).await;
        assert_eq!(broken, Err::<(), _>("the look panicked".to_owned()));
        assert_eq!(aside.run("test", || 7).await, Ok(7));
    }
}
