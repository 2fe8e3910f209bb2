//! What holds of expansion and roll-up whatever the spec says and whatever the steps came to.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::{Plan, plan};
use crate::model::workload::{StepRecord, WorkloadSpec};
use crate::policy::admit::{Egress, Policy};
use crate::workload::rollup;
use crate::workload::view::WorkloadView;

fn spec() -> impl Strategy<Value = WorkloadSpec> {
    let names = || prop::collection::vec(prop::sample::select(vec!["ann", "far"]), 0..3);
    let crew = (any::<bool>(), names(), names(), any::<bool>());
    let limits = (0..4_i32, 0..14_i32, any::<bool>(), any::<bool>(), any::<bool>());
    (prop::collection::vec(1..4_i32, 1..4), crew, limits).prop_map(|(issues, crew, limits)| {
        let (gate, reviewers, further, strong) = crew;
        let (rounds, tasks, on_failure, cloud, pipeline) = limits;
        let reference = |name: &&str| json!({ "name": name });
        let mut spec = json!({"intent": "x", "issues": issues, "coderAgentRef": {"name": "c"},
            "reviewerAgentRefs": reviewers.iter().map(reference).collect::<Vec<_>>(),
            "escalationReviewerAgentRefs": further.iter().map(reference).collect::<Vec<_>>(),
            "maxReviewIterations": rounds, "maxTasks": tasks, "escalateOnFailure": on_failure,
            "allowCloudReviewers": cloud});
        if gate {
            spec["verifierAgentRef"] = json!({"name": "v"});
        }
        if strong {
            spec["escalationCoderAgentRef"] = json!({"name": "s"});
        }
        if pipeline {
            let step = |name: &str, kind: &str, after: &[&str]| {
                json!({"name": name, "kind": kind, "agentRef": {"name": "c"}, "dependsOn": after,
                    "payload": {"branch": "b"}})
            };
            spec["pipeline"] = json!([
                step("code", "issue-fix", &[]),
                step("gate", "verify", &["code"]),
                step("look", "review", &["gate"])
            ]);
        }
        serde_json::from_value(spec).expect("a spec")
    })
}

/// How a step may end.
fn end() -> impl Strategy<Value = (&'static str, &'static str, Option<&'static str>)> {
    prop::sample::select(vec![
        ("Succeeded", "GO", None),
        ("Succeeded", "GO", None),
        ("Succeeded", "GATE-PASS", None),
        ("Succeeded", "NO-GO", None),
        ("Succeeded", "NO-GO", Some("Declined")),
        ("Succeeded", "NO-GO", Some("AlreadyResolved")),
        ("Succeeded", "INCOMPLETE", Some("GateFailed")),
        ("Succeeded", "INCOMPLETE", Some("StuckLoop")),
        ("Failed", "INCOMPLETE", None),
    ])
}

fn expand(spec: &WorkloadSpec, records: &[StepRecord]) -> Option<Plan> {
    let egress_of = |name: &str| Some(if name == "far" { Egress::Cloud } else { Egress::Local });
    let view = WorkloadView { name: "w", spec, policy: Policy::default(), egress_of: &egress_of };
    plan(view, records).ok()
}

fn names(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.name.clone()).collect()
}

proptest! {
    #[test]
    fn a_workload_only_grows_to_an_end_and_is_done_when_every_step_is(
        spec in spec(),
        ends in prop::collection::vec((any::<prop::sample::Index>(), end()), 0..80),
    ) {
        let mut records: Vec<StepRecord> = Vec::new();
        let mut ends = ends.into_iter();
        for _ in 0..200 {
            let Some(plan) = expand(&spec, &records) else { return Ok(()) };
            let again = expand(&spec, &records);
            prop_assert_eq!(Some(&plan), again.as_ref(), "same facts, same plan");
            let now = names(&plan);
            let set: BTreeSet<_> = now.iter().cloned().collect();
            prop_assert_eq!(set.len(), now.len(), "names are unique: {:?}", now);
            if let Some(max) = spec.max_tasks.and_then(|max| usize::try_from(max).ok()) {
                prop_assert!(max == 0 || now.len() <= max, "{max}: {now:?}");
            }
            for step in &plan.steps {
                for before in &step.depends_on {
                    prop_assert!(set.contains(before), "{} waits for {before} for ever", step.name);
                }
            }
            for record in &records {
                prop_assert!(set.contains(&record.name), "{} was planned and is not", record.name);
            }
            for name in now {
                if records.iter().all(|record| record.name != name) {
                    records.push(StepRecord { name, ..StepRecord::default() });
                }
            }
            let roll_up = rollup::roll_up(&records, &plan);
            let open: Vec<_> =
                records.iter().filter(|record| record.settled != Some(true)).map(|r| r.name.clone()).collect();
            prop_assert_eq!(roll_up.completed.is_some(), open.is_empty());
            if open.is_empty() {
                return Ok(());
            }
            let next = ends.next().map(|(at, end)| (at.index(open.len()), end));
            let (at, (phase, verdict, reason)) = next.unwrap_or((0, ("Succeeded", "GO", None)));
            let name = &open[at];
            let mut ended = json!({"name": name, "phase": phase, "verdict": verdict,
                "verification": "Passed", "infrastructure": "Ok", "settled": true});
            if let Some(reason) = reason {
                ended["reason"] = json!(reason);
            }
            let ended: StepRecord = serde_json::from_value(ended).expect("a record");
            let record = records.iter_mut().find(|record| record.name == *name).expect("open");
            *record = ended;
        }
        prop_assert!(false, "more steps without end");
    }
}
