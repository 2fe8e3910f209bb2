//! A whole gate: a repository, its workspace, the real sandbox, real tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use foreman_runner::gate::{ExplicitGate, GateOutcome, GatePlan, run_gate, run_setup};
use foreman_runner::git::{BranchName, Git, Repository};
use foreman_runner::sandbox::{ProcessSandbox, Tier};
use foreman_runner::workspace::{Start, Workspace, WorkspaceRequest, WorkspaceRoots};
use tokio_util::sync::CancellationToken;

use crate::support::{BOTH, Case, Way, World};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "a_rust_project_passes_and_fails_its_gate",
        ways: BOTH,
        body: |w| Box::pin(rust(w)),
    },
    Case {
        name: "git_is_readable_and_not_writable_inside",
        ways: BOTH,
        body: |w| Box::pin(git_inside(w)),
    },
    Case {
        name: "a_gate_that_needs_the_network_is_an_error",
        ways: BOTH,
        body: |w| Box::pin(needs_network(w)),
    },
];

const LIBRARY: &str =
    "pub fn two() -> u8 { 2 }\n#[test]\nfn two_is_two() { assert_eq!(two(), 2); }\n";

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=x", "-c", "user.email=x@y"])
        .args(arguments)
        .current_dir(folder)
        .status()
        .expect("git");
    assert!(status.success(), "{arguments:?}");
}

fn write(path: PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    std::fs::write(path, text).expect("write");
}

/// A repository with a small Rust library, its workspace, and a sandbox for it.
async fn bench(world: &World) -> (Workspace, ProcessSandbox, WorkspaceRoots) {
    let origin = world.path("origin");
    std::fs::create_dir(&origin).expect("origin");
    git(&origin, &["init", "-q", "-b", "main"]);
    write(
        origin.join("Cargo.toml"),
        "[package]\nname = \"two\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    write(
        origin.join("Cargo.lock"),
        "version = 4\n\n[[package]]\nname = \"two\"\nversion = \"0.1.0\"\n",
    );
    write(origin.join("src/lib.rs"), LIBRARY);
    write(origin.join(".gitignore"), "/target\n");
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-q", "-m", "first"]);
    let roots = WorkspaceRoots { data: world.path("data"), cache: world.path("the-cache") };
    let request = WorkspaceRequest {
        namespace: "default".to_owned(),
        task: "t".to_owned(),
        uid: "u1".to_owned(),
        repository: Repository::parse(&origin.to_string_lossy(), "").expect("path"),
        base_branch: None,
        start: Start::Base,
        branch: BranchName::parse("foreman/t").expect("branch"),
        push_to: None,
        continues: None,
        fresh: false,
    };
    let cancel = CancellationToken::new();
    let workspace = Workspace::open(Git::default(), &roots, &request, &cancel).await;
    let workspace = workspace.expect("workspace");
    let mut settings = workspace.sandbox_settings(&roots);
    settings.namespaces = world.way == Way::Namespaces;
    let sandbox = ProcessSandbox::new(settings, Tier::None).expect("sandbox");
    (workspace, sandbox, roots)
}

async fn rust(world: World) {
    let (workspace, sandbox, roots) = bench(&world).await;
    let cancel = CancellationToken::new();
    let plan = GatePlan::settle(None, &workspace, &cancel).await.expect("plan");
    assert_eq!(plan.summary(), "cargo test (detected: Cargo.toml)");
    let layout = workspace.sandbox_settings(&roots).layout;
    let warning = run_setup(&plan, &sandbox, &workspace, &layout, &cancel).await.expect("setup");
    assert_eq!(warning, None, "there is nothing to fetch");
    let report = run_gate(&plan, &sandbox, &workspace, &cancel).await.expect("report");
    assert_eq!(report.outcome, GateOutcome::Passed, "{report:#?}");
    assert_eq!(report.tree, workspace.tree_hash(&cancel).await.expect("hash"));
    write(workspace.tree().join("src/lib.rs"), &LIBRARY.replace("{ 2 }", "{ 3 }"));
    let report = run_gate(&plan, &sandbox, &workspace, &cancel).await.expect("report");
    assert_eq!(report.outcome, GateOutcome::Failed, "{report:#?}");
}

fn generic(test: &str) -> ExplicitGate {
    ExplicitGate {
        language: Some("generic".to_owned()),
        test: Some(test.to_owned()),
        ..ExplicitGate::default()
    }
}

async fn git_inside(world: World) {
    let (workspace, sandbox, _) = bench(&world).await;
    let cancel = CancellationToken::new();
    // It can look, and cannot move a branch, configure or install a hook.
    let script = "git log --format=%s && echo x > new && git status --porcelain && \
                  ! git -c user.name=x -c user.email=x@y commit -q --allow-empty -m evil 2>/dev/null && \
                  ! git config core.fsmonitor /bin/false 2>/dev/null && \
                  ! touch \"$(git rev-parse --absolute-git-dir)/hooks\" 2>/dev/null && \
                  ! git update-ref refs/heads/evil HEAD 2>/dev/null && rm new && echo held";
    let plan = GatePlan::settle(Some(&generic(script)), &workspace, &cancel).await.expect("plan");
    let report = run_gate(&plan, &sandbox, &workspace, &cancel).await.expect("report");
    let output = report.steps.first().map(|step| step.output.as_str());
    assert_eq!((report.outcome, output), (GateOutcome::Passed, Some("first\n?? new\nheld\n")));
}

async fn needs_network(world: World) {
    let (workspace, sandbox, _) = bench(&world).await;
    let cancel = CancellationToken::new();
    let script = "python3 -c \"import urllib.request as u; u.urlopen('http://example.com')\"";
    let plan = GatePlan::settle(Some(&generic(script)), &workspace, &cancel).await.expect("plan");
    let report = run_gate(&plan, &sandbox, &workspace, &cancel).await.expect("report");
    assert_eq!(report.outcome, GateOutcome::Error, "{report:#?}");
}
