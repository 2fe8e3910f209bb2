//! Work is never lost: signals hand over, and the next process goes on where it was.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::model::Model;
use super::support::{Lab, path};

/// The coder's turn at which the scripted model falls silent: it has changed the tree by then.
const HELD: usize = 4;

fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

fn named<'a>(tasks: &'a [Value], end: &str) -> &'a Value {
    let fits = |task: &&Value| task["metadata"]["name"].as_str().is_some_and(|n| n.ends_with(end));
    tasks.iter().find(fits).expect(end)
}

#[tokio::test]
async fn sigterm_hands_a_run_over_and_the_next_up_goes_on_with_it() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(HELD)).await;
    let up = ["up", "--model-url", model.url(), "--drain-deadline", "15"];
    let first = lab.start(&up);
    lab.until("nodes", |node| phase(node) == "Ready").await;
    let run = ["run", "--repo", path(&repo), "--detach", "-o", "json", "greet the world"];
    let detached = lab.run(&run).await;
    assert_eq!(detached.code, Some(6), "{detached:?}");
    model.reached(HELD).await;

    first.signal(Signal::SIGTERM);
    let ended = first.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let tasks = lab.get("tasks").await;
    let code = named(&tasks, "-code");
    assert_eq!(phase(code), "Pending", "{code}");
    assert_eq!(code["status"]["checkpoint"]["turn"], json!(HELD - 1), "{code}");
    assert_eq!(code["status"]["attempts"][0]["ended"], json!("Drained"), "{code}");
    assert_eq!(Lab::git(&repo, &["branch", "--format=%(refname:short)"]), "main", "nothing pushed");

    model.let_go();
    let second = lab.start(&up);
    lab.until("workloads", |workload| phase(workload) == "Completed").await;
    let tasks = lab.get("tasks").await;
    let code = named(&tasks, "-code");
    assert_eq!(code["status"]["attempt"], json!(2), "{code}");
    assert_eq!(named(&tasks, "-verify")["status"]["verdict"], json!("GATE-PASS"));
    // No turn that had ended was asked for again.
    let asked = model.asked();
    assert_eq!((asked[&1], asked[&2], asked[&3], asked[&HELD]), (1, 1, 1, 2), "{asked:?}");
    let branch = code["status"]["branch"].as_str().expect("a branch").to_owned();
    assert_eq!(Lab::git(&repo, &["rev-list", "--count", &format!("main..{branch}")]), "1");
    assert_eq!(Lab::git(&repo, &["branch", "--format=%(refname:short)"]).lines().count(), 2);
    second.signal(Signal::SIGTERM);
    let ended = second.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains('\u{1b}'), "what a model says is no escape: {:?}", ended.stderr);
}

#[tokio::test]
async fn ctrl_c_ends_the_stream_with_its_one_result_and_the_run_can_be_continued() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(HELD)).await;
    let run = [
        "run",
        "--repo",
        path(&repo),
        "--model-url",
        model.url(),
        "-o",
        "jsonl",
        "greet the world",
    ];
    let running = lab.start(&run);
    model.reached(HELD).await;
    running.signal(Signal::SIGINT);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let result = ended.result();
    assert_eq!(result["finished"], Value::Null);
    assert_eq!(result["unfinished"].as_array().map(Vec::len), Some(3), "{result}");
    let released = ended.events().into_iter().find(|event| event["type"] == "task.released");
    assert_eq!(released.expect("told")["turn"], json!(HELD - 1));
    let name = result["workload"].as_str().expect("a name").to_owned();
    let next = format!("foreman run --continue {name} --model-url {}", model.url());
    assert_eq!(result["next"][0], json!(next));

    model.let_go();
    let again = ["run", "--continue", &name, "--model-url", model.url(), "-o", "jsonl"];
    let ended = lab.run(&again).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    assert_eq!(result["verified"], json!(true));
    assert_eq!(result["unfinished"], json!([]));
    let asked = model.asked();
    assert_eq!((asked[&1], asked[&2], asked[&3], asked[&HELD]), (1, 1, 1, 2), "{asked:?}");
}
