use serde_json::{Value, json};

use super::*;
use crate::fleet::liveness::Assessment;
use crate::model::condition::ConditionStatus;

fn at(seconds: i64) -> WallTime {
    WallTime::from_unix_seconds(1_795_000_000 + seconds)
}

fn node(session: Option<&str>) -> Object<FleetNode> {
    let meta = json!({"name": "n", "uid": "n1", "resourceVersion": "1"});
    let status = json!({"session": session, "phase": "Ready", "lastHeartbeatTime": at(0)});
    let json = json!({"metadata": meta, "spec": {"nodeName": "n"}, "status": status});
    Object::from_json(&json).expect("a node")
}

fn task(phase: &str, spec: &Value) -> Object<AgenticTask> {
    let mut spec = spec.clone();
    spec["kind"] = json!("freeform");
    spec["payload"] = json!({});
    let meta = json!({"name": "t", "namespace": "d", "uid": "u", "resourceVersion": "1"});
    let mut status = json!({"phase": phase, "assignedNode": "n"});
    if phase != "Scheduled" {
        status["session"] = json!("s");
        status["attempt"] = json!(1);
        status["startedAt"] = json!(at(0));
    }
    Object::from_json(&json!({"metadata": meta, "spec": spec, "status": status})).expect("a task")
}

const ALIVE: Assessment = Assessment {
    placeable: true,
    dead: false,
    recovering: false,
    phase: None,
    ready: Some(ConditionStatus::True),
    skewed: None,
};

fn said(finding: &Finding) -> String {
    match finding {
        Finding::GoesOn => "goes on".into(),
        Finding::Lost(loss) => format!("{}: {}", loss.ended, loss.message),
        Finding::LostAndEnds(loss, end) => format!("{}, then {}", loss.ended, end.message),
        Finding::Unclaimed(message) => format!("back: {message}"),
        Finding::Ends(end) => format!("{} {}: {}", end.phase, end.reason, end.message),
        Finding::Stuck => "stuck".into(),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_claim_goes_with_its_node() {
    let (ours, others) = (node(Some("s")), node(None));
    let dead = Assessment { placeable: false, dead: true, ..ALIVE };
    let there = |node, says| Holder::There { node, says };
    let gone = |seconds: u64, ours| Holder::Absent {
        silence: SECOND * u32::try_from(seconds).expect("small"),
        ours,
    };
    let heard = at(0);
    let silent = format!("NodeLost: node n sent no heartbeat since {heard}");
    for phase in ["Scheduled", "Running", "Verifying"] {
        let task = task(phase, &json!({}));
        let cases = [
            (there(&ours, ALIVE), "goes on"),
            (there(&others, ALIVE), "goes on"),
            (there(&ours, dead), silent.as_str()),
            (there(&others, dead), silent.as_str()),
            (gone(0, true), "goes on"),
            (gone(90, true), "goes on"),
            (gone(91, true), "NodeLost: its node is gone"),
            (gone(0, false), "NodeLost: its node is gone"),
        ];
        for (holder, wanted) in cases {
            let found = judge(&task, holder, Observed::default(), at(0));
            assert_eq!(said(&found), wanted, "{phase} {holder:?}");
        }
    }
}

#[test]
fn another_life_of_the_node_loses_a_running_claim_once_it_is_up() {
    let other = node(Some("next"));
    let up = Holder::There { node: &other, says: ALIVE };
    let coming = Assessment { recovering: true, ..ALIVE };
    let after = |seconds: u32| Observed {
        other_session_for: Some(SECOND * seconds),
        ..Observed::default()
    };
    let lost = "SessionLost: node n was started anew and did not take it over";
    let found = |phase, holder, seconds| {
        said(&judge(&task(phase, &json!({})), holder, after(seconds), at(0)))
    };
    assert_eq!(found("Running", up, 9), "goes on", "it may be adopting it");
    assert_eq!(found("Running", up, 10), lost);
    assert_eq!(found("Scheduled", up, 99), "goes on", "nobody claimed it yet");
    let coming = Holder::There { node: &other, says: coming };
    assert_eq!(found("Running", coming, 99), "goes on");
}

#[test]
fn a_healthy_node_must_claim_run_and_move() {
    let (ours, others) = (node(Some("s")), node(None));
    let up = |node| Holder::There { node, says: ALIVE };
    let observed = |edit: fn(&mut Observed)| {
        let mut observed = Observed::default();
        edit(&mut observed);
        observed
    };
    let found =
        |phase, holder, edit| said(&judge(&task(phase, &json!({})), holder, observed(edit), at(0)));
    let unclaimed: fn(&mut Observed) = |o| o.healthy_for = Duration::from_mins(1);
    assert_eq!(
        found("Scheduled", up(&ours), unclaimed),
        "back: node n did not claim it within 60 s"
    );
    assert_eq!(found("Scheduled", up(&ours), |o| o.healthy_for = SECOND * 59), "goes on");
    assert_eq!(found("Scheduled", up(&others), unclaimed), "goes on", "they poll as they like");
    assert_eq!(found("Running", up(&ours), unclaimed), "goes on");
    let missing: fn(&mut Observed) = |o| {
        o.missing_beats = 2;
        o.known_for = MISSING_KNOWN;
    };
    let heard_late: fn(&mut Observed) = |o| {
        o.missing_beats = 9;
        o.known_for = MISSING_KNOWN.saturating_sub(SECOND);
    };
    assert_eq!(found("Running", up(&ours), heard_late), "goes on");
    assert_eq!(
        found("Running", up(&ours), missing),
        "Missing: node n is alive and no longer runs it"
    );
    assert_eq!(found("Running", up(&ours), |o| o.missing_beats = 1), "goes on");
    assert_eq!(found("Running", up(&others), missing), "goes on");
    let recovering = Assessment { recovering: true, ..ALIVE };
    let coming = Holder::There { node: &ours, says: recovering };
    assert_eq!(found("Running", coming, missing), "goes on");
    assert_eq!(found("Scheduled", coming, unclaimed), "goes on");
    assert_eq!(found("Running", up(&ours), |o| o.still_for = STUCK), "stuck");
    assert_eq!(
        found("Running", up(&ours), |o| o.still_for = STUCK.saturating_sub(SECOND)),
        "goes on"
    );
}

#[test]
fn a_cancelled_task_is_ended_for_a_holder_that_is_dead_or_deaf() {
    let ours = node(Some("s"));
    let dead = Assessment { placeable: false, dead: true, ..ALIVE };
    let found = |phase: &str, says, seconds: u32| {
        let observed = Observed { cancelled_for: Some(SECOND * seconds), ..Observed::default() };
        let holder = Holder::There { node: &ours, says };
        said(&judge(&task(phase, &json!({"cancel": true})), holder, observed, at(0)))
    };
    assert_eq!(found("Running", ALIVE, 59), "goes on");
    assert_eq!(
        found("Running", ALIVE, 60),
        "Failed UserRequest: cancelled; its holder did not end it"
    );
    assert_eq!(found("Running", dead, 0), "NodeLost, then cancelled; its holder is gone");
    assert_eq!(found("Scheduled", dead, 0), "NodeLost, then cancelled; its holder is gone");
}

#[test]
fn time_that_is_up_is_left_to_the_holder_for_two_minutes() {
    let ours = node(Some("s"));
    let up = Holder::There { node: &ours, says: ALIVE };
    let skewed = Assessment { skewed: Some(true), ..ALIVE };
    let skewed = Holder::There { node: &ours, says: skewed };
    let long = Observed { known_for: Duration::from_hours(1), ..Observed::default() };
    let limited = json!({"timeoutSeconds": 100});
    let found = |phase: &str, holder, observed, now| {
        said(&judge(&task(phase, &limited), holder, observed, at(now)))
    };
    let ended = "Failed Timeout: it ran for more than 100 s, and its holder did not end it";
    assert_eq!(found("Running", up, long, 219), "goes on");
    assert_eq!(found("Running", up, long, 220), ended);
    assert_eq!(found("Scheduled", up, long, 9_999), "goes on", "it does not run");
    let new = Observed { known_for: SECOND * 119, ..Observed::default() };
    assert_eq!(found("Running", up, new, 9_999), "goes on", "whoever claims it is told first");
    assert_eq!(
        found("Running", skewed, Observed { known_for: SECOND * 219, ..long }, 9_999),
        "goes on"
    );
    assert_eq!(found("Running", skewed, Observed { known_for: SECOND * 220, ..long }, 0), ended);
    let gone = Holder::Absent { silence: SECOND, ours: true };
    assert_eq!(found("Running", gone, long, 220), ended);
    let unlimited = task("Running", &json!({"timeoutSeconds": 0}));
    assert_eq!(said(&judge(&unlimited, up, long, at(99_999))), "goes on");
}
