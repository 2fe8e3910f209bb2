//! From an intent to a pushed branch that is verified and reviewed.

use foreman_core::control::{Foreman, Shutdown};
use foreman_core::fleet::Identity;
use foreman_core::model::condition::{ConditionStatus, is_true};
use foreman_core::model::fleet_node::Capability;
use foreman_core::model::outcome::{Decision, Infrastructure, Outcome, Verification};
use foreman_core::model::shared::LocalObjectReference;
use foreman_core::model::workload::PipelineStep;
use foreman_core::model::{
    Agent, AgenticTaskPayload, Key, NewObject, NodeName, TaskKind, Verdict, Workload, WorkloadSpec,
};
use foreman_core::ports::executor::RunEnd;
use foreman_core::ports::{CapabilityProbe, ProbeError};
use foreman_core::testkit::sim::SimEntropy;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::watch;

use crate::support::bench::{Bench, finished};
use crate::support::model_server::{Act, bash, mend, read, review, submit};
use crate::support::repository::{BROKEN, MENDED};
use crate::support::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coder_edits_passes_the_gate_and_pushes_one_commit() {
    let script = vec![read("greet.sh"), bash("sh test.sh"), mend(), submit("GO")];
    let bench = Bench::new(script).await;
    let task = bench.task("fix", bench.code()).await;
    let finish = finished(bench.run(&task.key()).await);
    assert_eq!(
        (finish.succeeded, finish.verdict, finish.failure_reason, finish.outcome),
        (
            true,
            Verdict::Go,
            None,
            Outcome {
                decision: Decision::Go,
                verification: Verification::Passed,
                infrastructure: Infrastructure::Ok,
                reason: None,
            }
        ),
        "{}",
        finish.message
    );
    assert_eq!(bench.remote.branches(), ["foreman/fix"]);
    assert_eq!(bench.remote.ahead("foreman/fix"), "1");
    assert_eq!(finish.branch.as_deref(), Some("foreman/fix"));
    assert_eq!(finish.commit_sha, Some(bench.remote.tip("foreman/fix")));
    assert_eq!(bench.remote.file("foreman/fix", "greet.sh"), MENDED);
    assert_eq!(bench.remote.file("main", "greet.sh"), BROKEN);
    let format = "%an <%ae>|%cn <%ce>|%B";
    let said = bench.remote.git(&["log", "-1", &format!("--format={format}"), "foreman/fix"]);
    let expected = format!(
        "Ada <ada@example.org>|Ada <ada@example.org>|Greet the world\n\nWhen nobody is named.\n\n\
         Signed-off-by: Ada <ada@example.org>\nAssisted-by: Foreman:scripted\nForeman-Task: {}/1",
        task.meta.uid
    );
    assert_eq!(said, expected);
    let usage = finish.usage;
    assert_eq!((usage.turns, usage.tool_calls), (Some(4), Some(4)));
    assert_eq!(
        (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
        (Some(400), Some(160), Some(40))
    );
    assert_eq!(bench.trees(), Vec::<std::path::PathBuf>::new(), "the tree is tidied up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_judges_a_fresh_checkout_of_the_pushed_branch() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    bench.finish(bench.code()).await;
    let verify = bench.task("verify", bench.spec(TaskKind::Verify)).await;
    let finish = finished(bench.run(&verify.key()).await);
    assert_eq!((finish.verdict, finish.failure_reason), (Verdict::GatePass, None));
    assert_eq!(finish.outcome.verification, Verification::Passed);
    assert_eq!(finish.commit_sha, Some(bench.remote.tip("foreman/fix")));
    // The base is judged as what it is.
    let mut spec = bench.spec(TaskKind::Verify);
    spec.payload.branch = Some("main".into());
    let verify = bench.task("verify-main", spec).await;
    let finish = finished(bench.run(&verify.key()).await);
    assert_eq!(finish.verdict, Verdict::GateFail, "{}", finish.message);
    assert_eq!(bench.trees(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_claim_of_a_verification_does_not_see_what_the_first_left() {
    // Passes only where the file of an earlier round is.
    let bench = Bench::on(vec![], |folder| {
        let gate = "[gate]\ntest = \"test -e left || { touch left; sleep 1000; }\"\n";
        crate::support::repository::Remote::with(folder, "remote", &[(".foreman.toml", gate)])
    })
    .await;
    let mut spec = bench.spec(TaskKind::Verify);
    spec.payload.branch = Some("main".into());
    let task = bench.task("verify", spec).await;
    for session in ["s1", "s2"] {
        let run = bench.start(&task.key(), session).await;
        let left = bench.settings.data_dir.join("workspaces/default");
        within("the gate's file", async {
            loop {
                let trees = std::fs::read_dir(&left).into_iter().flatten().flatten();
                if trees.into_iter().any(|tree| tree.path().join("left").exists()) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(!run.is_finished(), "the gate of {session} passed on what was left behind");
        run.crash().await;
        if session == "s1" {
            // As the next claim finds it.
            assert_eq!(bench.trees().len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prose_is_answered_and_the_calls_of_one_message_run_in_order() {
    let replace = json!({"path": "greet.sh", "old_string": "$1", "new_string": "${1:-world}"});
    let read = json!({"path": "greet.sh"});
    let script = vec![
        Act::Say("I shall look at it."),
        Act::Calls(vec![
            ("read_file", read.clone()),
            ("str_replace", replace),
            ("read_file", read),
        ]),
        submit("GO"),
    ];
    let bench = Bench::new(script).await;
    let finish = bench.finish(bench.code()).await;
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!((finish.usage.turns, finish.usage.tool_calls), (Some(3), Some(4)));
    let last = bench.model.asked().pop().expect("asked").messages();
    let results: Vec<&String> = last.iter().rev().take(3).collect();
    let [after, _, before] = results.as_slice() else { panic!("{last:?}") };
    assert!(before.contains("hello $1") && after.contains("hello ${1:-world}"), "{results:?}");
}

struct Able;

#[async_trait::async_trait]
impl CapabilityProbe for Able {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        Ok(Capability::default())
    }
}

fn step(name: &str, kind: TaskKind, after: &[&str], payload: &AgenticTaskPayload) -> PipelineStep {
    PipelineStep {
        name: name.into(),
        kind: kind.into(),
        agent_ref: LocalObjectReference::to("coder"),
        payload: payload.clone(),
        depends_on: after.iter().map(|name| (*name).to_owned()).collect(),
        timeout_seconds: None,
        priority: None,
        gate_profile: None,
    }
}

/// Runs a workload of code, verify and review on the whole of core's control loops.
pub(super) async fn run_workload(
    bench: &Bench,
    annotations: &[(&str, &str)],
) -> foreman_core::model::Object<Workload> {
    let payload = bench.code().payload;
    let spec = WorkloadSpec {
        intent: "greet the world".into(),
        pipeline: vec![
            step("code", TaskKind::IssueFix, &[], &payload),
            step("verify", TaskKind::Verify, &["code"], &payload),
            step("review", TaskKind::Review, &["verify"], &payload),
        ],
        ..WorkloadSpec::default()
    };
    let agent = NewObject::<Agent>::new(Key::namespaced("default", "coder"), bench.agent.clone());
    bench.stores.agents.create(agent).await.expect("created");
    let mut new = NewObject::<Workload>::new(Key::namespaced("default", "w"), spec);
    for (name, value) in annotations {
        new.annotations.insert((*name).to_owned(), (*value).to_owned());
    }
    let workload = bench.stores.workloads.create(new).await.expect("created");
    let identity = Identity {
        name: NodeName::parse("one").expect("valid"),
        address: None,
        roles: Vec::new(),
        slots: None,
        version: "0".into(),
        os: "linux".into(),
        arch: "amd64".into(),
    };
    let foreman = Foreman::builder(bench.stores.clone(), bench.clock.clone(), SimEntropy::new(7))
        .node(identity, Arc::new(Able), bench.executor())
        .build()
        .expect("complete");
    let (shutdown, told) = watch::channel(Shutdown::No);
    let waiting = async {
        loop {
            let now = bench.stores.workloads.get(&workload.key()).await.expect("read");
            let now = now.expect("there");
            if is_true(&now.status.conditions, "Finished") {
                shutdown.send_replace(Shutdown::Drain);
                return now;
            }
            tokio::task::yield_now().await;
        }
    };
    let both = async { tokio::join!(foreman.run(told), waiting) };
    let (end, workload) = within("the end of the workload", both).await;
    end.expect("drained");
    workload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_of_code_verify_and_review_completes_verified() {
    let script = vec![
        read("greet.sh"),
        mend(),
        submit("GO"),
        Act::Call("git_diff", json!({})),
        review("GO"),
    ];
    let bench = Bench::new(script).await;
    let workload = run_workload(&bench, &[]).await;
    let status = &workload.status;
    let told = format!("{status:#?}");
    assert!(status.phase.as_ref().is_some_and(|phase| phase.to_string() == "Completed"), "{told}");
    let unverified = status.conditions.iter().find(|it| it.kind == "Unverified");
    let unverified = unverified.unwrap_or_else(|| panic!("no condition Unverified: {told}"));
    assert_eq!(unverified.status, ConditionStatus::False.into(), "{told}");
    let verdicts: Vec<Option<String>> =
        status.steps.iter().map(|step| step.verdict.as_ref().map(ToString::to_string)).collect();
    let wanted = ["GO", "GATE-PASS", "GO"].map(|verdict| Some(verdict.to_owned()));
    assert_eq!(verdicts, wanted);
    assert_eq!(bench.remote.branches(), ["foreman/fix"]);
    assert_eq!(bench.remote.ahead("foreman/fix"), "1");
    assert_eq!(bench.model.left(), 0);
    // The reviewer saw the change.
    let asked = bench.model.asked();
    let last = asked.last().expect("asked").body.to_string();
    assert!(last.contains("hello ${1:-world}"), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reviewer_that_rejects_ends_no_go_and_pushes_nothing() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    bench.finish(bench.code()).await;
    let before = bench.remote.references();
    bench.model.then(vec![bash("echo spoilt > greet.sh"), review("NO-GO")]);
    let task = bench.task("review", bench.spec(TaskKind::Review)).await;
    let RunEnd::Finished(finish) = bench.run(&task.key()).await else { panic!("not finished") };
    assert_eq!(finish.verdict, Verdict::NoGo);
    assert_eq!(finish.outcome.verification, Verification::NotApplicable);
    assert_eq!(finish.outcome.reason.map(|it| it.to_string()).as_deref(), Some("Rejected"));
    assert_eq!(bench.remote.references(), before);
    assert_eq!(bench.trees(), Vec::<std::path::PathBuf>::new());
}
