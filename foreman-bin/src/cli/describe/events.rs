//! What happened, in order: told from what the objects record, since the embedded store keeps no
//! events of their own.

use foreman_core::model::condition::{find_condition, is_true};
use foreman_core::model::{AgenticTask, Object, WallTime};

use crate::cli::words;
use crate::output;

/// Events shown; the earlier ones are left out and counted.
const EVENTS_MAX: usize = 12;

/// What happened to these tasks, oldest first, one line each.
pub(super) fn events<'t>(
    tasks: impl IntoIterator<Item = &'t Object<AgenticTask>>,
    now: WallTime,
) -> Vec<String> {
    let mut events: Vec<(WallTime, String)> = tasks.into_iter().flat_map(of_task).collect();
    // Within one second they stay in the order of the tasks, which is that of the steps.
    events.sort_by_key(|(at, _)| *at);
    let left_out = events.len().saturating_sub(EVENTS_MAX);
    let earlier = (left_out > 0).then(|| format!("({left_out} earlier)"));
    let shown = events.into_iter().skip(left_out);
    let lines = shown.map(|(at, text)| format!("{} ago  {text}", output::age(at, now)));
    earlier.into_iter().chain(lines).collect()
}

/// A task's events, in the order in which they happen.
fn of_task(task: &Object<AgenticTask>) -> Vec<(WallTime, String)> {
    let (name, status) = (&task.meta.name, &task.status);
    let mut events = Vec::new();
    if let Some(placed) = find_condition(&status.conditions, "Scheduled") {
        let message = words::clean(&placed.message);
        events.push((placed.last_transition_time, format!("TaskPlaced  {name}: {message}")));
    }
    for attempt in &status.attempts {
        let number = attempt.attempt.unwrap_or(0);
        if let Some(at) = attempt.started_at {
            let node = words::clean(attempt.node.as_deref().unwrap_or("unknown"));
            events.push((at, format!("AttemptStarted  {name}: attempt {number} on {node}")));
        }
        if let (Some(at), Some(ended)) = (attempt.ended_at, &attempt.ended) {
            let how = words::clean(&ended.to_string());
            events.push((at, format!("AttemptEnded  {name}: attempt {number} {how}")));
        }
    }
    if let Some((waiting, at)) = status.waiting.as_ref().and_then(|it| Some((it, it.since?))) {
        let reason = waiting.reason.as_ref().map(ToString::to_string).unwrap_or_default();
        events.push((at, format!("TaskWaiting  {name}: {}", words::clean(&reason))));
    }
    if let (Some(at), true) = (status.finished_at, is_true(&status.conditions, "Finished")) {
        events.push((at, format!("TaskFinished  {name}: {}", words::ended(task))));
    }
    events
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn task(name: &str, status: &Value) -> Object<AgenticTask> {
        let meta =
            json!({"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"});
        let spec = json!({"kind": "verify", "payload": {}});
        Object::from_json(&json!({"metadata": meta, "spec": spec, "status": status}))
            .expect("a task")
    }

    fn at(second: u8) -> String {
        format!("2026-11-24T10:00:{second:02}Z")
    }

    #[test]
    fn events_are_told_in_order_over_tasks_and_bounded() {
        let condition = |kind: &str, second, message: &str| {
            json!({"type": kind, "status": "True", "reason": "R", "message": message,
                "lastTransitionTime": at(second)})
        };
        let ended = task(
            "w-verify",
            &json!({
                "phase": "Succeeded", "verdict": "GATE-PASS", "finishedAt": at(30),
                "conditions": [condition("Scheduled", 10, "placed on tower: 0/1 slots used"),
                               condition("Finished", 30, "gate passed")],
                "attempts": [{"attempt": 1, "node": "tower", "startedAt": at(10), "endedAt": at(30),
                              "ended": "Finished"}],
            }),
        );
        let waits = task(
            "w-review",
            &json!({"phase": "Pending",
            "waiting": {"reason": "Dependency", "message": "m", "since": at(5)}}),
        );
        let now = at(40).parse().expect("a time");
        let lines = events([&ended, &waits], now);
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!(lines[0], "35s ago  TaskWaiting  w-review: Dependency");
        assert_eq!(lines[1], "30s ago  TaskPlaced  w-verify: placed on tower: 0/1 slots used");
        assert_eq!(lines[2], "30s ago  AttemptStarted  w-verify: attempt 1 on tower");
        assert_eq!(lines[3], "10s ago  AttemptEnded  w-verify: attempt 1 Finished");
        assert!(lines[4].starts_with("10s ago  TaskFinished  w-verify: GATE-PASS"), "{lines:?}");

        let attempts: Vec<_> = (0..10)
            .map(|n| {
                json!({"attempt": n, "node": "n", "startedAt": at(n), "endedAt": at(n),
                "ended": "Drained"})
            })
            .collect();
        let lines = events([&task("t", &json!({"attempts": attempts}))], now);
        assert_eq!((lines.len(), lines[0].as_str()), (EVENTS_MAX + 1, "(8 earlier)"));
    }
}
