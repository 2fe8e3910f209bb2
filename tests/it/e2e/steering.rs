//! What people ask of work that really runs: pause it, free its machine, try it again.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::model::Model;
use super::support::{Lab, Running, path};

/// A process that works on the store, and a run given to it that is held at its fourth turn, when
/// its tree is changed.
async fn held(lab: &Lab) -> (Model, Running, Value) {
    let repo = lab.repository();
    let model = Model::start(Some(4)).await;
    let up = ["up", "--model-url", model.url(), "--fleet-node-name", "studio"];
    // A node obeys its spec when it beats, and says by a beat that nothing runs there.
    let up = lab.start(&[&up[..], &["--heartbeat-interval", "1"]].concat());
    lab.until("nodes", |node| node["status"]["phase"] == "Ready").await;
    let run = ["run", "--repo", path(&repo), "--no-review", "--detach", "greet the world"];
    let given = lab.run(&run).await;
    assert_eq!(given.code, Some(6), "{given:?}");
    model.reached(4).await;
    let workload = lab.get("workloads").await.remove(0);
    (model, up, workload)
}

async fn leave(up: Running) {
    up.signal(Signal::SIGTERM);
    let ended = up.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn is_coder(task: &Value) -> bool {
    task["spec"]["kind"] == "issue-fix"
}

#[tokio::test]
async fn a_workload_is_paused_at_a_turn_and_goes_on_after_it() {
    let lab = Lab::new();
    let (model, up, workload) = held(&lab).await;
    let name = workload["metadata"]["name"].as_str().expect("a name");
    let paused = lab.run(&["suspend", name]).await;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert_eq!(
        paused.stdout,
        format!("workload/{name} suspended: its runs pause at their next turn\n")
    );
    assert!(paused.stderr.is_empty(), "somebody works: {paused:?}");
    lab.until("tasks", |task| is_coder(task) && task["spec"]["suspend"] == json!(true)).await;
    model.let_go();
    let waits =
        |task: &Value| is_coder(task) && task["status"]["waiting"]["reason"] == json!("Suspended");
    let task = lab.until("tasks", waits).await;
    assert_eq!(task["status"]["checkpoint"]["node"], json!("studio"), "the work is kept");
    let still = lab.run(&["wait", name, "--timeout", "0s"]).await;
    assert_eq!(still.code, Some(6), "{still:?}");
    let resumed = lab.run(&["resume", name]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let ended = lab.run(&["wait", name]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, format!("workload/{name} Succeeded (verified)\n"));
    assert_eq!(model.asked().get(&1), Some(&1), "what was done is not done again");
    leave(up).await;
}

#[tokio::test]
async fn a_node_is_drained_and_its_work_goes_on_when_it_is_opened() {
    let lab = Lab::new();
    let (model, up, workload) = held(&lab).await;
    let name = workload["metadata"]["name"].as_str().expect("a name");
    let drain = ["drain", "studio", "-m", "new memory", "--deadline", "0s", "--wait"];
    let drained = lab.run(&drain).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert!(drained.stdout.ends_with("node/studio drained\n"), "{drained:?}");
    let task = lab.until("tasks", is_coder).await;
    assert_eq!(task["status"]["phase"], json!("Pending"));
    model.let_go();
    let opened = lab.run(&["uncordon", "studio"]).await;
    assert_eq!(opened.code, Some(0), "{opened:?}");
    let ended = lab.run(&["wait", name]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(model.asked().get(&1), Some(&1), "what was done is not done again");
    leave(up).await;
}

#[tokio::test]
async fn a_run_that_ran_out_of_turns_goes_on_in_a_new_task_with_more() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(None).await;
    let agent = "apiVersion: foreman.llmkube.dev/v1alpha1\nkind: Agent\n\
        metadata: {name: foreman-coder}\nspec:\n  role: coder\n  maxTurns: 2\n  \
        inferenceServiceRef: {name: auto}\n  \
        tools: [read_file, grep, str_replace, write_file, bash, git_status, git_diff, submit_result]\n";
    std::fs::write(lab.path("agent.yaml"), agent).expect("written");
    let applied = lab.run(&["apply", "-f", path(&lab.path("agent.yaml"))]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "--no-review"];
    let ended = lab.run(&[&run[..], &["-o", "json", "greet the world"]].concat()).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let coder = lab.until("tasks", is_coder).await;
    let name = coder["metadata"]["name"].as_str().expect("a name").to_owned();
    let described = lab.run(&["describe", &format!("task/{name}")]).await;
    let next = format!("foreman retry task/{name} --continue --turns +50");
    assert!(described.stdout.contains(&next), "{described:?}");
    let again = lab.run(&["retry", &name, "--continue", "--turns", "+10"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    let wanted =
        format!("task/{name}-2 created: goes on with {name} after 2 turns, with 10 more turns\n");
    assert_eq!(again.stdout, wanted);
    assert!(!again.stderr.contains("no journal"), "{again:?}");
    let up = lab.start(&["up", "--model-url", model.url()]);
    let ended = lab.run(&["wait", &format!("task/{name}-2")]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("Succeeded: GO, verified by its gate"), "{ended:?}");
    let asked = model.asked();
    assert_eq!((asked.get(&1), asked.get(&2)), (Some(&1), Some(&1)), "its turns are not repeated");
    assert_eq!(asked.get(&5), Some(&1), "it may take more turns than its Agent allows");
    leave(up).await;
}
