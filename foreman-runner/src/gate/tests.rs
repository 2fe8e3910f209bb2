//! Gates on real workspaces. The sandbox here confines nothing: what a gate says
//! about an end does not depend on it, and the confined one needs a helper.

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{ExplicitGate, GateError, GateOutcome, GatePlan, GateSource, run_gate, run_setup};
use crate::sandbox::{
    CommandOutput, Layout, Sandbox, SandboxCommand, SandboxError, SandboxSettings, Tier, Unconfined,
};
use crate::workspace::Workspace;
use crate::workspace::tests::{Ground, git, write};

struct Bench {
    ground: Ground,
    workspace: Workspace,
    sandbox: Unconfined,
    layout: Layout,
}

impl Bench {
    /// A workspace whose base commit has these files.
    async fn new(files: &[(&str, &str)]) -> Self {
        let ground = Ground::new();
        let seed = ground.path("seed");
        for (name, text) in files {
            write(&seed, name, text);
        }
        git(&seed, &["add", "."]);
        git(&seed, &["commit", "-q", "--allow-empty", "-m", "files"]);
        git(&seed, &["push", "-q", "../remote.git", "main"]);
        let workspace = ground.workspace("u1").await;
        let layout = Layout {
            tree: workspace.tree().to_owned(),
            private: ground.path("private"),
            cache: ground.path("repository-cache"),
        };
        let sandbox = Unconfined::new(SandboxSettings::new(layout.clone())).expect("sandbox");
        Self { ground, workspace, sandbox, layout }
    }

    async fn plan(&self, explicit: Option<&ExplicitGate>) -> Result<GatePlan, GateError> {
        GatePlan::settle(explicit, &self.workspace, &self.ground.cancel).await
    }

    async fn outcome_of(&self, command: &str) -> (GateOutcome, Option<String>) {
        let gate = ExplicitGate {
            language: Some("generic".to_owned()),
            test: Some(command.to_owned()),
            ..ExplicitGate::default()
        };
        let mut plan = self.plan(Some(&gate)).await.expect("plan");
        plan.timeout = Duration::from_millis(500);
        let report = run_gate(&plan, &self.sandbox, &self.workspace, &self.ground.cancel).await;
        let report = report.expect("report");
        let reason = report.steps.first().and_then(|step| step.reason.clone());
        (report.outcome, reason)
    }
}

#[tokio::test]
async fn failed_is_a_judgement_and_error_is_none() {
    let bench = Bench::new(&[]).await;
    let cases = [
        ("true", GateOutcome::Passed),
        ("echo '3 tests failed'; exit 1", GateOutcome::Failed),
        ("exit 101", GateOutcome::Failed),
        ("kill -11 $$", GateOutcome::Failed),
        ("no-such-program-fm", GateOutcome::Error),
        ("sh -c no-such-program-fm || exit 1", GateOutcome::Failed),
        ("bash -c 'no-such-program-fm'; exit 1", GateOutcome::Error),
        (
            "printf '#!/no/such/interp\\n' > x; chmod +x x; ./x; s=$?; rm x; exit $s",
            GateOutcome::Error,
        ),
        ("echo 'curl: (6) Could not resolve host: x' >&2; exit 6", GateOutcome::Error),
        ("kill -9 $$", GateOutcome::Error),
        ("sleep 300", GateOutcome::Error),
    ];
    for (command, expected) in cases {
        let (outcome, reason) = bench.outcome_of(command).await;
        // Not every shell words a missing program alike.
        if command.starts_with("sh -c") {
            assert_ne!(outcome, GateOutcome::Passed, "{command}");
            continue;
        }
        assert_eq!(outcome, expected, "{command}: {reason:?}");
        assert_eq!(reason.is_some(), expected == GateOutcome::Error, "{command}: {reason:?}");
    }
}

/// A sandbox that cannot be set up.
struct Broken;

#[async_trait]
impl Sandbox for Broken {
    fn tier(&self) -> Tier {
        Tier::None
    }

    async fn run(
        &self,
        _: SandboxCommand,
        _: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError> {
        Err(SandboxError::Setup { step: "mount".to_owned(), reason: "no".to_owned() })
    }
}

#[tokio::test]
async fn a_failed_sandbox_is_never_a_success() {
    let bench = Bench::new(&[("Makefile", "test:\n\ttrue\n")]).await;
    let plan = bench.plan(None).await.expect("plan");
    let report =
        run_gate(&plan, &Broken, &bench.workspace, &bench.ground.cancel).await.expect("report");
    assert_eq!(report.outcome, GateOutcome::Error);
    let step = report.steps.first().expect("step");
    assert!(step.exit.is_none() && step.reason.as_deref().is_some_and(|it| it.contains("mount")));
}

#[tokio::test]
async fn every_command_runs_and_one_error_is_an_error() {
    let file = "[gate]\nformat = \"echo bad format; exit 1\"\nbuild = \"no-such-program-fm\"\ntest = \"true\"\n";
    let bench = Bench::new(&[(".foreman.toml", file)]).await;
    let plan = bench.plan(None).await.expect("plan");
    let report = run_gate(&plan, &bench.sandbox, &bench.workspace, &bench.ground.cancel).await;
    let report = report.expect("report");
    let outcomes: Vec<_> = report.steps.iter().map(|step| (step.step.name, step.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            ("format", GateOutcome::Failed),
            ("build", GateOutcome::Error),
            ("test", GateOutcome::Passed)
        ]
    );
    assert_eq!((report.outcome, report.source), (GateOutcome::Error, GateSource::ProjectFile));
    assert_eq!(report.steps.first().map(|step| step.output.as_str()), Some("bad format\n"));
}

#[tokio::test]
async fn the_gate_is_the_base_commits_not_the_trees() {
    let bench = Bench::new(&[(".foreman.toml", "[gate]\ntest = \"exit 1\"\n")]).await;
    write(bench.workspace.tree(), ".foreman.toml", "[gate]\ntest = \"true\"\n");
    let plan = bench.plan(None).await.expect("plan");
    assert_eq!(plan.summary(), "exit 1 (.foreman.toml)");
}

#[tokio::test]
async fn the_gate_is_found_or_there_is_none() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("Cargo.toml", "[package]"), ("Makefile", "test:\n")],
            "cargo test (detected: Cargo.toml)",
        ),
        (
            &[("go.mod", "module x")],
            "go build ./... && go vet ./... && go test ./... (detected: go.mod)",
        ),
        (
            &[("package.json", "{\"scripts\":{\"test\":\"jest\"}}")],
            "npm test (detected: package.json)",
        ),
        (&[("pyproject.toml", "[tool.pytest]")], "python3 -m pytest -q (detected: pyproject.toml)"),
        (
            &[("pyproject.toml", "[project]"), ("Makefile", "test:\n")],
            "make test (detected: Makefile)",
        ),
        (&[("tests/run.sh", "true")], "sh tests/run.sh (detected: tests/run.sh)"),
        (&[("test.sh", "true")], "sh ./test.sh (detected: test.sh)"),
        (
            &[(".foreman.toml", "[gate]\nsetup = \"true\"\n"), ("test.sh", "")],
            "sh ./test.sh (detected: test.sh)",
        ),
        (&[], "no gate (none found)"),
    ];
    for (files, expected) in cases {
        let bench = Bench::new(files).await;
        assert_eq!(bench.plan(None).await.expect("plan").summary(), *expected, "{files:?}");
    }
    let bench = Bench::new(&[]).await;
    let plan = bench.plan(None).await.expect("plan");
    let report = run_gate(&plan, &bench.sandbox, &bench.workspace, &bench.ground.cancel).await;
    assert_eq!(report.expect("report").outcome, GateOutcome::NotConfigured);
}

#[tokio::test]
async fn a_misspelt_project_file_is_an_error_not_a_weaker_gate() {
    let bench =
        Bench::new(&[(".foreman.toml", "[gate]\ntset = \"x\"\n"), ("test.sh", "true")]).await;
    assert!(matches!(bench.plan(None).await, Err(GateError::Project(_))));
}

#[tokio::test]
async fn the_tree_that_passed_is_the_tree_that_is_named() {
    let bench = Bench::new(&[]).await;
    // Writes a lockfile once: what is judged is the tree with it.
    let file = ExplicitGate {
        language: Some("generic".to_owned()),
        test: Some("test -e lock || echo x > lock".to_owned()),
        ..ExplicitGate::default()
    };
    let plan = bench.plan(Some(&file)).await.expect("plan");
    let cancel = &bench.ground.cancel;
    let report = run_gate(&plan, &bench.sandbox, &bench.workspace, cancel).await.expect("report");
    assert_eq!(report.outcome, GateOutcome::Passed);
    assert_eq!(report.tree, bench.workspace.tree_hash(cancel).await.expect("hash"));
    // Changes it each time: nothing that passed is there afterwards.
    let (outcome, reason) = bench.outcome_of("echo x >> lock").await;
    assert_eq!(outcome, GateOutcome::Error, "{reason:?}");
}

#[tokio::test]
async fn a_cancelled_gate_says_nothing() {
    let bench = Bench::new(&[("test.sh", "sleep 300\n")]).await;
    let plan = bench.plan(None).await.expect("plan");
    let cancel = CancellationToken::new();
    let gate = run_gate(&plan, &bench.sandbox, &bench.workspace, &cancel);
    let (result, ()) = tokio::join!(gate, async {
        tokio::task::yield_now().await;
        cancel.cancel();
    });
    assert!(result.is_err(), "{result:?}");
}

#[tokio::test]
async fn setup_runs_once_for_its_lockfile() {
    let file = "[gate]\nsetup = \"echo x >> ../runs\"\ntest = \"true\"\n";
    let bench = Bench::new(&[(".foreman.toml", file), ("Cargo.lock", "1")]).await;
    let plan = bench.plan(None).await.expect("plan");
    let cancel = &bench.ground.cancel;
    let runs = bench.workspace.tree().parent().expect("parent").join("runs");
    let count = || std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
    assert!(!bench.layout.is_set_up());
    for _ in 0..2 {
        let warning =
            run_setup(&plan, &bench.sandbox, &bench.workspace, &bench.layout, cancel).await;
        assert_eq!(warning.expect("setup"), None);
        assert_eq!(count(), 1);
    }
    assert!(bench.layout.is_set_up());
    let mut failing = plan.clone();
    failing.setup = Some(super::Setup { command: "echo why; exit 3".to_owned(), required: true });
    let error = run_setup(&failing, &bench.sandbox, &bench.workspace, &bench.layout, cancel).await;
    assert!(
        matches!(&error, Err(GateError::Setup { reason, .. }) if reason.contains("why")),
        "{error:?}"
    );
    failing.setup = Some(super::Setup { command: "exit 3".to_owned(), required: false });
    let warning =
        run_setup(&failing, &bench.sandbox, &bench.workspace, &bench.layout, cancel).await;
    assert!(warning.expect("goes on").is_some());
}

#[tokio::test]
async fn instructions_are_the_base_commits() {
    use crate::project::{INSTRUCTIONS_BYTES_MAX, Instructions};
    let long = "a".repeat(INSTRUCTIONS_BYTES_MAX + 1);
    let bench = Bench::new(&[("CLAUDE.md", "second"), ("AGENTS.md", &long)]).await;
    write(bench.workspace.tree(), "AGENTS.md", "the model's");
    let cancel = &bench.ground.cancel;
    let found = Instructions::of_base(&bench.workspace, cancel).await.expect("read").expect("some");
    assert_eq!(
        (found.file, found.text.len(), found.truncated),
        ("AGENTS.md", INSTRUCTIONS_BYTES_MAX, true)
    );
    let bench = Bench::new(&[("CLAUDE.md", "second")]).await;
    let found = Instructions::of_base(&bench.workspace, cancel).await.expect("read").expect("some");
    assert_eq!((found.file, found.text.as_str(), found.truncated), ("CLAUDE.md", "second", false));
}
