//! Behaviours 18, 46 and 50 to 54: the real agent on its node.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreman_core::model::FleetNode;
use foreman_core::model::outcome::{FailureReason, Infrastructure, Verdict};
use foreman_core::ports::executor::Finish;
use foreman_core::ports::{RunEnd, Stop, StoreError};
use foreman_core::testkit::fault::{Fault, Operation};
use foreman_core::testkit::scripted::{ScriptedExecutor, ScriptedRun, on_target};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::Stage;
use super::on_memory;
use super::played::{Node, freeform, freeform_with, plain_agent};
use super::real::Setup;

/// The end on target with what an envelope holds.
fn ends_well(run: &ScriptedRun) -> RunEnd {
    let RunEnd::Finished(mut finish) = on_target(&run.job) else { return RunEnd::Lost };
    let result = json!({"schemaVersion": "foreman.v1", "verdict": "GO", "summary": "done"});
    finish.result = serde_json::from_value(result).expect("an object");
    RunEnd::Finished(finish)
}

/// How an honest executor ends when it was told to stop.
fn obeys(run: &ScriptedRun, told: Stop) -> RunEnd {
    let RunEnd::Finished(finish) = on_target(&run.job) else { return RunEnd::Lost };
    let failed = |infrastructure, failure_reason| {
        let mut finish = Finish { succeeded: false, failure_reason, ..*finish.clone() };
        finish.verdict = Verdict::Incomplete;
        finish.outcome.infrastructure = infrastructure;
        RunEnd::Finished(Box::new(finish))
    };
    match told {
        Stop::Cancel => failed(Infrastructure::Cancelled, None),
        Stop::TimedOut => failed(Infrastructure::TimedOut, Some(FailureReason::Timeout)),
        Stop::Continue | Stop::Suspend | Stop::Drain { .. } | Stop::Lost => RunEnd::Lost,
    }
}

/// What runs of an executor were told, by task.
type Told = Arc<Mutex<Vec<(String, Stop)>>>;

/// An executor whose runs go on until they are told to stop, or until the sender says that they may
/// end.
fn until_told() -> (Arc<ScriptedExecutor>, Told, watch::Sender<bool>) {
    let told = Told::default();
    let may_end = watch::channel(false);
    let (notes, ends) = (told.clone(), may_end.1);
    let executor = ScriptedExecutor::new(move |run| {
        let (notes, mut ends) = (notes.clone(), ends.clone());
        Box::pin(async move {
            let mut stop = run.stop.clone();
            tokio::select! {
                biased;
                stopped = stop.wait_for(|stop| *stop != Stop::Continue) => {
                    let stopped = stopped.map_or(Stop::Lost, |stop| *stop);
                    let name = run.job.task.meta.name.clone();
                    notes.lock().expect("no panic").push((name, stopped));
                    obeys(&run, stopped)
                }
                ended = ends.wait_for(|ends| *ends) => {
                    drop(ended);
                    ends_well(&run)
                }
            }
        })
    });
    (executor, told, may_end.0)
}

/// A FleetNode that is deleted under a live agent is made again, with the same session; a run goes on.
pub(crate) async fn b018_a_deleted_node_is_registered_again(stage: &Stage) {
    let (executor, told, _ends) = until_told();
    let life = stage.starts(Setup { roles: &["coder"], ..Setup::of("a", 2) }, executor).await;
    stage.node_is("a", "Ready", 5).await;
    stage.task("t", freeform()).await;
    stage.task_is("t", "Running", 5).await;
    stage.delete::<FleetNode>(&*stage.stores.nodes, "a").await;
    let back = async || stage.see_node("a").await.phase() == "Ready";
    stage.eventually(Duration::from_secs(35), "the node is there again", back).await;
    let node = stage.see_node("a").await;
    assert_eq!(node.text("/status/session"), life.session);
    assert_eq!(node.at("/spec/roles"), json!(["coder"]));
    assert_eq!(node.at("/spec/slots"), json!(2));
    stage.task_stays("t", "Running", 120).await;
    assert!(told.lock().expect("no panic").is_empty(), "the run was not disturbed");
}

/// A placed task is claimed at once (no poll), with equal times; it ends with what the run said.
pub(crate) async fn b046_a_placed_task_is_claimed_run_and_ended(stage: &Stage) {
    let (executor, _, ends) = until_told();
    let life = stage.starts(Setup::of("a", 1), executor).await;
    stage.node_is("a", "Ready", 5).await;
    stage.task("t", freeform()).await;
    let task = stage.task_is("t", "Running", 5).await;
    assert_eq!(task.condition("Running"), "True/Claimed");
    let claimed = task.text("/status/claimedAt");
    assert!(!claimed.is_empty());
    assert_eq!(task.text("/status/startedAt"), claimed);
    assert_eq!(
        (task.text("/status/session"), task.text("/status/attempt")),
        (life.session.clone(), "1".into())
    );
    stage.advance(Duration::from_secs(10)).await;
    ends.send_replace(true);
    let task = stage.task_is("t", "Succeeded", 2).await;
    assert_eq!(task.end(), "Succeeded/GO");
    assert_eq!(task.condition("Completed"), "True/ExecutorSucceeded");
    assert_eq!(task.text("/status/result/schemaVersion"), "foreman.v1");
    assert!(task.text("/status/finishedAt") > claimed);
}

/// A task that was given to another node, or claimed by another session, while the agent worked: its
/// late result is not written.
pub(crate) async fn b050_a_late_result_is_not_written(stage: &Stage) {
    stage.kill_loops().await;
    let (executor, _, ends) = until_told();
    let _life = stage.starts(Setup::of("a", 2), executor).await;
    stage.advance(Duration::from_secs(1)).await;
    for name in ["moved", "reclaimed"] {
        stage.task(name, freeform()).await;
        let placed = [("phase", json!("Scheduled")), ("assignedNode", json!("a"))];
        stage.task_status(name, placed).await;
        stage.task_is(name, "Running", 5).await;
    }
    stage.task_status("moved", [("assignedNode", json!("b"))]).await;
    let later = json!(stage.now().plus(Duration::from_secs(1)));
    stage.task_status("reclaimed", [("claimedAt", later)]).await;
    ends.send_replace(true);
    stage.advance(Duration::from_secs(30)).await;
    for name in ["moved", "reclaimed"] {
        let task = stage.see_task(name).await;
        assert_eq!(
            (task.end(), task.at("/status/result")),
            ("Running".into(), Value::Null),
            "{name}"
        );
    }
}

/// An agent that starts anew gives back what ran in its name and of which it has no journal; what is
/// only placed stays, and so do other nodes' tasks.
pub(crate) async fn b051_a_restarted_agent_gives_its_claims_back(stage: &Stage) {
    stage.node(Node::ours("a", 4)).await;
    stage.node(Node::ours("b", 4)).await;
    for name in ["t1", "t2"] {
        stage.task(name, freeform()).await;
        stage.claim(name).await;
    }
    assert_eq!(stage.see_task("t1").await.node(), "a");
    assert_eq!(stage.see_task("t2").await.node(), "b");
    stage.task("t3", freeform()).await;
    stage.task_is("t3", "Scheduled", 2).await;
    stage.kill_loops().await;
    stage.silence("a");
    let others = stage.see_task("t2").await;
    let (executor, _, _ends) = until_told();
    let known_session = Some("a-session-1".to_owned());
    let life = stage.starts(Setup { known_session, ..Setup::of("a", 4) }, executor).await;
    let task = stage.task_is("t1", "Pending", 10).await;
    assert_eq!(task.condition("Running"), "False/AgentRestartRecovery");
    for field in ["assignedNode", "claimedAt", "startedAt", "session"] {
        assert_eq!(task.at(&format!("/status/{field}")), Value::Null, "{field}");
    }
    let task = stage.task_is("t3", "Running", 5).await;
    assert_eq!(task.text("/status/session"), life.session, "claimed where it stood");
    assert_eq!(stage.see_task("t2").await, others);
}

/// A running task that is deleted: the run is stopped within ten seconds, and its slot is free.
pub(crate) async fn b052_a_deleted_task_stops_its_run(stage: &Stage) {
    let (executor, told, _ends) = until_told();
    let _life = stage.starts(Setup::of("a", 1), executor).await;
    stage.node_is("a", "Ready", 5).await;
    stage.task("t", freeform()).await;
    stage.task_is("t", "Running", 5).await;
    stage.task("next", freeform()).await;
    stage.task_waits("next", "NodesBusy", 5).await;
    stage.delete_task("t").await;
    stage.task_is("next", "Running", 10).await;
    let told = told.lock().expect("no panic").clone();
    assert_eq!(told, [("t".to_owned(), Stop::Lost)]);
}

/// A store that cannot be read for a while stops no run.
pub(crate) async fn b052_a_store_that_is_away_stops_no_run(stage: &Stage) {
    let (executor, told, ends) = until_told();
    let life = stage.starts(Setup::of("a", 1), executor).await;
    stage.node_is("a", "Ready", 5).await;
    stage.task("t", freeform()).await;
    stage.task_is("t", "Running", 5).await;
    let away = StoreError::Unavailable { reason: "away".into(), retry_after: None };
    life.tasks.break_down([Operation::Get, Operation::List, Operation::Watch], &away);
    life.nodes.break_down([Operation::Get], &away);
    stage.task_status("t", [("observedGeneration", json!(1))]).await;
    stage.advance(Duration::from_mins(1)).await;
    assert!(told.lock().expect("no panic").is_empty());
    life.tasks.mend();
    ends.send_replace(true);
    stage.task_is("t", "Succeeded", 60).await;
}

/// Of several tasks on one node: review, verify, issue-fix, the rest; the oldest first.
pub(crate) async fn b053_claims_go_by_kind_then_age(stage: &Stage) {
    stage.kill_loops().await;
    stage.agent("anybody", plain_agent()).await;
    let order = [
        ("a-free", "freeform"),
        ("b-fix", "issue-fix"),
        ("c-verify", "verify"),
        ("e-old-review", "review"),
        ("d-new-review", "review"),
        ("f-verify", "verify"),
    ];
    for (name, kind) in order {
        let mut spec = freeform_with("kind", json!(kind));
        spec["agentRef"] = json!({"name": "anybody"});
        stage.task(name, spec).await;
        let placed = [("phase", json!("Scheduled")), ("assignedNode", json!("a"))];
        stage.task_status(name, placed).await;
        stage.advance(Duration::from_secs(1)).await;
    }
    let executor = ScriptedExecutor::on_target();
    let _life = stage.starts(Setup::of("a", 1), executor.clone()).await;
    stage.task_is("a-free", "Succeeded", 10).await;
    let wanted = ["e-old-review", "d-new-review", "c-verify", "f-verify", "b-fix", "a-free"];
    assert_eq!(executor.ran(), wanted);
}

/// An end that the store refuses as invalid: the task still ends. Ours sends it once more without
/// what cannot be taken (api.md, Outcomes), and keeps what the run decided.
pub(crate) async fn b054_a_refused_result_still_ends_the_task(stage: &Stage) {
    let (executor, _, ends) = until_told();
    let life = stage.starts(Setup::of("a", 1), executor).await;
    stage.node_is("a", "Ready", 5).await;
    stage.task("t", freeform()).await;
    stage.task_is("t", "Running", 5).await;
    let field = "status.result".to_owned();
    let invalid = StoreError::Invalid { field, rule: "is not what the schema says".into() };
    life.tasks.on_patch(move |_, change| {
        let patch = change.to_merge_patch(None);
        patch.pointer("/status/result").map(|_| Fault::Fail(invalid.clone()))
    });
    ends.send_replace(true);
    let task = stage.task_is("t", "Succeeded", 5).await;
    assert_eq!(task.end(), "Succeeded/GO");
    assert!(!task.text("/status/finishedAt").is_empty());
    assert_eq!(task.text("/status/session"), "", "the claim is over");
}

/// `timeoutSeconds`: the agent ends the run and says so.
pub(crate) async fn b056_a_run_that_takes_too_long_ends_with_timeout(stage: &Stage) {
    let (executor, told, _ends) = until_told();
    let _life = stage.starts(Setup::of("a", 1), executor).await;
    stage.node_is("a", "Ready", 5).await;
    stage.task("t", freeform_with("timeoutSeconds", json!(5))).await;
    stage.task_is("t", "Running", 5).await;
    stage.task_stays("t", "Running", 4).await;
    let task = stage.task_is("t", "Failed", 5).await;
    assert_eq!(task.end(), "Failed/INCOMPLETE/Timeout");
    assert_eq!(told.lock().expect("no panic").clone(), [("t".to_owned(), Stop::TimedOut)]);
}

on_memory!(
    b018_a_deleted_node_is_registered_again,
    b046_a_placed_task_is_claimed_run_and_ended,
    b050_a_late_result_is_not_written,
    b051_a_restarted_agent_gives_its_claims_back,
    b052_a_deleted_task_stops_its_run,
    b052_a_store_that_is_away_stops_no_run,
    b053_claims_go_by_kind_then_age,
    b054_a_refused_result_still_ends_the_task,
    b056_a_run_that_takes_too_long_ends_with_timeout,
);
