use serde_json::json;

use super::*;

const BEGIN: i64 = 1_795_000_000;

fn wall(seconds: i64) -> WallTime {
    WallTime::from_unix_seconds(BEGIN + seconds)
}

fn at(seconds: u64) -> AwakeTime {
    AwakeTime::new(Duration::from_secs(seconds))
}

/// A node that beat at second `beat` of our wall clock.
fn node(session: bool, phase: Option<&str>, beat: Option<i64>) -> Object<FleetNode> {
    let mut status = json!({});
    if session {
        status["session"] = json!("s");
    }
    if let Some(phase) = phase {
        status["phase"] = json!(phase);
    }
    if let Some(beat) = beat {
        status["lastHeartbeatTime"] = json!(wall(beat));
    }
    let meta = json!({"name": "n", "uid": "u", "resourceVersion": "1"});
    let json = json!({"metadata": meta, "spec": {"nodeName": "n"}, "status": status});
    Object::from_json(&json).expect("a node")
}

const OURS: bool = true;
const OTHERS: bool = false;

/// One line for what is said at second `now` of a node whose versions were seen at those seconds.
fn said(sights: &[(u64, Object<FleetNode>)], restarts: &[u64], now: u64) -> String {
    let (began, first) = &sights[0];
    let mut seen = Seen::first(first.status.last_heartbeat_time, at(*began));
    let mut last = first;
    for second in *began..=now {
        let clock = wall(i64::try_from(second).expect("small"));
        if let Some((_, node)) = sights.iter().find(|(when, _)| *when == second) {
            last = node;
            seen.look(node, clock, at(second));
        }
        if restarts.contains(&second) {
            seen.restart(at(second));
        }
    }
    let wall = wall(i64::try_from(now).expect("small"));
    let Assessment { placeable, dead, recovering, phase, ready, skewed } =
        assess(last, &seen, wall, at(now));
    let mut words = vec![if placeable { "placeable" } else { "not placeable" }.to_owned()];
    words.extend(dead.then(|| "dead".to_owned()));
    words.extend(recovering.then(|| "recovering".to_owned()));
    words.extend(phase.map(|phase| format!("write {phase}")));
    words.extend(ready.map(|ready| format!("Ready={ready}")));
    words.extend(skewed.filter(|skewed| *skewed).map(|_| "skewed".to_owned()));
    words.join(", ")
}

#[test]
fn a_node_of_ours_is_dead_after_silence_that_we_heard_ourselves() {
    let ready = |beat| node(OURS, Some("Ready"), Some(beat));
    let fresh = [(0, ready(-10)), (20, ready(20))];
    assert_eq!(said(&fresh, &[], 20), "placeable, Ready=True");
    assert_eq!(said(&fresh, &[], 110), "placeable, Ready=True");
    assert_eq!(said(&fresh, &[], 111), "not placeable, dead, write NotReady, Ready=False");
    // One old value says nothing about silence: it is not placed to, and NotReady at first sight.
    let old = [(0, ready(-500))];
    assert_eq!(said(&old, &[], 0), "not placeable, write NotReady, Ready=False");
    assert_eq!(said(&old, &[], 90), "not placeable, write NotReady, Ready=False");
    assert_eq!(said(&old, &[], 91), "not placeable, dead, write NotReady, Ready=False");
    // Its own clock does not matter as long as it moves.
    let behind = [(0, ready(-500)), (5, ready(-495))];
    assert_eq!(said(&behind, &[], 95), "placeable, Ready=True, skewed");
    assert_eq!(said(&behind, &[], 96), "not placeable, dead, write NotReady, Ready=False, skewed");
    let ahead = [(0, ready(500)), (30, ready(530))];
    assert_eq!(said(&ahead, &[], 60), "placeable, Ready=True, skewed");
    let mended = [(0, ready(500)), (30, ready(530)), (60, ready(60))];
    assert_eq!(said(&mended, &[], 60), "placeable, Ready=True");
}

#[test]
fn what_we_could_not_hear_is_no_silence() {
    let ready = |beat| node(OURS, Some("Ready"), Some(beat));
    let sights = [(0, ready(-10)), (20, ready(20))];
    assert_eq!(said(&sights, &[60], 60), "placeable, Ready=True", "written 40 s ago");
    assert_eq!(said(&sights, &[100], 150), "not placeable", "unknown, so nothing is written");
    assert_eq!(said(&sights, &[100], 190), "not placeable");
    assert_eq!(
        said(&sights, &[100], 191),
        "not placeable, dead, write NotReady, Ready=False",
        "a full silence of our own since"
    );
}

#[test]
fn a_node_without_a_session_is_believed_what_it_writes() {
    let ready = |beat| node(OTHERS, Some("Ready"), Some(beat));
    let written_old = [(0, ready(-10)), (20, ready(-71))];
    assert_eq!(
        said(&written_old, &[], 20),
        "placeable, dead, write NotReady, Ready=False, skewed",
        "at once"
    );
    assert_eq!(
        said(&[(0, ready(-10)), (20, ready(-70))], &[], 20),
        "placeable, Ready=True, skewed"
    );
    assert_eq!(said(&[(0, ready(-500))], &[], 0), "not placeable, write NotReady, Ready=False");
    let silent = [(0, ready(-10)), (20, ready(20))];
    assert_eq!(said(&silent, &[], 110), "placeable, Ready=True");
    assert_eq!(said(&silent, &[], 111), "not placeable, dead, write NotReady, Ready=False");
}

#[test]
fn who_writes_which_phase_over_which() {
    let cases = [
        // Ready is written for nodes without a session only.
        (OTHERS, None, Some(0), 0, "placeable, write Ready, Ready=True"),
        (OTHERS, Some("NotReady"), Some(0), 0, "placeable, write Ready, Ready=True"),
        (OTHERS, Some("Unknown"), Some(0), 0, "placeable, write Ready, Ready=True"),
        (OTHERS, Some("Draining"), Some(0), 0, "placeable"),
        (OURS, None, Some(0), 0, "placeable"),
        (OURS, Some("NotReady"), Some(0), 0, "placeable"),
        (OURS, Some("Unknown"), Some(0), 0, "placeable, recovering"),
        (OURS, Some("Draining"), Some(0), 0, "placeable"),
        // NotReady over Ready or none at once, over Unknown after 120 s, never over Draining.
        (OURS, None, None, 0, "not placeable, write NotReady, Ready=False"),
        (OTHERS, None, None, 0, "not placeable, write NotReady, Ready=False"),
        (OURS, None, Some(0), 91, "not placeable, dead, write NotReady, Ready=False"),
        (OURS, Some("Unknown"), Some(0), 120, "not placeable, recovering"),
        (OURS, Some("Unknown"), Some(0), 121, "not placeable, dead, write NotReady, Ready=False"),
        (OURS, Some("Unknown"), Some(-500), 0, "not placeable, recovering"),
        (OURS, Some("Draining"), Some(0), 91, "not placeable, dead"),
        (OTHERS, Some("Draining"), Some(0), 91, "not placeable, dead"),
        (OURS, Some("NotReady"), Some(0), 91, "not placeable, dead, Ready=False"),
        (OURS, Some("Hibernating"), Some(0), 91, "not placeable, dead"),
    ];
    for (ours, phase, beat, now, wanted) in cases {
        let sights = [(0, node(ours, phase, beat))];
        assert_eq!(said(&sights, &[], now), wanted, "{ours} {phase:?} {beat:?} at {now}");
    }
}

#[test]
fn a_node_that_comes_up_is_not_judged_for_two_minutes_and_then_it_is() {
    let unknown = |beat| node(OURS, Some("Unknown"), Some(beat));
    let beats: Vec<_> =
        (0..6).map(|n| (n * 30, unknown(i64::try_from(n * 30).expect("s")))).collect();
    assert_eq!(said(&beats, &[], 120), "placeable, recovering");
    assert_eq!(said(&beats, &[], 121), "placeable");
    assert_eq!(said(&beats, &[100], 220), "placeable, recovering", "counted from our own return");
}

#[test]
fn one_old_value_is_stale_a_moving_one_is_fresh_whatever_it_says() {
    let clock = wall(0);
    let mut seen = Seen::first(Some(wall(-91)), at(0));
    assert!(!seen.is_fresh(clock, at(0)));
    seen.observe(Some(wall(-500)), clock, at(1));
    assert!(seen.is_fresh(clock, at(91)));
    assert!(!seen.is_fresh(clock, at(92)));
    assert!(!Seen::first(None, at(0)).is_fresh(clock, at(0)));
}

#[test]
fn freshness_ends_when_it_says() {
    let seen = Seen::first(Some(wall(-30)), at(5));
    assert_eq!(seen.fresh_until(wall(0), at(5)), Some(at(65)));
}

#[test]
fn every_change_that_silence_brings_is_announced() {
    let phases = [None, Some("Ready"), Some("Unknown"), Some("Draining"), Some("NotReady")];
    for (ours, phase, beat, restart) in phases.iter().flat_map(|phase| {
        let beats = [None, Some(-500), Some(-50), Some(0), Some(40)];
        beats.into_iter().flat_map(move |beat| {
            [false, true]
                .into_iter()
                .flat_map(move |restart| [OURS, OTHERS].map(|ours| (ours, *phase, beat, restart)))
        })
    }) {
        let node = node(ours, phase, beat);
        let mut seen = Seen::first(node.status.last_heartbeat_time, at(0));
        seen.look(&node, wall(0), at(0));
        if restart {
            seen.restart(at(0));
        }
        let at_second = |second: u64| {
            let clock = wall(i64::try_from(second).expect("small"));
            (assess(&node, &seen, clock, at(second)), seen.judged_again_at(clock, at(second)))
        };
        let (mut before, mut announced) = at_second(0);
        for second in 1..400 {
            let (now, next) = at_second(second);
            let due = announced.is_some_and(|announced| announced <= at(second));
            assert!(now == before || due, "{ours} {phase:?} {beat:?} {restart} at {second}");
            if due {
                (before, announced) = (now, next);
            }
        }
    }
}
