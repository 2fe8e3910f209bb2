//! Several processes on one data directory: one works, the others read, write, stop and take over.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::machine::{COMMAND_TURN, Machine, Running};
use super::place::Place;
use super::state::{assert_asked, assert_charged_once, ends, phase};

/// How soon a run has ended that was cancelled or deleted.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// Long enough for a run that was not really stopped to push.
const PUSH_WOULD_COME: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_follower_takes_over_when_the_holder_is_killed() {
    let machine = Place::ModelCall.machine().await;
    let holder = machine.up();
    machine.object("nodes", "", "ready", |node| phase(node) == "Ready").await;
    let repo = machine.remote.url();
    let url = machine.model.url.clone();
    let run = ["run", "--repo", &repo, "--model-url", &url, "-o", "jsonl", "greet the world"];
    let follower = machine.start(&run);
    machine.model.asked_for(COMMAND_TURN, 1).await;
    holder.kill(&machine).await;
    machine.model.asked_for(COMMAND_TURN, 2).await;
    machine.model.let_go();
    let ended = follower.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let last = ended.stdout.lines().last().expect("a result");
    let result: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!((&result["type"], &result["verified"]), (&json!("result"), &json!(true)));
    let code = machine.code_task("ended", |task| phase(task) == "Succeeded").await;
    assert_eq!(ends(&code), ["Adopted", "Finished"], "{code:#}");
    assert_asked(&machine, &[(COMMAND_TURN, 2)]);
    assert_charged_once(&code);
    assert_eq!(machine.remote.branches().len(), 1);
    machine.model.assert_one_conversation();
}

const AGENT: &str = "apiVersion: foreman.llmkube.dev/v1alpha1
kind: Agent
metadata:
  name: from-beside
spec:
  role: coder
  tools: [read_file]
  systemPrompt: be careful
  inferenceServiceRef:
    name: auto
";

#[tokio::test]
async fn others_read_and_write_beside_a_run() {
    let machine = Place::ModelCall.machine().await;
    let workload = machine.submit().await;
    let up = machine.up();
    Place::ModelCall.reached(&machine).await;
    let manifest = machine.root.join("agent.yaml");
    std::fs::write(&manifest, AGENT).expect("written");
    let manifest = manifest.to_str().expect("text");
    machine.works(&["apply", "-f", manifest]).await;
    assert!(machine.works(&["get", "agents"]).await.contains("from-beside"));
    assert!(
        machine.works(&["describe", &format!("workload/{workload}")]).await.contains("Running")
    );
    let logs = machine.works(&["logs", &format!("task/{workload}-code")]).await;
    assert!(logs.contains("str_replace"), "{logs}");
    machine.works(&["delete", "agent/from-beside"]).await;
    assert!(!machine.works(&["get", "agents"]).await.contains("from-beside"));
    machine.model.let_go();
    let code = machine.code_task("ended", |task| phase(task) == "Succeeded").await;
    assert_eq!(ends(&code), ["Finished"]);
    up.kill(&machine).await;
}

/// Starts a run and brings it there.
async fn running_at(place: Place) -> (Machine, String, Running) {
    let machine = place.machine().await;
    let workload = machine.submit().await;
    let up = machine.up();
    place.reached(&machine).await;
    (machine, workload, up)
}

/// What the run had started is gone in time, and nothing is pushed any more.
async fn assert_stopped(machine: &Machine, up: &Running, told: Instant) {
    machine.wait("the end of what the run started", || up.family().is_empty()).await;
    assert!(told.elapsed() < STOPS_WITHIN, "{:?}", told.elapsed());
    machine.stop_nowhere();
    machine.model.let_go();
    let pushes = machine.pushes();
    // Nothing announces that nothing comes.
    tokio::time::sleep(PUSH_WOULD_COME).await;
    assert_eq!(machine.pushes(), pushes);
    assert_eq!(machine.remote.branches(), Vec::<String>::new());
}

async fn cancel_at(place: Place) {
    let (machine, workload, up) = running_at(place).await;
    let told = Instant::now();
    machine.works(&["cancel", &format!("task/{workload}-code")]).await;
    let code = machine.code_task("ended", |task| phase(task) == "Failed").await;
    assert!(told.elapsed() < STOPS_WITHIN, "{:?}", told.elapsed());
    assert_eq!(code["status"]["outcome"]["infrastructure"], json!("Cancelled"), "{code:#}");
    assert_eq!(code["status"]["verdict"], json!("INCOMPLETE"), "{code:#}");
    let cancelled = code["status"]["conditions"].as_array().into_iter().flatten();
    let cancelled: Vec<_> =
        cancelled.filter(|it| it["type"] == "Cancelled").map(|it| &it["reason"]).collect();
    assert_eq!(cancelled, ["UserRequest"], "{code:#}");
    assert_stopped(&machine, &up, told).await;
    let ended = machine.object("workloads", &workload, "ended", |it| phase(it) == "Failed").await;
    assert_eq!(ended["status"]["phase"], json!("Failed"));
    up.kill(&machine).await;
}

async fn delete_at(place: Place) {
    let (machine, workload, up) = running_at(place).await;
    let told = Instant::now();
    machine.works(&["delete", &format!("workload/{workload}")]).await;
    assert_eq!(machine.get("tasks").await, Vec::<Value>::new());
    assert_stopped(&machine, &up, told).await;
    up.kill(&machine).await;
}

#[tokio::test]
async fn a_run_is_cancelled_in_a_model_call() {
    cancel_at(Place::ModelCall).await;
}

#[tokio::test]
async fn a_run_is_cancelled_in_a_tool() {
    cancel_at(Place::Tool).await;
}

#[tokio::test]
async fn a_run_is_cancelled_in_the_gate() {
    cancel_at(Place::Gate).await;
}

#[tokio::test]
async fn a_run_is_cancelled_before_its_push() {
    cancel_at(Place::BeforePush).await;
}

#[tokio::test]
async fn a_run_is_deleted_in_a_model_call() {
    delete_at(Place::ModelCall).await;
}

#[tokio::test]
async fn a_run_is_deleted_in_a_tool() {
    delete_at(Place::Tool).await;
}

#[tokio::test]
async fn a_run_is_deleted_before_its_push() {
    delete_at(Place::BeforePush).await;
}
