//! why-not, what-if, and what explain says of the line.

use serde_json::{Value, json};

use super::asking::work_on;
use super::lab::{Lab, node, now, task};

/// A node whose agent is there.
fn ready(lab: &Lab, name: &str, ram_gb: i64) {
    lab.node_status(
        name,
        &json!({"phase": "Ready", "session": "s", "lastHeartbeatTime": now(),
        "capacity": {"slots": 1, "ramGB": ram_gb},
        "capability": {"totalRAMGB": ram_gb, "availableRAMGB": ram_gb, "accelerator": "cuda"}}),
    );
}

fn running(node: &str) -> Value {
    json!({"phase": "Running", "attempt": 1, "assignedNode": node, "session": "s",
        "claimedAt": now(), "startedAt": now()})
}

const NEEDS_24: &str = "  requiredCapability: {minRAMGB: 24}\n";

/// `studio` is busy, `tower` too small, `air` cordoned; `big` needs 24 GB.
fn fleet() -> Lab {
    let lab = Lab::new();
    lab.apply(
        &(node("studio", "")
            + &node("tower", "")
            + &node("air", "")
            + &task("held", "")
            + &task("big", NEEDS_24)
            + &task("small", "  priority: -1\n")),
    );
    ready(&lab, "studio", 64);
    ready(&lab, "tower", 16);
    ready(&lab, "air", 64);
    lab.run(&["cordon", "air", "-m", "on battery"]).exits(0);
    lab.task_status("held", &running("studio"));
    lab
}

#[test]
fn why_not_says_what_one_node_lacks_or_what_comes_first() {
    let lab = fleet();
    let ended = lab.run(&["why-not", "big", "tower"]).exits(0).says("task/big does not fit there");
    let ended = ended.says("16 of 24 GB").says("would fit if: +8 GB free on tower");
    ended.says("nobody works on this store: start foreman up");
    let _lock = work_on(&lab);
    let ended = lab.run(&["why-not", "task/big", "node/studio"]).exits(0).says("1/1 slots: held");
    assert!(!ended.out.contains("nobody works"), "{ended:?}");
    lab.run(&["why-not", "big", "air"]).exits(0).says("cordoned: \"on battery\"");
    lab.run(&["why-not", "small", "tower"]).exits(0).says("it is about to be placed there");
    lab.run(&["why-not", "held", "studio"]).exits(0).says("task/held is there: Running on studio");
    lab.run(&["why-not", "held", "tower"]).exits(0).says("it is on studio");
    lab.run(&["suspend", "task/small"]).exits(0);
    let ended = lab.run(&["why-not", "small", "tower"]).exits(0).says("foreman resume task/small");
    ended.says("no node is looked for before");
    lab.task_status("small", &json!({"phase": "Succeeded", "verdict": "GO"}));
    lab.run(&["why-not", "small", "tower"]).exits(0).says("has ended: GO");
    lab.run(&["why-not", "big", "towr"]).exits(1).complains("did you mean node/tower");
    lab.run(&["why-not", "node/air", "task/big"]).exits(2).complains("foreman why-not TASK NODE");
}

#[test]
fn the_room_of_one_goes_to_whoever_is_before_it_in_line() {
    let lab = Lab::new();
    lab.apply(&(node("studio", "") + &task("first", "  priority: 5\n") + &task("second", "")));
    ready(&lab, "studio", 64);
    let ended = lab.run(&["why-not", "second", "studio"]).exits(0).says("fits there");
    ended.says("the room there goes to what is before it in line: first");
    lab.run(&["explain", "task/second"]).exits(0).says("2nd in line of 2");
    let ended = lab.run(&["what-if", "second", "--priority", "9"]).exits(0);
    ended.says("would run now").says("on studio").says("would wait instead: first");
    let ended = lab.run(&["what-if", "second", "--slots", "studio=2"]).exits(0);
    ended.says("would run now").says("2nd in line of 2");
    let ended = lab.run(&["what-if", "first", "--priority", "-7"]).exits(0);
    ended.says("would not run any more").says("would also run: second");
}

#[test]
fn what_if_plays_the_line_through_and_changes_nothing() {
    let lab = fleet();
    let still = lab.run(&["what-if", "big", "--priority", "3"]).exits(0);
    still.says("would still wait").says("waits: NodesBusy: 0/3 nodes fit");
    for wish in [
        &["--uncordon", "air"][..],
        &["--slots", "studio=2"],
        &["--node-like", "node/studio"],
        &["--ram-gb", "16"],
    ] {
        let ended = lab.run(&[&["what-if", "task/big"], wish].concat()).exits(0);
        ended.says("task/big would run now").says("nobody works on this store");
    }
    let another = lab.run(&["what-if", "big", "--node-like", "studio"]).exits(0);
    another.says("on studio-2");
    let small = lab.run(&["what-if", "big", "--node-like", "tower"]).exits(0);
    small.says("would still wait").says("0/4 nodes fit");
    lab.run(&["what-if", "big"]).exits(2).complains("--slots");
    lab.run(&["what-if", "big", "--uncordon", "aire"]).exits(1).complains("did you mean node/air");
    lab.run(&["what-if", "held", "--priority", "1"])
        .exits(2)
        .complains("does not wait: Running on studio");
    let shown = lab.run(&["get", "node/air", "-o", "json"]).exits(0).json();
    assert_eq!(shown["spec"]["unschedulable"], true);
    lab.run(&["get", "nodes", "-o", "name"]).exits(0).says("node/studio\n");
}

#[test]
fn a_task_that_no_node_is_looked_for_is_not_in_line() {
    let lab = Lab::new();
    lab.apply(&(node("studio", "") + &task("a", "") + &task("b", "  dependsOn: [a]\n")));
    ready(&lab, "studio", 64);
    let ended = lab.run(&["explain", "task/b"]).exits(0).says(": Dependency. waits for a (");
    assert!(!ended.out.contains("in line"), "{ended:?}");
    lab.run(&["explain", "node/studio"]).exits(0).says("Dependency: waits for a");
    // Two claims of it were lost just now: nothing but the objects says so.
    let annotations = "annotations: {foreman.llmkube.dev/claim-expiries: \"2\", \
         foreman.llmkube.dev/struck: \"2/studio\"}";
    lab.apply(&task("a", "").replace("{name: a}", &format!("{{name: a, {annotations}}}")));
    let lost = |attempt: i64| {
        json!({"attempt": attempt, "node": "studio", "session": "s", "startedAt": now(),
        "endedAt": now(), "ended": "NodeLost"})
    };
    let attempts = [lost(1), lost(2)];
    lab.task_status("a", &json!({"phase": "Pending", "attempt": 2, "attempts": attempts}));
    let ended = lab.run(&["explain", "task/a"]).exits(0).says(": Backoff. ").says("2 of 3");
    assert!(!ended.out.contains("in line"), "{ended:?}");
}

#[test]
fn what_the_policy_keeps_in_the_house_waits_and_is_explained_by_it() {
    let lab = Lab::new();
    let far = "---\napiVersion: foreman.llmkube.dev/v1alpha1\nkind: Agent\nmetadata: {name: far}\n\
         spec:\n  role: coder\n  tools: [bash]\n  provider: cloud-proxy\n";
    lab.apply(&(node("studio", "") + far + &task("a", "  agentRef: {name: far}\n")));
    ready(&lab, "studio", 64);
    lab.run(&["explain", "task/a"]).exits(0).says("studio fits now");
    lab.write("home/.config/foreman/config.toml", "allow-cloud-providers = false\n");
    let ended = lab.run(&["explain", "task/a"]).exits(0).says(": PolicyForbids. ");
    let ended = ended.says("the model of Agent far is in the cloud");
    assert!(!ended.out.contains("in line"), "{ended:?}");
    lab.run(&["why-not", "a", "studio"]).exits(0).says("PolicyForbids");
}

#[test]
fn the_event_stream_has_its_one_result_whatever_is_wrong_with_the_command_line() {
    let lab = Lab::new();
    let result = |arguments: &[&str], code: i32| {
        let ended = lab.run(arguments).exits(code);
        let lines: Vec<&str> = ended.out.lines().collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {ended:?}");
        let line: Value = serde_json::from_str(lines[0]).expect("JSON");
        assert_eq!((&line["type"], &line["exitCode"]), (&json!("result"), &json!(code)));
        assert!(line["error"].is_string(), "{line}");
    };
    result(&["run", "-o", "jsonl", "--no-such-flag"], 2);
    result(&["run", "--output=jsonl"], 2);
    result(&["--namespace", "default", "run", "-ojsonl", "--timeout", "soon", "x"], 2);
    result(&["wait", "-o", "jsonl"], 2);
    result(&["wait", "w", "-o", "jsonl", "--namespace", "Not Valid"], 2);
    result(&["demo", "-o", "jsonl", "--log-level", "=["], 2);
    for silent in
        [&["get", "-o", "jsonl", "tasks"][..], &["run", "--no-such-flag"], &["run", "-o", "json"]]
    {
        assert!(lab.run(silent).exits(2).out.is_empty(), "{silent:?}");
    }
    assert!(!lab.run(&["run", "-o", "jsonl", "--help"]).exits(0).out.contains("\"result\""));
}
