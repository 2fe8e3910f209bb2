use serde_json::json;

use super::*;
use crate::model::Uid;
use crate::model::apiserver::check_label_value;
use crate::model::workload::WorkloadSpec;
use crate::timing::WORKLOAD_HASH_CHARS;
use crate::workload::expand;

fn workload_of(name: &str, steps: &[&str]) -> Object<Workload> {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            json!({"name": step, "kind": "verify", "agentRef": {"name": "a"}, "payload": {},
                "dependsOn": []})
        })
        .collect();
    Object::from_json(&json!({
        "metadata": {"name": name, "namespace": "d", "uid": "u-1", "resourceVersion": "1",
            "annotations": {"foreman.llmkube.dev/push-to": "/srv/fork"}},
        "spec": {"intent": "x", "pipeline": steps}}))
    .expect("valid")
}

#[test]
fn names_are_plain_while_they_can_be() {
    let choose = |workload: &str, step: &str, free: bool| {
        choose_name(&workload_of(workload, &[]), step, |_| free)
    };
    assert_eq!(choose("w", "code", true), "w-code");
    let taken = choose("w", "code", false);
    assert!(taken.starts_with("w-code-"), "{taken}");
    assert_eq!(taken.len(), "w-code-".len() + WORKLOAD_HASH_CHARS);
    assert_eq!(choose("w", "code", false), taken, "chosen the same each time");
    assert_ne!(choose("w", "test", false), taken);
    // A step may end in '-', an object's name may not.
    let odd = choose("w", "code-", true);
    assert!(odd.starts_with("w-code-") && check_object_name(&odd).is_ok(), "{odd}");
}

#[test]
fn names_are_cut_only_above_what_the_store_takes() {
    let name = |workload: usize, step: usize| {
        let workload = workload_of(&"w".repeat(workload), &[]);
        choose_name(&workload, &"s".repeat(step), |_| true)
    };
    let fits = name(126, 126);
    assert_eq!((fits.len(), fits.contains("w-s")), (253, true));
    for (workload, step) in [(127, 126), (253, 1), (253, 253), (1, 253)] {
        let cut = name(workload, step);
        assert!(cut.len() <= 253 && check_object_name(&cut).is_ok(), "{cut}");
        assert_ne!(cut, name(workload, step + 1), "two long names stay two");
    }
}

#[test]
fn labels_are_cut_above_63_and_still_tell_children_apart() {
    let long = ["a".repeat(64), "a".repeat(65), "-".repeat(64)];
    let mut seen = std::collections::BTreeSet::new();
    for text in long.iter().map(String::as_str).chain(["code", &"b".repeat(63)]) {
        let label = label(text);
        assert_eq!(check_label_value(&label), Ok(()), "{label}");
        assert!(seen.insert(label.clone()), "{label} stands for two");
        if text.len() <= 63 {
            assert_eq!(label, text);
        }
    }
}

fn rendered(name: &str, step: &str) -> (Object<Workload>, NewObject<AgenticTask>) {
    let workload = workload_of(name, &[step, "next"]);
    let mut spec: WorkloadSpec = workload.spec.clone();
    spec.pipeline[1].depends_on = vec![step.to_owned()];
    let steps = expand::desired(&spec).expect("a plan");
    let records: Vec<_> = steps
        .iter()
        .map(|step| StepRecord {
            name: step.name.clone(),
            task: Some(choose_name(&workload, &step.name, |_| true)),
            ..StepRecord::default()
        })
        .collect();
    let next = render(&workload, &steps[1], &records).expect("named");
    assert_eq!(Some(&next.spec.depends_on[0]), records[0].task.as_ref());
    assert_eq!(render(&workload, &steps[1], &records[1..]), None, "a dependency has no name yet");
    let first = render(&workload, &steps[0], &records).expect("named");
    (workload, first)
}

#[test]
fn a_child_is_known_by_owner_and_step_whatever_its_name() {
    for (name, step) in [("w", "code"), (&*"w".repeat(200), &*"s".repeat(100))] {
        let (workload, new) = rendered(name, step);
        assert_eq!(new.annotations["foreman.llmkube.dev/push-to"], "/srv/fork");
        let mut json = new.to_json();
        json["metadata"]["uid"] = json!("child");
        json["metadata"]["resourceVersion"] = json!("2");
        let child = Object::from_json(&json).expect("valid");
        assert!(is_child(&child, &workload, step));
        assert!(!is_child(&child, &workload, "other"));
        let mut other = workload.clone();
        other.meta.uid = Uid::new("u-2");
        assert!(!is_child(&child, &other, step), "a workload of the same name, made again");
    }
}

#[test]
fn only_a_workload_of_this_api_owns_a_task_and_only_the_very_one() {
    let owned = |api: &str, kind: &str, uid: &str| {
        Object::<AgenticTask>::from_json(&json!({
            "metadata": {"name": "t", "namespace": "d", "uid": "t", "resourceVersion": "1",
                "ownerReferences": [{"apiVersion": api, "kind": kind, "name": "w", "uid": uid}]},
            "spec": {"kind": "freeform", "payload": {}}}))
        .expect("valid")
    };
    let workload = workload_of("w", &[]);
    let all = BTreeMap::from([(workload.key(), workload.clone())]);
    let check = |task: &Object<AgenticTask>, named: bool, found: bool| {
        assert_eq!(task.workload().is_some(), named, "{:?}", task.meta.owner_references);
        assert_eq!(owner_among(task, &all).is_some(), found, "{:?}", task.meta.owner_references);
        assert_eq!(task.is_of(&workload.meta.uid), found, "{:?}", task.meta.owner_references);
    };
    check(&owned("foreman.llmkube.dev/v1alpha1", "Workload", "u-1"), true, true);
    check(&owned("foreman.llmkube.dev/v2", "Workload", "u-1"), true, true);
    check(&owned("foreman.llmkube.dev/v1alpha1", "Workload", "u-0"), true, false);
    check(&owned("foreman.llmkube.dev/v1alpha1", "Agent", "u-1"), false, false);
    check(&owned("kueue.x-k8s.io/v1beta1", "Workload", "u-1"), false, false);
    check(&owned("v1", "Workload", "u-1"), false, false);
}
