use foreman_core::model::API_VERSION;
use serde_json::{Value, json};

use super::*;

const GO: &str = r#"{"phase": "Succeeded", "verdict": "GO", "attempt": 1}"#;
const NO_GO: &str = r#"{"phase": "Succeeded", "verdict": "NO-GO", "attempt": 1}"#;

/// A task with a step's label and owner, as a workload makes them.
fn task(name: &str, depends_on: &[&str], status: &str) -> Object<AgenticTask> {
    let status: Value = serde_json::from_str(status).expect("JSON");
    let json = json!({"apiVersion": API_VERSION, "kind": "AgenticTask",
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
            "labels": {"foreman.llmkube.dev/workload": "w", "team": "blue"},
            "annotations": {"foreman.llmkube.dev/push-to": "/fork", "note": "mine",
                "foreman.llmkube.dev/claim-expiries": "2"},
            "ownerReferences": [{"apiVersion": API_VERSION, "kind": "Workload", "name": "w", "uid": "w"}]},
        "spec": {"kind": "issue-fix", "payload": {"prompt": "x"}, "dependsOn": depends_on,
            "suspend": false, "cancel": true},
        "status": status});
    Object::from_json(&json).expect("a task")
}

fn tasks(all: Vec<Object<AgenticTask>>) -> Tasks {
    all.into_iter().map(|task| (task.key(), task)).collect()
}

fn retry_of(of: &str, mut task: Object<AgenticTask>) -> Object<AgenticTask> {
    task.meta.annotations.insert(ANNOTATION_RETRY_OF.to_owned(), of.to_owned());
    task
}

/// `new(depends on …)` in the order of creation, or the error.
fn planned(all: &Tasks, names: &[&str], how: How) -> Result<Vec<String>, String> {
    let find = |name: &&str| all.values().find(|task| task.meta.name == *name).expect("there");
    let old: Vec<_> = names.iter().map(find).collect();
    let made = plan(&old, all, how).map_err(|failure| failure.to_string())?;
    Ok(made
        .iter()
        .map(|(_, new)| format!("{}({})", new.key.name, new.spec.depends_on.join(" ")))
        .collect())
}

#[test]
fn a_new_task_has_the_spec_and_nothing_of_the_old_life() {
    let old = task("w-code", &[], NO_GO);
    let all = tasks(vec![old.clone()]);
    let how = How { continues: true, turns: Some(40) };
    let made = plan(&[&old], &all, how).expect("planned");
    let new = &made[0].1;
    assert_eq!(new.key, Key::namespaced("default", "w-code-2"));
    assert_eq!(new.spec.payload, old.spec.payload);
    assert_eq!((new.spec.cancel, new.spec.suspend), (None, None));
    let continues = new.spec.continues.clone().expect("it goes on");
    assert_eq!(
        (continues.task.as_deref(), continues.uid.as_deref()),
        (Some("w-code"), Some("w-code"))
    );
    assert!(new.owner_references.is_empty());
    let labels: Vec<_> = new.labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["team"]);
    let annotations = json!({"foreman.llmkube.dev/push-to": "/fork", "note": "mine",
        "foreman.llmkube.dev/retry-of": "w-code", "foreman.llmkube.dev/max-turns": "40"});
    assert_eq!(json!(new.annotations), annotations);
}

#[test]
fn names_count_on_from_the_first() {
    let second = retry_of("issue-12", task("issue-12-2", &[], NO_GO));
    let all = tasks(vec![task("issue-12", &[], NO_GO), second]);
    for name in ["issue-12", "issue-12-2"] {
        assert_eq!(planned(&all, &[name], How::default()), Ok(vec!["issue-12-3()".to_owned()]));
    }
    let long = "x".repeat(OBJECT_NAME_BYTES_MAX);
    let all = tasks(vec![task(&long, &[], NO_GO)]);
    let made = planned(&all, &[&long], How::default()).expect("planned");
    assert_eq!(made[0].len(), OBJECT_NAME_BYTES_MAX + "()".len());
}

#[test]
fn what_is_tried_again_together_depends_on_each_other() {
    let skipped = r#"{"phase": "Succeeded", "verdict": "Skipped"}"#;
    let all = tasks(vec![
        task("code", &[], NO_GO),
        task("verify", &["code"], skipped),
        task("review", &["verify", "code"], skipped),
    ]);
    let made = planned(&all, &["review", "verify", "code", "code"], How::default());
    let wanted = ["code-2()", "verify-2(code-2)", "review-2(verify-2 code-2)"];
    assert_eq!(made, Ok(wanted.map(str::to_owned).to_vec()));
    let alone = planned(&all, &["verify"], How::default()).expect_err("code failed");
    assert!(alone.starts_with("task/code, on which task/verify depends, ended NO-GO"), "{alone}");
}

#[test]
fn a_dependency_is_what_ended_well_or_may_still() {
    let verify = || task("verify", &["code"], NO_GO);
    let made = |all: Vec<Object<AgenticTask>>| planned(&tasks(all), &["verify"], How::default());
    assert_eq!(made(vec![task("code", &[], GO), verify()]), Ok(vec!["verify-2(code)".to_owned()]));
    let again = retry_of("code", task("code-2", &[], r#"{"phase": "Running"}"#));
    let all = vec![task("code", &[], NO_GO), again, verify()];
    assert_eq!(made(all), Ok(vec!["verify-2(code-2)".to_owned()]));
    let failed = retry_of("code", task("code-2", &[], NO_GO));
    assert!(made(vec![task("code", &[], NO_GO), failed, verify()]).is_err());
    let missing = made(vec![verify()]).expect_err("it is not there");
    assert!(missing.contains("is not there"), "{missing}");
}

#[test]
fn what_lives_or_is_tried_already_is_refused() {
    let refused = |all: Vec<Object<AgenticTask>>, how| {
        planned(&tasks(all), &["a"], how).expect_err("refused")
    };
    let live = refused(
        vec![task("a", &[], r#"{"phase": "Running", "assignedNode": "n"}"#)],
        How::default(),
    );
    assert_eq!(live, "task/a has not ended (Running on n)");
    let again = retry_of("a", task("a-2", &[], r#"{"phase": "Pending"}"#));
    let twice = refused(vec![task("a", &[], NO_GO), again], How::default());
    assert_eq!(twice, "task/a-2 tries task/a again already");
    let how = How { continues: true, turns: None };
    let never = refused(vec![task("a", &[], r#"{"phase": "Failed"}"#)], how);
    assert_eq!(never, "task/a never ran: there is nothing to go on with");
    let mut gate = task("a", &[], NO_GO);
    gate.spec.kind = TaskKind::Verify.into();
    assert!(refused(vec![gate], how).contains("only runs a gate"));
}
