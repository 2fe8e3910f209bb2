//! apply, validate, delete, cancel.

use serde_json::json;

use crate::repository::{files, fixture};

use super::lab::{Lab, is_empty, node, task, workload};

#[test]
fn apply_creates_changes_and_leaves_alone() {
    let lab = Lab::new();
    let manifests = task("a", "") + &workload("w") + &node("nn", "  slots: 2\n");
    let ended = lab.apply(&manifests);
    assert_eq!(ended.out, "node/nn created\nworkload/w created\ntask/a created\n", "{ended:?}");
    let again = lab.apply(&manifests);
    assert_eq!(again.out, "node/nn unchanged\nworkload/w unchanged\ntask/a unchanged\n");
    let changed = lab.apply(&task("a", "  priority: 7\n"));
    assert_eq!(changed.out, "task/a configured\n");
    let back = lab.apply(&task("a", ""));
    assert_eq!(back.out, "task/a configured\n");
    let shown = lab.run(&["get", "task/a", "-o", "json"]).exits(0).json();
    assert_eq!(shown["spec"].get("priority"), None, "what is not said is gone");
    assert_eq!(shown["metadata"]["generation"], 3);
}

#[test]
fn apply_keeps_the_status_and_other_labels() {
    let lab = Lab::new();
    lab.apply(&task("a", ""));
    lab.task_status("a", &json!({"phase": "Pending", "fromTheFuture": {"kept": true}}));
    let labelled = task("a", "").replace("{name: a}", "{name: a, labels: {team: blue}}");
    assert_eq!(lab.apply(&labelled).out, "task/a configured\n");
    let shown = lab.run(&["get", "task/a", "-o", "json"]).exits(0);
    assert_eq!(shown.json()["status"]["phase"], "Pending");
    assert_eq!(shown.json()["status"]["fromTheFuture"]["kept"], true, "unknown fields survive");
    assert_eq!(lab.apply(&task("a", "")).out, "task/a unchanged\n");
    let shown = lab.run(&["get", "task/a", "-o", "json"]).exits(0).json();
    assert_eq!(shown["metadata"]["labels"]["team"], "blue");
    let yaml = lab.run(&["get", "task/a", "-o", "yaml"]).exits(0);
    assert_eq!(lab.apply(&yaml.out).out, "task/a unchanged\n", "what get prints can be applied");
}

#[test]
fn one_bad_manifest_and_nothing_is_written() {
    let lab = Lab::new();
    let bad = task("b", "  priorty: 7\n") + &task("c", "  timeoutSeconds: soon\n");
    let ended = lab.feed(&["apply", "-f", "-"], &(task("a", "") + &bad)).exits(2);
    let ended = ended.complains("<stdin>:15").complains("spec.priorty").complains("priority");
    ended.complains("spec.timeoutSeconds").complains("2 problems; nothing was changed");
    assert!(is_empty(&lab.data_dir()), "no store was made");
    lab.feed(&["apply", "-f", "-"], &(task("a", "") + &task("a", "")))
        .exits(2)
        .complains("task/a is there twice");
    let cycle = workload("w").replace("dependsOn: []", "dependsOn: [verify]");
    lab.feed(&["apply", "-f", "-"], &cycle).exits(2).complains("spec.pipeline");
}

#[test]
fn a_dry_run_says_and_does_nothing() {
    let lab = Lab::new();
    let ended = lab.feed(&["apply", "--dry-run", "-f", "-"], &task("a", "")).exits(0);
    assert_eq!(ended.out, "task/a created (dry run)\n");
    assert!(!lab.data_dir().exists());
    lab.apply(&task("a", ""));
    let changed = task("a", "  priority: 1\n");
    let ended = lab.feed(&["apply", "--dry-run", "-f", "-"], &changed).exits(0);
    assert_eq!(ended.out, "task/a configured (dry run)\n");
    lab.run(&["get", "task/a", "-o", "json"]).exits(0).says("\"generation\": 1");
}

#[test]
fn validate_names_every_problem_and_needs_no_store() {
    let lab = Lab::new();
    let good = lab.write("good.yaml", &workload("w"));
    let bad = lab.write("bad.yaml", "apiVersion: foreman.llmkube.dev/v1alpha1\nkind: Agent\n");
    lab.run(&["validate", "-f", &good]).exits(0).says("workload/w ok");
    let ended = lab.run(&["validate", "-f", &good, &bad]).exits(2);
    ended.complains("bad.yaml").complains("error: ").complains("nothing was changed");
    let report = lab.run(&["validate", "-o", "json", "-f", &bad]).exits(2).json();
    assert_eq!(report["valid"], false);
    assert!(report["findings"][0]["line"].is_u64(), "{report}");
    let later = lab.write("later.yaml", &workload("w").replace("kind: verify", "kind: reconcile"));
    lab.run(&["validate", "-f", &later]).exits(0).complains("warning: ").complains("kind");
    assert!(!lab.data_dir().exists());
}

#[test]
fn each_malformed_manifest_is_one_clear_refusal() {
    let lab = Lab::new();
    let folder = fixture("rejected");
    let files = files(&folder, ".yaml");
    assert!(files.len() >= 40, "only {} malformed manifests", files.len());
    for file in &files {
        let file = file.to_str().expect("text");
        for verb in ["validate", "apply"] {
            let ended = lab.run(&[verb, "-f", file]).exits(2);
            assert!(ended.err.starts_with("error: "), "{file}: {ended:?}");
            assert!(!ended.err.contains("panicked") && ended.out.is_empty(), "{file}: {ended:?}");
        }
    }
    assert!(!lab.data_dir().exists(), "nothing was made");
}

#[test]
fn delete_takes_what_is_owned_and_nothing_when_a_name_is_wrong() {
    let lab = Lab::new();
    lab.apply(&(task("a", "") + &task("b", "") + &workload("w")));
    lab.run(&["delete", "task/a", "task/bb"]).exits(1).complains("did you mean task/b?");
    lab.run(&["get", "tasks", "-o", "name"]).exits(0).says("task/a\ntask/b\n");
    let ended = lab.run(&["delete", "tasks", "a", "b"]).exits(0);
    assert_eq!(ended.out, "task/a deleted\ntask/b deleted\n");
    lab.run(&["delete", "task/a"]).exits(1);
    lab.run(&["delete", "--ignore-not-found", "task/a"]).exits(0);
    let file = lab.write("w.yaml", &workload("w"));
    lab.run(&["delete", "-f", &file]).exits(0).says("workload/w deleted");
    lab.run(&["delete", "-f", &file]).exits(1).complains("--ignore-not-found");
}

#[test]
fn cancel_asks_once_and_says_when_nobody_acts() {
    let lab = Lab::new();
    lab.apply(&(task("a", "") + &task("b", "") + &workload("w") + &node("nn", "")));
    let ended = lab.run(&["cancel", "task/a", "w"]).exits(0);
    assert_eq!(ended.out, "task/a cancel requested\nworkload/w cancel requested\n");
    ended.complains("foreman up");
    lab.run(&["cancel", "task/a"]).exits(0).says("is being cancelled already");
    lab.run(&["get", "task/a", "-o", "json"]).exits(0).says("\"cancel\": true");
    lab.task_status("b", &json!({"phase": "Succeeded", "verdict": "GO"}));
    lab.run(&["cancel", "task/b"]).exits(0).says("has ended already");
    let _lock = super::asking::work_on(&lab);
    let ended = lab.run(&["cancel", "workload/@latest"]).exits(0);
    assert!(ended.err.is_empty(), "{ended:?}");
    lab.run(&["cancel", "task/zzz", "w"]).exits(1).complains("there is no task \"zzz\"");
}
