//! wait, suspend, resume, retry, cordon, uncordon, drain: what people ask of work and of nodes.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::lab::{Ended, Lab, node, now, task, workload};

/// Holds the lock of the data directory, as a process that works on the store does.
pub(super) fn work_on(lab: &Lab) -> File {
    std::fs::create_dir_all(lab.data_dir()).expect("made");
    let path = lab.data_dir().join("lock");
    std::fs::write(&path, "pid 1 (foreman up)\n").expect("written");
    let lock = File::options().write(true).open(path).expect("opened");
    lock.lock().expect("nobody else works here");
    lock
}

/// Starts a command and waits until its stderr says this.
fn start(lab: &Lab, arguments: &[&str], until: &str) -> Child {
    let mut command = lab.command(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let said = lines.by_ref().map_while(Result::ok).any(|line| line.contains(until));
    assert!(said, "{arguments:?} ended without {until:?}");
    // The rest is read on, so that the program is never held up by a full pipe.
    std::thread::spawn(move || lines.count());
    child
}

fn stdout_of(child: Child, code: i32) -> String {
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn succeeded() -> Value {
    json!({"phase": "Succeeded", "verdict": "GO"})
}

/// The only result, which is the last line.
fn result(ended: &Ended) -> Value {
    let lines: Vec<Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let results = lines.iter().filter(|line| line["type"] == "result").count();
    assert_eq!(results, 1, "{ended:?}");
    let last = lines.last().cloned().unwrap_or_default();
    assert_eq!(
        (&last["type"], last["exitCode"].as_i64()),
        (&json!("result"), ended.code.map(i64::from))
    );
    last
}

#[test]
fn a_wait_ends_with_the_code_of_what_came_of_it() {
    let lab = Lab::new();
    lab.apply(&(task("good", "") + &task("bad", "") + &task("broken", "") + &workload("w")));
    lab.task_status("good", &succeeded());
    lab.task_status("bad", &json!({"phase": "Succeeded", "verdict": "NO-GO"}));
    lab.task_status(
        "broken",
        &json!({"phase": "Failed", "verdict": "INCOMPLETE",
        "failureReason": "InfrastructureError"}),
    );
    lab.run(&["wait", "task/good"]).exits(0).says("task/good Succeeded: GO");
    let bad = lab.run(&["wait", "task/good", "task/bad"]).exits(3);
    bad.says("task/bad NotOnTarget: NO-GO").complains("next: foreman explain task/bad");
    lab.run(&["wait", "tasks", "good", "bad", "broken"]).exits(4);
    let report = lab.run(&["wait", "task/good", "task/bad", "-o", "json"]).exits(3).json();
    assert_eq!(report["finished"], "NotOnTarget");
    assert_eq!(
        report["objects"][0],
        json!({"object": "task/good", "namespace": "default",
        "finished": "Succeeded", "exitCode": 0,
        "message": "Succeeded: GO, not verified"})
    );
    lab.workload_status(
        "w",
        &json!({"phase": "Completed", "conditions": [{"type": "Finished",
        "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": now()}]}),
    );
    lab.run(&["wait", "w"]).exits(0).says("workload/w Succeeded (not verified)");
    lab.run(&["wait", "node/x"]).exits(2).complains("foreman drain node/x --wait");
    lab.run(&["wait", "task/goo"]).exits(1).complains("did you mean task/good?");
}

#[test]
fn a_wait_lasts_until_all_or_any_have_finished_and_says_that_nobody_works() {
    let lab = Lab::new();
    lab.apply(&(task("a", "") + &task("b", "")));
    let all = start(&lab, &["wait", "task/a", "task/b"], "nobody works on this store: foreman up");
    let any = start(&lab, &["wait", "task/a", "task/b", "--any"], "waiting for task/b: New");
    lab.task_status("a", &succeeded());
    assert_eq!(stdout_of(any, 0), "task/a Succeeded: GO, not verified\n");
    lab.task_status("b", &json!({"phase": "Succeeded", "verdict": "NO-GO"}));
    let text = stdout_of(all, 3);
    assert!(text.contains("task/a Succeeded") && text.contains("task/b NotOnTarget"), "{text}");
}

#[test]
fn a_wait_that_times_out_or_whose_object_goes_away_says_so() {
    let lab = Lab::new();
    lab.apply(&(task("a", "") + &task("b", "")));
    let _lock = work_on(&lab);
    let ended = lab.run(&["wait", "task/a", "task/b", "--timeout", "1", "-o", "jsonl"]).exits(6);
    let last = result(&ended);
    assert_eq!(last["unfinished"], json!(["task/a", "task/b"]));
    assert_eq!((&last["error"], &last["finished"]), (&json!("the wait timed out"), &Value::Null));
    let timed_out = lab.run(&["wait", "task/a", "--timeout", "0s"]).exits(6);
    timed_out.complains("the wait timed out; still going: task/a");
    let waiting = start(&lab, &["wait", "task/a"], "waiting for task/a");
    lab.run(&["delete", "task/a"]).exits(0);
    assert_eq!(stdout_of(waiting, 3), "task/a was deleted\n");
    lab.task_status(
        "b",
        &json!({"phase": "Pending",
        "waiting": {"reason": "BudgetExhausted", "message": "10 of 10 tokens are spent"}}),
    );
    lab.run(&["wait", "task/b"]).exits(5).says("waits for you: 10 of 10 tokens are spent");
    assert_eq!(result(&lab.run(&["wait", "task/none", "-o", "jsonl"]).exits(1))["verified"], false);
}

#[test]
fn tasks_and_workloads_are_paused_and_go_on() {
    let lab = Lab::new();
    lab.apply(&(task("a", "") + &task("b", "") + &task("c", "") + &workload("w")));
    lab.task_status("b", &json!({"phase": "Running", "attempt": 1, "assignedNode": "nn"}));
    lab.task_status("c", &succeeded());
    let ended = lab.run(&["suspend", "task/a", "task/b", "task/c", "w"]).exits(0);
    assert_eq!(
        ended.out,
        "task/a suspended: it is not placed before it is resumed\n\
         task/b suspended: it pauses at its next turn\n\
         task/c has ended already\n\
         workload/w suspended: its runs pause at their next turn\n"
    );
    ended.complains("nobody works on this store").complains("foreman up");
    let again = lab.run(&["suspend", "task/a", "task/b", "w"]).exits(0);
    assert_eq!(
        again.out,
        "task/a is suspended already\n\
         task/b is being suspended already: it pauses at its next turn\n\
         workload/w is suspended already\n"
    );
    assert!(again.err.is_empty(), "nothing was asked for: {again:?}");
    lab.run(&["get", "task/a", "-o", "json"]).exits(0).says("\"suspend\": true");
    let _lock = work_on(&lab);
    let ended = lab.run(&["resume", "task/a", "task/c", "w"]).exits(0);
    assert_eq!(
        ended.out,
        "task/a resumed: it goes on where it was\n\
         task/c has ended already\n\
         workload/w resumed: its tasks go on\n"
    );
    assert!(ended.err.is_empty(), "somebody works: {ended:?}");
    lab.run(&["resume", "task/a"]).exits(0).says("task/a is not suspended");
    lab.run(&["suspend", "node/nn"]).exits(2).complains("foreman cordon node/nn");
    lab.run(&["suspend", "task/zzz", "task/a"]).exits(1);
    lab.run(&["get", "task/a", "-o", "json"]).exits(0).says("\"suspend\": false");
}

/// A task of a workload, as the control loops make it.
fn child(lab: &Lab, name: &str, workload: &str) {
    use foreman_core::model::agentic_task::{AgenticTaskSpec, TaskKind};
    use foreman_core::model::{AgenticTask, Key, NewObject, Workload};
    use foreman_core::ports::Store;
    lab.with_store(async |store| {
        let workloads: &dyn Store<Workload> = &*store;
        let owner = workloads.get(&Key::namespaced("default", workload)).await.expect("read");
        let spec = AgenticTaskSpec::new(
            TaskKind::IssueFix,
            serde_json::from_value(json!({})).expect("empty"),
        );
        let mut new = NewObject::<AgenticTask>::new(Key::namespaced("default", name), spec);
        new.owner_references.push(owner.expect("there").as_owner());
        let tasks: &dyn Store<AgenticTask> = &*store;
        tasks.create(new).await.expect("created");
    });
}

#[test]
fn a_task_of_a_paused_workload_goes_on_with_it_and_one_can_be_paused_alone() {
    let lab = Lab::new();
    lab.apply(&workload("w"));
    child(&lab, "w-code", "w");
    lab.run(&["suspend", "w"]).exits(0);
    lab.run(&["suspend", "task/w-code"]).exits(0);
    lab.run(&["resume", "task/w-code"])
        .exits(2)
        .complains("is suspended with its workload/w")
        .complains("foreman resume workload/w");
    lab.run(&["resume", "task/w-code", "w"]).exits(0).says("task/w-code goes on with workload/w");
    lab.run(&["get", "w", "-o", "json"]).exits(2);
    lab.run(&["get", "workload/w", "-o", "json"]).exits(0).says("\"suspend\": false");
    lab.run(&["resume", "task/w-code"]).exits(0).says("resumed");
    lab.run(&["suspend", "task/w-code"]).exits(0);
    // The workload's own `false` would be copied to its tasks.
    let shown = lab.run(&["get", "workload/w", "-o", "json"]).exits(0).json();
    assert_eq!(shown["spec"].get("suspend"), None);
}

#[test]
fn a_node_is_closed_and_opened_with_a_note() {
    let lab = Lab::new();
    lab.apply(&(node("nn", "") + &node("mm", "") + &task("a", "")));
    lab.task_status("a", &json!({"phase": "Running", "attempt": 1, "assignedNode": "nn"}));
    let ended = lab.run(&["cordon", "nn", "node/mm", "-m", "on \u{1b}[2Jbattery"]).exits(0);
    assert_eq!(
        ended.out,
        "node/nn cordoned: nothing new is placed there; a goes on\n\
         node/mm cordoned: nothing new is placed there\n"
    );
    let shown = lab.run(&["get", "node/nn", "-o", "json"]).exits(0).json();
    assert_eq!(shown["metadata"]["annotations"]["foreman.llmkube.dev/note"], "on battery");
    lab.run(&["explain", "node/nn"]).exits(0).says("cordoned \"on battery\"");
    lab.run(&["cordon", "nn"]).exits(0).says("is cordoned already\n");
    lab.run(&["cordon", "nn", "-m", "other"]).exits(0).says("already; its note is changed");
    let drained = lab.run(&["drain", "nn", "--deadline", "10m"]).exits(0);
    drained.says("node/nn draining: a may finish within 10m").complains("nobody works");
    lab.run(&["drain", "nn"]).exits(0).says("is draining already");
    lab.run(&["drain", "nn", "--deadline", "0s"]).exits(0).says("a hands over now");
    lab.run(&["uncordon", "nn", "mm"])
        .exits(0)
        .says("node/nn uncordoned")
        .says("node/mm uncordoned");
    let shown = lab.run(&["get", "node/nn", "-o", "json"]).exits(0).json();
    assert_eq!(shown["spec"], json!({"nodeName": "nn"}));
    assert_eq!(shown["metadata"].get("annotations"), None);
    lab.run(&["uncordon", "nn"]).exits(0).says("is not cordoned");
    lab.run(&["cordon", "n"]).exits(1).complains("did you mean node/nn");
    lab.run(&["cordon", "task/a"]).exits(2).complains("foreman suspend task/a");
    lab.run(&["cordon", "nn", "-m", " "]).exits(2).complains("the note is empty");
}

#[test]
fn a_drain_can_be_waited_for() {
    let lab = Lab::new();
    lab.apply(&(node("nn", "") + &task("a", "")));
    lab.task_status("a", &json!({"phase": "Running", "attempt": 1, "assignedNode": "nn"}));
    let timed_out = lab.run(&["drain", "nn", "--wait", "--timeout", "0s"]).exits(6);
    timed_out.complains("the drain goes on");
    let waiting = start(&lab, &["drain", "nn", "--wait"], "waiting for node/nn: a");
    lab.node_status(
        "nn",
        &json!({"phase": "Draining", "conditions": [{"type": "Drained",
        "status": "True", "reason": "Empty", "message": "", "lastTransitionTime": now()}]}),
    );
    assert_eq!(stdout_of(waiting, 0), "node/nn is draining already\nnode/nn drained\n");
    lab.run(&["drain", "nn", "--timeout", "1s"]).exits(2).complains("--wait");
}

#[test]
fn a_task_that_ended_is_tried_again_as_a_new_one() {
    let lab = Lab::new();
    lab.apply(&(task("a", "  priority: 7\n") + &task("b", "  dependsOn: [a]\n") + &workload("w")));
    lab.run(&["retry", "a"])
        .exits(2)
        .complains("has not ended (New)")
        .complains("foreman wait task/a");
    lab.task_status(
        "a",
        &json!({"phase": "Succeeded", "verdict": "INCOMPLETE", "attempt": 1,
        "failureReason": "MaxTurnsExhausted", "usage": {"turns": 80}}),
    );
    lab.task_status("b", &json!({"phase": "Succeeded", "verdict": "Skipped"}));
    lab.run(&["retry", "b"]).exits(2).complains("foreman retry task/a task/b");
    lab.run(&["retry", "a", "--turns", "+40"]).exits(2).complains("--continue");
    let ended = lab.run(&["retry", "a", "--continue", "--turns", "+40"]).exits(0);
    assert_eq!(ended.out, "task/a-2 created: goes on with a after 80 turns, with 40 more turns\n");
    let ended =
        ended.complains("no journal of a is on this machine").complains("foreman wait task/a-2");
    ended.complains("nobody works on this store");
    let shown = lab.run(&["get", "task/a-2", "-o", "json"]).exits(0).json();
    assert_eq!(shown["spec"]["priority"], 7);
    assert_eq!(shown["spec"]["continues"], json!({"task": "a", "uid": lab.uid("a")}));
    assert_eq!(shown["metadata"]["annotations"]["foreman.llmkube.dev/max-turns"], "40");
    lab.run(&["retry", "a"]).exits(2).complains("task/a-2 tries task/a again already");
    lab.run(&["retry", "b"])
        .exits(0)
        .says("task/b-2 created: tries b again from the start, after a-2");
    lab.run(&["retry", "workload/w"]).exits(2).complains("foreman describe workload/w");
}

#[test]
fn a_workload_that_ended_keeps_its_result_when_its_task_is_tried_again() {
    let lab = Lab::new();
    lab.apply(&workload("w"));
    child(&lab, "w-code", "w");
    lab.task_status("w-code", &json!({"phase": "Failed", "verdict": "INCOMPLETE", "attempt": 1}));
    lab.workload_status("w", &json!({"phase": "Failed"}));
    lab.run(&["retry", "workload/w"]).exits(2).complains("foreman retry task/w-code");
    let ended = lab.run(&["retry", "w-code"]).exits(0).says("task/w-code-2 created");
    ended.complains("workload/w has ended and keeps its result; the new task stands alone");
    let shown = lab.run(&["get", "task/w-code-2", "-o", "json"]).exits(0).json();
    assert_eq!(shown["metadata"].get("ownerReferences"), None);
}
