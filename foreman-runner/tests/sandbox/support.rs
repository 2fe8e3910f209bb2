//! The harness, and what the cases share.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use foreman_runner::sandbox::{
    CommandOutput, Exit, Layout, ProcessSandbox, Sandbox, SandboxCommand, SandboxError,
    SandboxSettings, Tier,
};
use tokio_util::sync::CancellationToken;

/// How a case is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Namespaces,
    Fallback,
}

type Body = fn(World) -> Pin<Box<dyn Future<Output = ()>>>;

#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) ways: &'static [Way],
    pub(crate) body: Body,
}

pub(crate) const BOTH: &[Way] = &[Way::Namespaces, Way::Fallback];
pub(crate) const WITH: &[Way] = &[Way::Namespaces];

/// A test's folders: `tree` is writable in the sandbox, `secret` is beside it.
pub(crate) struct World {
    pub(crate) way: Way,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sandbox: ProcessSandbox,
}

impl World {
    pub(crate) fn new(way: Way) -> Self {
        // With namespaces not beneath `/tmp`, which is private there. Without, not
        // beneath a project: tools look for their settings in every parent, and one
        // that is there and cannot be read stops them.
        let place = match way {
            Way::Namespaces => env!("CARGO_TARGET_TMPDIR").into(),
            Way::Fallback => std::env::temp_dir(),
        };
        let folder =
            tempfile::Builder::new().prefix("fm-sb-").tempdir_in(place).expect("temp folder");
        let path = folder.path();
        std::fs::write(path.join("secret"), "TOPSECRET").expect("secret");
        std::fs::create_dir(path.join("git")).expect("git dir");
        std::fs::write(path.join("git/config"), "[core]\n").expect("git config");
        let layout = Layout {
            tree: path.join("tree"),
            private: path.join("private"),
            cache: path.join("cache"),
        };
        let mut settings = SandboxSettings::new(layout);
        settings.namespaces = way == Way::Namespaces;
        settings.read.push(std::env::current_exe().expect("own path"));
        settings.read.push(path.join("git"));
        let sandbox = ProcessSandbox::new(settings, Tier::None).expect("sandbox");
        Self { way, folder, sandbox }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    pub(crate) fn command(&self, argv: &[&str]) -> SandboxCommand {
        SandboxCommand {
            argv: argv.iter().map(|it| (*it).to_owned()).collect(),
            dir: self.path("tree"),
            timeout: Duration::from_secs(30),
            output_bytes_max: 64 << 10,
            network: false,
            env: BTreeMap::new(),
        }
    }

    pub(crate) async fn run(&self, argv: &[&str]) -> Result<CommandOutput, SandboxError> {
        self.sandbox.run(self.command(argv), &CancellationToken::new()).await
    }

    /// Runs a shell script; `$1`… are `arguments`.
    pub(crate) async fn sh(&self, script: &str, arguments: &[&str]) -> CommandOutput {
        let mut argv = vec!["/bin/sh", "-c", script, "sh"];
        argv.extend(arguments);
        self.run(&argv).await.expect("the sandbox runs")
    }

    /// Runs an attempt of the helper.
    pub(crate) async fn attempt(&self, name: &str, argument: &str) -> CommandOutput {
        let exe = std::env::current_exe().expect("own path");
        let exe = exe.to_string_lossy().into_owned();
        self.run(&[&exe, "__sandbox", "attempt", name, argument]).await.expect("the sandbox runs")
    }

    pub(crate) async fn refused(&self, name: &str, argument: &str) {
        let output = self.attempt(name, argument).await;
        assert_eq!(output.exit, Exit::Code(77), "{name} {argument}: {}", output.output);
    }
}

/// Waits for a condition, with a deadline.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Processes whose command line holds `marker`.
pub(crate) fn processes_with(marker: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        !zombie && String::from_utf8_lossy(&line).contains(marker)
    })
    .collect()
}

/// This program in another role, for tests that need a second agent process.
pub(crate) fn play(role: &str, arguments: &[String]) -> ExitCode {
    let runtime = runtime();
    match (role, arguments) {
        ("agent", [folder, script]) => {
            let layout = Layout {
                tree: Path::new(folder).join("tree"),
                private: Path::new(folder).join("private"),
                cache: Path::new(folder).join("cache"),
            };
            let mut settings = SandboxSettings::new(layout.clone());
            settings.namespaces = std::env::var_os("FALLBACK").is_none();
            let sandbox = ProcessSandbox::new(settings, Tier::None).expect("sandbox");
            let command = SandboxCommand {
                argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
                dir: layout.tree,
                timeout: Duration::from_mins(5),
                output_bytes_max: 1024,
                network: false,
                env: BTreeMap::new(),
            };
            let output = runtime.block_on(sandbox.run(command, &CancellationToken::new()));
            println!("{output:?}");
            ExitCode::SUCCESS
        }
        ("probe", [folder]) => {
            let helper = std::env::current_exe().ok();
            let report =
                runtime.block_on(foreman_runner::sandbox_probe::probe(helper, Path::new(folder)));
            println!("tier={} {:?}", report.tier, report.why_not_more);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

/// Runs every case in every way it is for, unless a filter leaves it out.
pub(crate) fn run_all(cases: &[Case], arguments: &[String]) -> ExitCode {
    let filters: Vec<&String> = arguments.iter().filter(|it| !it.starts_with('-')).collect();
    let list = arguments.iter().any(|it| it == "--list");
    let (mut passed, mut failed, mut filtered) = (0, Vec::new(), 0);
    for case in cases {
        for way in case.ways {
            let name = format!("{} ({way:?})", case.name);
            if list {
                println!("{name}: test");
                continue;
            }
            if !filters.is_empty() && !filters.iter().any(|it| name.contains(it.as_str())) {
                filtered += 1;
                continue;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                runtime().block_on((case.body)(World::new(*way)));
            }));
            println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
            match outcome {
                Ok(()) => passed += 1,
                Err(_) => failed.push(name),
            }
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; {filtered} filtered out",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
