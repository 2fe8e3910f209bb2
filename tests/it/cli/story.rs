//! describe and logs.

use std::process::Stdio;
use std::sync::Arc;

use foreman_runner::journal::{Entry, Header, JOURNAL_SCHEMA, Journal, JournalFence, JournalStore};
use foreman_runner::redact::Redactor;
use serde_json::{Value, json};

use super::lab::{Lab, node, now, task, workload};

#[test]
fn a_workload_is_told_whole() {
    let lab = Lab::new();
    lab.apply(&(workload("w") + &task("w-code", "") + &task("w-verify", "") + &node("studio", "")));
    lab.task_status(
        "w-code",
        &json!({"phase": "Succeeded", "verdict": "GO", "attempt": 2,
        "assignedNode": "studio", "branch": "foreman/w", "commitSHA": "9b1c2e4e1f0c2a",
        "usage": {"turns": 14, "promptTokens": 180_000, "cachedTokens": 163_800,
            "completionTokens": 2_000, "wallSeconds": 362},
        "outcome": {"decision": "Go", "verification": "Passed", "infrastructure": "Ok"}}),
    );
    let steps = json!([
        {"name": "code", "task": "w-code", "settled": true, "phase": "Succeeded", "verdict": "GO"},
        {"name": "verify", "task": "w-verify"}]);
    lab.workload_status("w", &json!({"phase": "Dispatched", "steps": steps}));
    let ended = lab.run(&["describe", "w"]).exits(0);
    let ended = ended.says("default/w").says("no; Dispatched, 1 of 2 steps settled");
    let ended = ended.says("\"make it right\"").says("14 turns, 182k tokens (91% cached), 6m2s");
    let ended = ended.says("w-code took 2 attempts").says("foreman/w").says("on studio");
    ended.says("foreman explain workload/w");
    lab.run(&["explain", "workload/w"])
        .exits(0)
        .says("verify")
        .says("next: foreman explain task/w-verify");
    lab.workload_status(
        "w",
        &json!({"phase": "Completed", "conditions": [
        {"type": "Finished", "status": "True", "reason": "Succeeded", "message": "",
            "lastTransitionTime": now()}]}),
    );
    lab.run(&["describe", "workload/w"]).exits(0).says("Succeeded (verified)");
    lab.run(&["describe", "node/studio"]).exits(0).says("foreman explain node/studio");
}

#[test]
fn a_gate_is_told_and_the_next_command_finds_the_store_again() {
    let lab = Lab::new();
    lab.apply(&task("w-verify", "").replace("kind: freeform", "kind: verify"));
    lab.task_status(
        "w-verify",
        &json!({"phase": "Succeeded", "verdict": "GATE-PASS", "attempt": 1,
        "assignedNode": "studio", "result": {"extra": {"gate": {"source": ".foreman.toml",
            "tree": "00046555a2cb7e", "steps": [{"name": "test", "command": "sh \u{1b}[2Jtest.sh",
                "exit": 0, "seconds": 3, "outcome": "Passed"}]}}}}),
    );
    let line = "sh test.sh: exit 0, 3s, on tree 0004655 (.foreman.toml)";
    lab.run(&["describe", "task/w-verify"]).exits(0).says(line);
    lab.run(&["logs", "w-verify"]).exits(0).says("no model, only the gate").says(line);
    let store = lab.data_dir();
    let store = store.to_str().expect("text");
    let ended = lab.run(&["describe", "task/w-verify", "--data-dir", store]).exits(0);
    ended.says(&format!("foreman logs task/w-verify --data-dir {store}"));
}

/// Begins a journal for the task and says a little in it.
async fn journal(lab: &Lab, uid: &str, attempt: u32) -> Journal {
    let store = JournalStore::new(&lab.data_dir(), Arc::new(|| 1_000));
    let fence = JournalFence {
        uid: uid.to_owned(),
        attempt,
        session: "s".to_owned(),
        node: "studio".to_owned(),
        claimed_at: "2026-11-24T10:00:00Z".to_owned(),
    };
    let header = Header {
        schema: JOURNAL_SCHEMA,
        fence,
        parent: None,
        base_commit: "4e1f0c2a9b1c2e".to_owned(),
        agent: json!({}),
        tools: Vec::new(),
    };
    store.create(header, Redactor::default()).await.expect("begun").journal
}

fn say(journal: &mut Journal, entries: &[Value]) {
    for entry in entries {
        let entry: Entry = serde_json::from_value(entry.clone()).expect("an entry");
        journal.append(entry).expect("appended");
    }
}

fn first_turn() -> [Value; 4] {
    [
        json!({"kind": "message", "message": {"role": "user", "content": "write a line"}}),
        json!({"kind": "message", "message": {"role": "assistant", "content": "I look \u{1b}[2Jfirst",
            "tool_calls": [{"id": "c1", "name": "bash", "arguments": "{\"command\":\"ls\"}"}]},
            "usage": {"promptTokens": 41_200, "cachedTokens": 38_900, "completionTokens": 310}}),
        json!({"kind": "tool_started", "call": "c1", "name": "bash"}),
        json!({"kind": "tool_result", "call": "c1", "name": "bash", "content": "README\u{9b}31m"}),
    ]
}

fn second_turn() -> [Value; 2] {
    [
        json!({"kind": "message", "message": {"role": "assistant", "content": "all done"}}),
        json!({"kind": "outcome", "outcome": {"verdict": "GO"}}),
    ]
}

#[test]
fn logs_come_from_the_journal_and_obey_nobody() {
    let lab = Lab::new();
    lab.apply(&task("a", ""));
    lab.run(&["logs", "a"])
        .exits(1)
        .complains("has not run yet")
        .complains("foreman explain task/a");
    let uid = lab.uid("a");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut journal = journal(&lab, &uid, 1).await;
        say(&mut journal, &first_turn());
        say(&mut journal, &second_turn());
        journal.sync().await.expect("synced");
    });
    lab.task_status(
        "a",
        &json!({"phase": "Succeeded", "verdict": "GO", "attempt": 1, "assignedNode": "studio"}),
    );
    // A process that was killed as it began the next claim's journal leaves an empty file.
    let begun = lab.data_dir().join("journals").join(&uid).join("2.journal");
    std::fs::write(begun, "").expect("written");
    let ended = lab.run(&["logs", "task/a"]).exits(0);
    assert!(ended.out.chars().all(|c| c == '\n' || !c.is_control()), "{ended:?}");
    let ended = ended.says("attempt 1 on studio, base 4e1f0c2").says("turn 1");
    let ended = ended.says("41k tokens in (94% cached), 310 out").says("model: I look first");
    ended.says("> bash {\"command\":\"ls\"}").says("< bash ok").says("outcome");
    let only = lab.run(&["logs", "a", "--turn", "2", "--tools", "none"]).exits(0);
    assert!(!only.out.contains("turn 1") && only.out.contains("turn 2"), "{only:?}");
    let full = lab.run(&["logs", "a", "--tools", "full"]).exits(0);
    full.says("    \"command\": \"ls\"");
    let raw = lab.run(&["logs", "a", "--raw"]).exits(0);
    assert!(raw.out.chars().all(|c| c == '\n' || !c.is_control()), "{raw:?}");
    let lines: Vec<Value> =
        raw.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[2]["message"]["content"], "I look \u{1b}[2Jfirst");
    lab.run(&["logs", "a", "--attempt", "2"]).exits(1).complains("--attempt 1");
    lab.run(&["describe", "task/a"]).exits(0).says("push 0, pull request 0, comments 0");
    lab.run(&["logs", "agent/x"]).exits(1);
    lab.run(&["logs", "-f", "a"]).exits(0).says("all done").complains("task/a Succeeded: GO");
}

#[test]
fn the_attempt_before_the_last_has_a_flag_of_its_own() {
    let lab = Lab::new();
    lab.apply(&task("a", ""));
    let uid = lab.uid("a");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let attempt = |number, entries: &[Value]| {
        runtime.block_on(async {
            let mut journal = journal(&lab, &uid, number).await;
            say(&mut journal, entries);
            journal.sync().await.expect("synced");
        });
    };
    attempt(1, &first_turn());
    let data_dir = lab.data_dir();
    let data_dir = data_dir.to_str().expect("text");
    let one = lab.run(&["logs", "-p", "a", "--data-dir", data_dir]).exits(1);
    one.complains("task/a has no earlier attempt here")
        .complains(&format!("next: foreman logs task/a --data-dir {data_dir}"));
    attempt(2, &second_turn());
    let before = lab.run(&["logs", "--previous", "a"]).exits(0).says("I look first");
    assert!(!before.out.contains("all done"), "{before:?}");
    lab.run(&["logs", "-p", "--attempt", "1", "a"]).exits(2);
}

#[test]
fn a_followed_log_goes_on_until_the_task_ends() {
    use std::io::{BufRead as _, BufReader};
    let lab = Lab::new();
    lab.apply(&task("a", ""));
    let uid = lab.uid("a");
    let mut command = lab.command(&["logs", "-f", "task/a"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    // Each line is waited for: the read returns when it comes, or fails when the program ends.
    let mut until = |wanted: &str| loop {
        let line = lines.next().expect("more is to come").expect("read");
        if line.contains(wanted) {
            break;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut journal = runtime.block_on(journal(&lab, &uid, 1));
    say(&mut journal, &first_turn());
    runtime.block_on(journal.sync()).expect("synced");
    until("< bash ok");
    say(&mut journal, &second_turn());
    runtime.block_on(journal.sync()).expect("synced");
    until("all done");
    lab.task_status("a", &json!({"phase": "Succeeded", "verdict": "GO"}));
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("task/a Succeeded"), "{output:?}");
}
