//! What must hold of store and remote at the end, wherever a process was killed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::machine::{Machine, TURNS};
use super::model::{ANSWER_TOKENS, PROMPT_TOKENS};
use crate::support::repository::MENDED;

/// The phase of an object.
pub(super) fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

/// How the attempts of a task ended, in order.
pub(super) fn ends(task: &Value) -> Vec<&str> {
    let attempts = task["status"]["attempts"].as_array();
    attempts.into_iter().flatten().map(|attempt| attempt["ended"].as_str().unwrap_or("-")).collect()
}

/// The work is there, once.
pub(super) async fn assert_done_once(machine: &Machine, workload: &str) -> Value {
    let done = |object: &Value| matches!(phase(object), "Completed" | "Failed");
    let ended = machine.object("workloads", workload, "ended", done).await;
    assert_eq!(phase(&ended), "Completed", "{ended:#}");
    let code = machine.code_task("ended", |task| phase(task) == "Succeeded").await;
    let status = &code["status"];
    assert_eq!(status["verdict"], json!("GO"), "{code:#}");
    assert_eq!(status["outcome"]["verification"], json!("Passed"), "{code:#}");
    let verify =
        machine.object("tasks", "-verify", "ended", |task| phase(task) == "Succeeded").await;
    assert_eq!(verify["status"]["verdict"], json!("GATE-PASS"), "{verify:#}");

    let remote = &machine.remote;
    let branch = status["branch"].as_str().expect("a branch").to_owned();
    assert_eq!(remote.branches(), [branch.as_str()]);
    assert_eq!(remote.references().lines().count(), 2, "{}", remote.references());
    assert_eq!(remote.ahead(&branch), "1");
    assert_eq!(remote.file(&branch, "greet.sh"), MENDED);
    let files = remote.git(&["diff", "--name-only", &format!("main..{branch}")]);
    assert_eq!(files, "greet.sh", "nothing else was committed");
    assert_eq!(status["commitSHA"].as_str(), Some(remote.tip(&branch).as_str()), "{code:#}");
    let trailers =
        remote.git(&["log", "-1", "--format=%(trailers:key=Foreman-Task,valueonly)", &branch]);
    let uid = code["metadata"]["uid"].as_str().expect("a uid");
    let attempt = trailers.trim().strip_prefix(uid).and_then(|rest| rest.strip_prefix('/'));
    let attempt: i64 =
        attempt.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{trailers}"));
    assert!(attempt <= status["attempt"].as_i64().expect("attempts"), "{trailers}");
    machine.model.assert_one_conversation();
    code
}

/// Every turn that had ended was asked for once; the others as often as given.
pub(super) fn assert_asked(machine: &Machine, more: &[(usize, usize)]) {
    let mut wanted: BTreeMap<usize, usize> = (1..=TURNS).map(|turn| (turn, 1)).collect();
    wanted.extend(more.iter().copied());
    assert_eq!(machine.model.turns(), wanted);
}

/// Every turn was charged once.
pub(super) fn assert_charged_once(code: &Value) {
    let usage = &code["status"]["usage"];
    let turns = i64::try_from(TURNS).expect("few");
    let charged = (
        usage["turns"].as_i64(),
        usage["promptTokens"].as_i64(),
        usage["completionTokens"].as_i64(),
    );
    let wanted = (Some(turns), Some(turns * PROMPT_TOKENS), Some(turns * ANSWER_TOKENS));
    assert_eq!(charged, wanted, "{usage}");
}

/// A store whose process is gone can be read as it is, and reading changes nothing.
pub(super) async fn assert_readable(machine: &Machine, workload: &str) {
    let before = machine.get("tasks").await;
    let name = before
        .iter()
        .filter_map(|task| task["metadata"]["name"].as_str())
        .find(|name| name.ends_with("-code"))
        .expect("a task");
    let task = format!("task/{name}");
    let listed = machine.works(&["get", "tasks"]).await;
    assert!(listed.contains(name), "{listed}");
    let described = machine.works(&["describe", &format!("workload/{workload}")]).await;
    assert!(described.contains("greet the world"), "{described}");
    machine.works(&["describe", &task]).await;
    let explained = machine.works(&["explain", &task]).await;
    assert!(!explained.trim().is_empty());
    let logs = machine.works(&["logs", &task]).await;
    assert!(logs.contains("read_file"), "{logs}");
    assert_eq!(machine.get("tasks").await, before);
}
