use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::memory::MemoryStore;
use crate::model::agentic_task::{AgenticTaskPayload, AgenticTaskSpec, TaskKind};
use crate::model::condition::find_condition;
use crate::model::outcome::{Decision, Verification};
use crate::model::shared::FreeObject;
use crate::model::{Key, NewObject};
use crate::ports::Clock;
use crate::ports::store::{Expect, Store};
use crate::testkit::sim::SimClock;

struct Desk {
    store: std::sync::Arc<MemoryStore>,
    clock: std::sync::Arc<SimClock>,
}

impl Desk {
    fn new() -> Self {
        let clock = SimClock::new();
        Self { store: MemoryStore::new(clock.clone()), clock }
    }

    async fn task(&self) -> Object<AgenticTask> {
        let spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
        let new = NewObject::new(Key::namespaced("default", "t"), spec);
        Store::create(&*self.store, new).await.expect("created")
    }

    async fn write(&self, task: &Object<AgenticTask>, change: TaskChange) -> Object<AgenticTask> {
        let expect = Expect::At(task.revision().clone());
        let change = change.expect("a legal move");
        Store::patch(&*self.store, &task.key(), change, expect).await.expect("written")
    }

    async fn claimed(&self) -> Object<AgenticTask> {
        let task = self.task().await;
        let task = self.write(&task, place(&task, &node(), None, "fits", self.clock.wall())).await;
        self.write(
            &task,
            claim(
                &task,
                1,
                &Session::new("s"),
                &node(),
                adopted(self.clock.wall()),
                (self.clock.wall(), self.clock.wall()),
            ),
        )
        .await
    }
}

fn node() -> NodeName {
    NodeName::parse("n").expect("valid")
}

fn adopted(at: WallTime) -> Closed {
    Closed { ended: AttemptEnd::Adopted, at, turn: None }
}

fn usage(tokens: i64) -> Usage {
    Usage { turns: Some(1), prompt_tokens: Some(tokens), ..Usage::default() }
}

fn finished(message: &str) -> Finish {
    Finish {
        succeeded: true,
        verdict: Verdict::Go,
        failure_reason: None,
        outcome: Outcome {
            decision: Decision::Go,
            verification: Verification::Passed,
            infrastructure: Infrastructure::Ok,
            reason: None,
        },
        result: FreeObject::default(),
        branch: Some("b".into()),
        commit_sha: Some("c0ffee".into()),
        usage: usage(5),
        checkpoint: Some(Checkpoint { node: Some("n".into()), ..Checkpoint::default() }),
        message: message.to_owned(),
    }
}

fn ends(task: &Object<AgenticTask>) -> Vec<(Option<i64>, Option<String>)> {
    let attempts = task.status.attempts.iter();
    attempts.map(|a| (a.attempt, a.ended.as_ref().map(ToString::to_string))).collect()
}

#[tokio::test]
async fn a_claim_is_told_apart_and_a_release_forgets_it_but_not_its_number() {
    let desk = Desk::new();
    let claimed = desk.claimed().await;
    let now = desk.clock.wall();
    let status = &claimed.status;
    assert_eq!(
        (status.known_phase(), status.attempt, status.session.as_deref(), status.claimed_at),
        (Some(TaskPhase::Running), Some(1), Some("s"), Some(now))
    );
    let back = Release {
        ended: AttemptEnd::Drained,
        reason: "Drained",
        message: "leaving".into(),
        waiting: None,
        usage: Some(usage(7)),
        checkpoint: None,
        known: None,
    };
    desk.clock.advance(Duration::from_secs(9));
    let later = desk.clock.wall();
    let released = desk.write(&claimed, release(&claimed, &back, later)).await;
    let status = &released.status;
    assert_eq!(
        (status.known_phase(), status.attempt, status.usage.clone()),
        (Some(TaskPhase::Pending), Some(1), Some(usage(7)))
    );
    assert_eq!((&status.assigned_node, &status.session), (&None, &None));
    assert_eq!((status.claimed_at, status.started_at), (None, None));
    let record = status.attempts.last().expect("kept");
    assert_eq!((record.started_at, record.ended_at), (Some(now), Some(later)));
    assert_eq!(ends(&released), [(Some(1), Some("Drained".into()))]);
}

#[tokio::test]
async fn only_the_last_ten_attempts_are_kept_and_usage_is_summed() {
    let desk = Desk::new();
    let mut task = desk.claimed().await;
    for attempt in 2..14 {
        let now = desk.clock.wall();
        let change = claim(&task, attempt, &Session::new("s"), &node(), adopted(now), (now, now));
        task = desk.write(&task, change).await;
    }
    let wanted: Vec<_> =
        (4..14).map(|n| (Some(n), (n < 13).then(|| "Adopted".to_owned()))).collect();
    assert_eq!(ends(&task), wanted);
    task.status.usage = Some(Usage { estimated: Some(true), ..usage(10) });
    let change = finish(&task, &finished("done"), false, desk.clock.wall()).expect("legal");
    let patch = change.to_merge_patch(None);
    let usage = json!({"turns": 2, "promptTokens": 15, "estimated": true});
    let shown: serde_json::Map<String, Value> = patch["status"]["usage"]
        .as_object()
        .expect("an object")
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    assert_eq!(Value::Object(shown), usage);
    assert_eq!(add_usage(None, &Usage::default()), Usage::default());
    let most = Usage { turns: Some(i64::MAX), ..Usage::default() };
    assert_eq!(add_usage(Some(&most), &most).turns, Some(i64::MAX), "no overflow");
}

#[tokio::test]
async fn a_task_ends_whatever_its_message_and_result_are() {
    let desk = Desk::new();
    let task = desk.claimed().await;
    let mut end = finished(&"é".repeat(40_000));
    end.result.0.insert("blob".into(), json!("x".repeat(RESULT_BYTES_MAX)));
    let ended = desk.write(&task, finish(&task, &end, false, desk.clock.wall())).await;
    assert_eq!(ended.status.known_phase(), Some(TaskPhase::Succeeded));
    assert_eq!(ended.status.result, None, "too large to keep");
    assert_eq!((&ended.status.session, ended.status.claimed_at), (&None, None));
    let message = &find_condition(&ended.status.conditions, "Finished").expect("said").message;
    assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX);
    assert!(message.ends_with('…'));
}

#[tokio::test]
async fn what_a_server_refused_is_left_out_of_the_second_try() {
    let desk = Desk::new();
    let task = desk.claimed().await;
    let mut end = finished("done");
    end.result.0.insert("a".into(), json!(1));
    let names = |cut| {
        let change = finish(&task, &end, cut, desk.clock.wall()).expect("legal");
        let patch = change.to_merge_patch(None);
        ["result", "checkpoint", "branch", "verdict"]
            .map(|name| patch["status"].get(name).is_some())
    };
    assert_eq!(names(false), [true, true, true, true]);
    assert_eq!(names(true), [false, false, true, true]);
}

#[tokio::test]
async fn a_finished_task_is_never_written_again() {
    let desk = Desk::new();
    let task = desk.claimed().await;
    let now = desk.clock.wall();
    let ended = desk.write(&task, finish(&task, &finished("done"), false, now)).await;
    assert!(finish(&ended, &finished("again"), false, now).is_err());
    assert!(claim(&ended, 2, &Session::new("s"), &node(), adopted(now), (now, now)).is_err());
    assert!(place(&ended, &node(), None, "", now).is_err());
}

/// Whatever the holder of a claim might have spent counts for its Workload, also when the task ends
/// without it. A placement that nobody claimed spent nothing.
#[tokio::test]
async fn an_end_by_the_operator_charges_what_was_reserved() {
    for is_claimed in [true, false] {
        let desk = Desk::new();
        let now = desk.clock.wall();
        let task = desk.task().await;
        let mut task = desk.write(&task, place(&task, &node(), Some(60), "fits", now)).await;
        if is_claimed {
            let granted = claim(&task, 1, &Session::new("s"), &node(), adopted(now), (now, now));
            task = desk.write(&task, granted).await;
        }
        let end = end(&task, &crate::task::intake::cancelled("x"), now);
        let status = desk.write(&task, end).await.status;
        let charged = status.usage.map(|usage| (usage.prompt_tokens, usage.estimated));
        assert_eq!(charged, is_claimed.then_some((Some(60), Some(true))));
        assert_eq!(status.allowance, None);
    }
}

/// What a dead holder was charged by estimate gives way to what its journal tells, when a claim on the
/// same machine says that it is in its numbers.
#[tokio::test]
async fn an_estimate_is_corrected_by_whoever_holds_the_journal() {
    let told = |estimated| Usage { prompt_tokens: Some(25), estimated, ..Usage::default() };
    for (ended_by, estimated, wanted) in [
        ("release", Some(false), (Some(35), None, None)),
        ("finish", Some(false), (Some(35), None, None)),
        // Its journal is gone, or it never looked.
        ("finish", None, (Some(95), Some(true), Some(60))),
    ] {
        let desk = Desk::new();
        let now = desk.clock.wall();
        let mut task = desk.task().await;
        for attempt in [1, 2] {
            let placed = place(&task, &node(), Some(60), "fits", now);
            task = desk.write(&task, placed).await;
            let granted =
                claim(&task, attempt, &Session::new("s"), &node(), adopted(now), (now, now));
            task = desk.write(&task, granted).await;
            if attempt == 1 {
                task.status.usage = Some(usage(10));
                let back = crate::task::take_back::TakeBack {
                    ended: Some(AttemptEnd::NodeLost),
                    message: "silent".into(),
                    turn: Some(3),
                    usage: budget::charge_dead_holder(&task.status),
                };
                let back = crate::task::take_back::take_back(&task, &back, now);
                task = desk.write(&task, back).await;
                let charged = task.status.usage.as_ref().map(|it| (it.prompt_tokens, it.estimated));
                assert_eq!(charged, Some((Some(70), Some(true))));
                assert_eq!(task.status.estimated_on(node().as_str()), 60);
                assert_eq!(task.status.estimated_on("another"), 0);
                assert_eq!(budget::known_tokens(&task.status), 10, "for limits of its own");
            }
        }
        let change = if ended_by == "release" {
            let release = Release {
                ended: AttemptEnd::Suspended,
                reason: "Suspended",
                message: String::new(),
                waiting: None,
                usage: Some(told(estimated)),
                checkpoint: None,
                known: None,
            };
            super::release(&task, &release, now)
        } else {
            finish(&task, &Finish { usage: told(estimated), ..finished("done") }, false, now)
        };
        let status = desk.write(&task, change).await.status;
        let spent = status.usage.expect("charged");
        let left = status.attempts.first().and_then(|record| record.estimated_tokens);
        assert_eq!(
            (spent.prompt_tokens, spent.estimated, left),
            wanted,
            "{ended_by} {estimated:?}"
        );
    }
}
