use serde_json::{Value, json};

use super::*;

fn workload(budget: &Value, steps: &[(&str, bool)]) -> Object<Workload> {
    let steps: Vec<_> = steps
        .iter()
        .map(|(name, settled)| json!({"name": name, "task": name, "settled": settled}))
        .collect();
    Object::from_json(&json!({
        "metadata": {"name": "w", "namespace": "default", "uid": "w", "resourceVersion": "1"},
        "spec": {"intent": "x", "budget": budget}, "status": {"steps": steps}}))
    .expect("valid")
}

fn tasks(list: &[(&str, Value)]) -> BTreeMap<Key, Object<AgenticTask>> {
    let make = |(name, status): &(&str, Value)| {
        let task: Object<AgenticTask> = Object::from_json(&json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
                "ownerReferences": [{"apiVersion": "foreman.llmkube.dev/v1alpha1",
                    "kind": "Workload", "name": "w", "uid": "w"}]},
            "spec": {"kind": "freeform", "payload": {}}, "status": status}))
        .expect("valid");
        (task.key(), task)
    };
    list.iter().map(make).collect()
}

fn spent(phase: &str, tokens: i64, allowance: Option<i64>) -> Value {
    json!({"phase": phase, "allowance": allowance,
        "usage": {"promptTokens": tokens, "completionTokens": 0, "turns": 2}})
}

#[test]
fn what_is_left_is_shared_among_the_steps_that_have_nothing_reserved() {
    let steps = [("a", true), ("b", false), ("c", false), ("d", false)];
    let list = tasks(&[
        ("a", spent("Succeeded", 100, None)),
        ("b", spent("Running", 50, Some(150))),
        ("c", json!({"phase": "Pending"})),
    ]);
    let of = |tokens: i64| {
        ledger(&workload(&json!({"tokens": tokens}), &steps), &list, |_| None).expect("a budget")
    };
    let plenty = of(700);
    assert_eq!((plenty.used, plenty.reserved, plenty.open), (150, 150, 2));
    assert_eq!(plenty.share(), Some(200));
    assert_eq!(plenty.exhausted("w"), None);
    assert_eq!(of(301).share(), Some(1), "the last token goes to whoever comes first");
    let none = of(300);
    assert_eq!(none.share(), Some(0));
    assert_eq!(
        none.exhausted("w").as_deref(),
        Some(
            "150 of 300 tokens of the Workload are spent and 150 reserved: \
             raise spec.budget.tokens of Workload w to go on"
        )
    );
    assert_eq!(of(100).share(), Some(0), "a limit that was lowered below what is used");
    assert!(ledger(&workload(&Value::Null, &steps), &list, |_| None).is_none());
}

#[test]
fn a_placement_on_its_way_is_reserved_already() {
    let list = tasks(&[("a", json!({"phase": "Pending"})), ("b", json!({"phase": "Pending"}))]);
    let limit = workload(&json!({"tokens": 100}), &[("a", false), ("b", false)]);
    let placing = |key: &Key| (key.name == "a").then_some(50);
    let known = ledger(&limit, &list, placing).expect("a budget");
    assert_eq!((known.reserved, known.open, known.share()), (50, 1, Some(50)));
}

#[test]
fn turns_and_seconds_of_a_workload_stop_further_placements() {
    let list = tasks(&[("a", spent("Running", 5, None))]);
    let limit = workload(&json!({"turns": 2}), &[("a", false), ("b", false)]);
    let known = ledger(&limit, &list, |_| None).expect("a budget");
    assert_eq!(known.share(), None, "tokens are not limited");
    assert_eq!(
        known.exhausted("w").as_deref(),
        Some(
            "2 of 2 turns of the Workload are spent: raise spec.budget.turns of Workload w to go on"
        )
    );
}

#[test]
fn an_allowance_is_no_more_than_what_the_task_has_left_itself() {
    let mut list = tasks(&[("a", spent("Pending", 40, None))]);
    let task = list.values_mut().next().expect("one");
    assert_eq!(allowance(task, Some(70)), Some(70));
    assert_eq!(allowance(task, None), None, "its own limit stands in its spec");
    task.spec.budget = serde_json::from_value(json!({"tokens": 100})).expect("valid");
    assert_eq!(allowance(task, Some(70)), Some(60));
    assert_eq!(allowance(task, Some(7)), Some(7));
}

#[test]
fn a_dead_holder_is_charged_all_that_it_might_have_spent() {
    let of = |status: Value| {
        charge_dead_holder(&tasks(&[("a", status)]).into_values().next().expect("one").status)
    };
    let charged = of(spent("Running", 40, Some(60))).expect("charged");
    assert_eq!(
        (tokens(Some(&charged)), charged.estimated, charged.turns),
        (100, Some(true), Some(2))
    );
    assert_eq!(of(spent("Running", 40, None)), None);
    assert_eq!(of(spent("Scheduled", 40, Some(60))), None, "nobody claimed it");
}

#[test]
fn what_a_step_spent_counts_when_its_task_is_gone_and_when_another_took_its_place() {
    let limit = |records: Value| -> Object<Workload> {
        Object::from_json(&json!({
            "metadata": {"name": "w", "namespace": "default", "uid": "w", "resourceVersion": "1"},
            "spec": {"intent": "x", "budget": {"tokens": 1000, "turns": 9}},
            "status": {"steps": records}}))
        .expect("valid")
    };
    let used = |records: Value, list: &[(&str, Value)]| {
        let known = ledger(&limit(records), &tasks(list), |_| None).expect("a budget");
        (known.used, known.spent)
    };
    let a = |uid: &str| {
        json!([{"name": "a", "task": "a", "uid": uid, "spent": {"tokens": 100, "turns": 5},
            "spentBefore": {"tokens": 20, "turns": 3}}])
    };
    assert_eq!(used(a("a"), &[]), (120, None), "its task was deleted");
    let again = spent("Running", 150, None);
    assert_eq!(used(a("a"), &[("a", again.clone())]), (170, None), "its task says more");
    let (tokens, turns) = used(a("gone"), &[("a", again)]);
    assert_eq!(tokens, 270, "another task stands for it now");
    assert_eq!(turns.as_deref(), Some("10 of 9 turns"));
}

#[test]
fn a_run_that_paused_for_its_share_gets_all_that_is_left() {
    let steps = [("a", false), ("b", false), ("c", false)];
    let paused =
        json!({"phase": "Pending", "attempts": [{"attempt": 1, "ended": "BudgetExhausted"}]});
    let list = tasks(&[
        ("a", paused),
        ("b", json!({"phase": "Pending"})),
        ("c", spent("Running", 10, Some(20))),
    ]);
    let known = ledger(&workload(&json!({"tokens": 100}), &steps), &list, |_| None);
    let known = known.expect("a budget");
    let shares: Vec<_> = list.values().map(|task| known.share_of(task)).collect();
    assert_eq!(shares, [Some(70), Some(35), Some(35)]);
    let none = Ledger { limit: None, ..known };
    assert_eq!(list.values().map(|task| none.share_of(task)).collect::<Vec<_>>(), [None; 3]);
}

#[test]
fn a_placement_may_bring_a_task_to_what_it_used_and_what_it_gets() {
    let list = tasks(&[("a", spent("Pending", 40, None))]);
    let task = list.values().next().expect("one");
    assert_eq!(ceiling(task, Some(70)), 110);
    assert_eq!(ceiling(task, None), i64::MAX);
}
