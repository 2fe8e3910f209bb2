//! get and explain.

use serde_json::json;

use super::lab::{Lab, node, now, task, workload};

#[test]
fn an_empty_machine_is_no_error_and_shows_the_way() {
    let lab = Lab::new();
    let ended = lab.run(&["get", "tasks"]).exits(0);
    assert_eq!(ended.out, "");
    ended.complains("no tasks yet; start with foreman run");
    lab.run(&["get", "tasks", "-o", "json"]).exits(0).says("\"items\": []");
    lab.run(&["get", "task/a"]).exits(1).complains("there is no store yet").complains("next: ");
    lab.run(&["explain", "task/a"]).exits(1).complains("there is no store yet");
    assert!(!lab.data_dir().exists(), "reading makes nothing");
}

#[test]
fn lists_are_selected_sorted_and_shown_in_every_form() {
    let lab = Lab::new();
    lab.apply(
        &(task("a", "  priority: 2\n")
            + &task("b", "  priority: 10\n")
            + &task("c", "").replace("{name: c}", "{name: c, labels: {team: blue}}")
            + &task("d", "").replace("{name: d}", "{name: d, namespace: other}")
            + &workload("w")),
    );
    lab.task_status(
        "a",
        &json!({"phase": "Pending",
        "waiting": {"reason": "NodesBusy", "message": "0/3 nodes fit"}}),
    );
    lab.task_status(
        "b",
        &json!({"phase": "Succeeded", "verdict": "GO", "usage": {"turns": 14},
        "outcome": {"decision": "Go", "verification": "Passed", "infrastructure": "Ok"}}),
    );
    let ended = lab.run(&["get", "tasks"]).exits(0);
    let first = ended.out.lines().next().unwrap_or_default().to_owned();
    let headings: Vec<&str> = first.split_whitespace().collect();
    assert_eq!(
        headings,
        ["NAME", "KIND", "PHASE", "NODE", "VERDICT", "VERIFIED", "TURNS", "REASON", "AGE"]
    );
    ended.says("NodesBusy").says("Passed");
    let names = |arguments: &[&str]| {
        let mut all = vec!["get", "tasks", "-o", "name"];
        all.extend(arguments);
        lab.run(&all)
            .exits(0)
            .out
            .replace("task/", "")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let columns = ["get", "tasks", "-o", "custom-columns=N:.metadata.name,P:.status.phase"];
    let ended = lab.run(&columns).exits(0);
    assert_eq!(ended.out, "N  P\na  Pending\nb  Succeeded\nc  <none>\n");
    for (wrong, rule) in [
        ("custom-columns", "names no column: write custom-columns=NAME:PATH"),
        ("custom-columns=N", "column \"N\" is not NAME:PATH"),
        ("custom-columns=N:.a[", "is not a path: use fields"),
    ] {
        lab.run(&["get", "tasks", "-o", wrong]).exits(2).complains(rule);
    }
    assert_eq!(names(&[]), "a b c");
    assert_eq!(names(&["-A"]), "a b c d");
    assert_eq!(names(&["-n", "other"]), "d");
    assert_eq!(names(&["-l", "team=blue"]), "c");
    assert_eq!(names(&["--field-selector", "phase=Pending"]), "a");
    assert_eq!(names(&["--field-selector", "phase!=Pending,name!=c"]), "b");
    assert_eq!(names(&["--sort-by", ".spec.priority"]), "c a b");
    lab.run(&["get", "tasks", "--field-selector", "phase=Running"])
        .exits(0)
        .complains("no tasks match");
    let wide = lab.run(&["get", "at", "-o", "wide", "--no-headers"]).exits(0);
    assert!(!wide.out.contains("ATTEMPT"), "{wide:?}");
    let both = lab.run(&["get", "workloads,tasks"]).exits(0);
    both.says("workload/w").says("task/a");
    let one = lab.run(&["get", "task", "b", "-o", "json"]).exits(0).json();
    assert_eq!(one["kind"], "AgenticTask");
    let two = lab.run(&["get", "task/a", "task/b", "-o", "json"]).exits(0).json();
    assert_eq!(two["items"].as_array().map(Vec::len), Some(2));
    let yaml = lab.run(&["get", "task/b", "-o", "yaml"]).exits(0);
    let yaml: serde_json::Value = serde_saphyr::from_str(&yaml.out).expect("YAML");
    assert_eq!(yaml, one);
    lab.run(&["get", "task/d"]).exits(1).complains("in namespace other: add -n other");
    lab.run(&["get", "task/aa"]).exits(1).complains("did you mean task/a");
}

#[test]
fn text_of_others_is_shown_and_never_obeyed() {
    let lab = Lab::new();
    lab.apply(&task("a", ""));
    let evil = "x\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[2J\u{9b}31m\u{202e}y";
    lab.task_status(
        "a",
        &json!({"phase": "Pending", "branch": evil,
        "waiting": {"reason": "NodesBusy", "message": evil},
        "result": {"summary": evil}}),
    );
    for arguments in [
        &["get", "tasks"][..],
        &["get", "task/a", "-o", "json"],
        &["get", "task/a", "-o", "yaml"],
        &["describe", "task/a"],
        &["explain", "task/a"],
    ] {
        let ended = lab.run(arguments).exits(0);
        let bad = ended
            .out
            .chars()
            .find(|c| (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}'));
        assert_eq!(bad, None, "{arguments:?}: {ended:?}");
    }
    let shown = lab.run(&["get", "task/a", "-o", "json"]).json();
    assert_eq!(shown["status"]["branch"], evil, "the machine form loses nothing");
}

fn ready(models: &serde_json::Value) -> serde_json::Value {
    json!({"phase": "Ready", "session": "s", "lastHeartbeatTime": now(),
        "capacity": {"slots": 1, "ramGB": 64},
        "capability": {"totalRAMGB": 64, "availableRAMGB": 16, "accelerator": "cuda",
            "maxContextTokens": 32768, "models": models}})
}

#[test]
fn a_waiting_task_is_explained_node_by_node() {
    let lab = Lab::new();
    let needs = "  requiredCapability: {accelerator: cuda, minRAMGB: 24}\n";
    let cordoned = node("air", "  unschedulable: true\n")
        .replace("{name: air}", "{name: air, annotations: {foreman.llmkube.dev/note: on battery}}");
    lab.apply(
        &(task("docs", needs)
            + &task("first", "  priority: 5\n")
            + &node("studio", "")
            + &cordoned),
    );
    lab.task_status("docs", &json!({"phase": "Pending",
        "waiting": {"reason": "NodesBusy", "message": "0/2 nodes fit", "since": "2026-11-24T08:00:00Z"}}));
    for name in ["studio", "air"] {
        lab.node_status(name, &ready(&json!([])));
    }
    let ended = lab.run(&["explain", "task/docs"]).exits(0);
    let ended = ended.says("Pending").says("0/2 nodes fit").says("2nd in line of 2 (priority 0)");
    let ended = ended.says("needs").says("accelerator cuda, 24 GB free");
    let ended = ended.says("studio").says("16 of 24 GB free");
    let ended = ended.says("air").says("cordoned: \"on battery\"");
    ended.says("would run now if: +8 GB free on studio");
    lab.node_status(
        "studio",
        &json!({"capability": {"totalRAMGB": 64, "availableRAMGB": 48, "accelerator": "cuda"}}),
    );
    lab.run(&["explain", "task", "docs"]).exits(0).says("fits: studio");
    let ended = lab.run(&["explain", "node/studio"]).exits(0);
    ended.says("48 of 64 GB memory free").says("0 of 1 in use").says("2 tasks wait").says("docs");
}

/// Three unlike nodes, and the whole answer word for word but for ages.
#[test]
fn three_unlike_nodes_refuse_with_counts_numbers_and_ways_out() {
    let lab = Lab::new();
    let needs =
        "  requiredCapability: {accelerator: cuda, minRAMGB: 24, minContextTokens: 32768}\n";
    let air = node("air", "  unschedulable: true\n")
        .replace("{name: air}", "{name: air, annotations: {foreman.llmkube.dev/note: on battery}}");
    let nodes = node("studio", "") + &node("tower", "") + &air;
    lab.apply(&(task("docs-91-code", needs) + &task("fix-review", "") + &nodes));
    lab.node_status("studio", &ready(&json!([])));
    lab.node_status("tower", &ready(&json!([])));
    let roomy = json!({"totalRAMGB": 64, "availableRAMGB": 48, "accelerator": "cuda",
        "maxContextTokens": 65536});
    for name in ["studio", "air"] {
        lab.node_status(name, &ready(&json!([])));
        lab.node_status(name, &json!({"capability": roomy}));
    }
    let uid = lab.uid("fix-review");
    lab.task_status(
        "fix-review",
        &json!({"phase": "Running", "assignedNode": "studio", "attempt": 1, "session": "s",
            "claimedAt": now(), "startedAt": now()}),
    );
    lab.node_status(
        "studio",
        &json!({"runs": [{"task": "default/fix-review", "uid": uid, "attempt": 1,
            "stage": "Model", "turn": 2, "tokens": 900, "lastProgressTime": now()}]}),
    );
    let ended = lab.run(&["explain", "task/docs-91-code"]).exits(0);
    let ended = ended.says("NodesBusy. 0/3 nodes fit: ").says("1 cordoned").says("1 busy");
    let ended = ended.says("1st in line of 1 (priority 0)");
    let line = |name: &str| {
        let begins = format!("  {name} ");
        let found = ended.out.lines().find(|line| line.starts_with(&begins));
        found.unwrap_or_else(|| panic!("{name} of {}", ended.out)).to_owned()
    };
    for (name, words) in [
        ("needs", &["accelerator cuda", "24 GB free", "context"][..]),
        ("studio", &["busy", "1/1 slots: fix-review", "turn 2"]),
        ("tower", &["16 of 24 GB free"]),
        ("air", &["refused", "cordoned: \"on battery\""]),
    ] {
        let line = line(name);
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} of {line}");
    }
    let out = ended.out.lines().find(|line| line.starts_with("would run now if: "));
    let out = out.unwrap_or_else(|| panic!("no remedy in {}", ended.out));
    for remedy in
        ["would run now if: ", "foreman uncordon node/air", "+8 GB free on tower", "studio"]
    {
        assert!(out.contains(remedy), "{remedy} of {out}");
    }
    let last = "nobody works on this store: start foreman up";
    assert_eq!(ended.out.lines().last(), Some(last), "nothing is placed by itself");
}

#[test]
fn what_comes_before_is_named() {
    let lab = Lab::new();
    let later = task("later", "  dependsOn: [first, gone]\n  agentRef: {name: nobody}\n");
    lab.apply(&(later + &task("first", "")));
    let ended = lab.run(&["explain", "task/later"]).exits(0);
    let ended = ended.says(": DependencyMissing. there is no task gone (");
    let ended = ended.says("waits for: task/first: New").says("task/gone, which is not there");
    assert!(!ended.out.contains("in line"), "{ended:?}");
    lab.task_status("first", &json!({"phase": "Succeeded", "verdict": "NO-GO"}));
    let ended = lab.run(&["explain", "task/later"]).exits(0);
    ended.says(": ends. first ended off target").says("task/first: ended Succeeded (NO-GO");
    lab.apply(&task("alone", "  agentRef: {name: nobody}\n"));
    let ended = lab.run(&["explain", "task/alone"]).exits(0);
    ended.says(": AgentMissing. there is no Agent nobody (").says("needs  any node");
}

#[test]
fn running_and_ended_tasks_say_what_they_do_and_why_they_ended() {
    let lab = Lab::new();
    lab.apply(&(task("a", "") + &task("b", "") + &node("tower", "")));
    let uid = lab.uid("a");
    lab.node_status(
        "tower",
        &json!({"phase": "Ready", "session": "s", "lastHeartbeatTime": now(),
        "runs": [{"task": "default/a", "uid": uid, "attempt": 2, "stage": "Model", "turn": 3,
            "tokens": 14_200, "lastProgressTime": now()}]}),
    );
    lab.task_status(
        "a",
        &json!({"phase": "Running", "assignedNode": "tower", "attempt": 2,
        "session": "s", "claimedAt": now(), "startedAt": now()}),
    );
    let ended = lab.run(&["explain", "task/a"]).exits(0);
    ended.says("Running").says("on tower, attempt 2").says("turn 3, Model, 14k tokens");
    lab.run(&["get", "tasks"]).exits(0).says("tower  -        -         3");
    lab.task_status(
        "b",
        &json!({"phase": "Failed", "verdict": "INCOMPLETE", "finishedAt": now(),
        "failureReason": "InfrastructureError", "outcome": {"decision": "Go",
            "verification": "Passed", "infrastructure": "PushRefused"},
        "conditions": [{"type": "Finished", "status": "True", "reason": "Infrastructure",
            "message": "the branch was moved by somebody else", "lastTransitionTime": now()}]}),
    );
    let ended = lab.run(&["explain", "task/b"]).exits(0);
    let ended = ended.says("INCOMPLETE").says("infrastructure: PushRefused");
    ended.says("because: the branch was moved by somebody else").says("next: foreman logs task/b");
}

#[test]
fn fields_are_explained_from_the_schema() {
    let lab = Lab::new();
    lab.run(&["explain", "workload.spec.pipeline"]).exits(0).says("agentRef").says("-required-");
    lab.run(&["explain", "at.spec.kind"]).exits(0).says("one of: issue-fix");
    lab.run(&["explain", "task.spec.payload.promt"]).exits(2).complains("task.spec.payload.prompt");
}
