use std::collections::BTreeMap;

use super::*;
use crate::model::Revision;
use crate::model::agentic_task::{
    AgenticTaskPayload, AgenticTaskSpec, AgenticTaskStatus, TaskKind,
};
use crate::model::ids::{NodeName, Session, Uid};
use crate::model::meta::Meta;
use crate::model::time::WallTime;

fn claimed() -> (Object<AgenticTask>, Fence) {
    let fence = Fence {
        uid: Uid::new("u"),
        attempt: 3,
        session: Session::new("s"),
        node: NodeName::parse("n").expect("valid"),
        claimed_at: WallTime::from_unix_seconds(50),
    };
    let mut task = task();
    task.status.phase = Some(TaskPhase::Running.into());
    task.status.assigned_node = Some("n".into());
    task.status.attempt = Some(3);
    task.status.session = Some("s".into());
    task.status.claimed_at = Some(fence.claimed_at);
    (task, fence)
}

fn task() -> Object<AgenticTask> {
    let meta = Meta {
        name: "t".into(),
        namespace: Some("default".into()),
        uid: Uid::new("u"),
        resource_version: Revision::new("1"),
        generation: 1,
        creation_timestamp: None,
        deletion_timestamp: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        owner_references: Vec::new(),
        extra: BTreeMap::new(),
    };
    let spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
    Object { meta, spec, status: AgenticTaskStatus::default() }
}

type Edit = fn(&mut Object<AgenticTask>);

#[test]
fn a_fence_holds_until_any_part_of_it_differs_and_lost_names_the_part() {
    let (task, fence) = claimed();
    assert_eq!(holds(&task, &fence), Ok(()));
    let at = WallTime::from_unix_seconds;
    let cases: [(Edit, &str, &str, &str); 10] = [
        (|t| t.meta.uid = Uid::new("v"), "uid", "u", "v"),
        (
            |t| t.meta.deletion_timestamp = Some(WallTime::from_unix_seconds(60)),
            "deletionTimestamp",
            "absent",
            &at(60).to_string(),
        ),
        (|t| t.status.phase = Some(TaskPhase::Pending.into()), "phase", "Running", "Pending"),
        (|t| t.status.phase = Some(TaskPhase::Succeeded.into()), "phase", "Running", "Succeeded"),
        (|t| t.status.phase = None, "phase", "Running", "absent"),
        (|t| t.status.assigned_node = Some("m".into()), "assignedNode", "n", "m"),
        (|t| t.status.assigned_node = None, "assignedNode", "n", "absent"),
        (|t| t.status.attempt = Some(4), "attempt", "3", "4"),
        (|t| t.status.session = None, "session", "s", "absent"),
        (
            |t| t.status.claimed_at = Some(WallTime::from_unix_seconds(51)),
            "claimedAt",
            &at(50).to_string(),
            &at(51).to_string(),
        ),
    ];
    for (edit, what, held, found) in cases {
        let mut changed = task.clone();
        edit(&mut changed);
        let lost = holds(&changed, &fence).expect_err(what);
        assert_eq!((lost.what, lost.held.as_str(), lost.found.as_str()), (what, held, found));
    }
}

#[test]
fn verifying_and_unknown_phases_are_in_flight() {
    let (mut task, fence) = claimed();
    for phase in [TaskPhase::Verifying.into(), crate::model::Open::Other("Uploading".into())] {
        task.status.phase = Some(phase);
        assert_eq!(holds(&task, &fence), Ok(()));
    }
}
