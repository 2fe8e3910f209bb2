//! Writers at the same time.

use futures::future::join_all;
use serde_json::json;

use super::Subject;
use super::support::{created, fail, node, patched, present, spec, status, task, yield_once};
use crate::model::fleet_node::NodePhase;
use crate::model::{AgenticTask, WallTime};
use crate::ports::{Expect, StoreError};

/// Writers of a contest.
const WRITERS: i64 = 16;
/// What each of them does.
const ROUNDS: i64 = 8;

/// Of many creates of one name exactly one succeeds; the others learn whose it is.
pub async fn of_many_creates_one_wins(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let creates = (0..WRITERS).map(|writer| {
        let mut new = task(subject, "a");
        new.spec.priority = i32::try_from(writer).ok();
        tasks.create(new)
    });
    let results = join_all(creates).await;
    let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    let stored = present(&*tasks, &task(subject, "a").key).await;
    assert_eq!(*winners[0], stored);
    let lost = Err(StoreError::AlreadyExists { uid: Some(stored.uid().clone()) });
    assert_eq!(results.iter().filter(|result| **result == lost).count(), 15);
}

/// Read, add one, write at what was read: every one of the increments counts.
pub async fn no_increment_is_lost(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = created(&*tasks, task(subject, "a")).await.key();
    let writers = (0..WRITERS).map(|_| async {
        let mut conflicts = 0_u32;
        for _ in 0..ROUNDS {
            loop {
                let read = present(&*tasks, &key).await;
                // Stores that never wait would otherwise let each writer through alone.
                yield_once().await;
                let next = read.status.attempt.unwrap_or(0) + 1;
                let at = Expect::At(read.revision().clone());
                match tasks.patch(&key, status().set("attempt", next), at).await {
                    Ok(_) => break,
                    Err(StoreError::Conflict) => conflicts += 1,
                    Err(error) => fail(&error.to_string()),
                }
            }
        }
        conflicts
    });
    let conflicts: u32 = join_all(writers).await.into_iter().sum();
    assert_eq!(present(&*tasks, &key).await.status.attempt, Some(WRITERS * ROUNDS));
    assert!(conflicts > 0, "the writers never met, so nothing was shown");
}

/// Of many claims at one revision exactly one holds.
pub async fn of_many_claims_one_wins(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let claims = (0..WRITERS).map(|writer| {
        let change = status::<AgenticTask>()
            .set("phase", "Running")
            .set("attempt", 1)
            .set("session", format!("s{writer}"))
            .set("attempts", json!([{"attempt": 1, "session": format!("s{writer}")}]));
        let (key, at) = (made.key(), Expect::At(made.revision().clone()));
        let tasks = tasks.clone();
        async move { tasks.patch(&key, change, at).await }
    });
    let results = join_all(claims).await;
    let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{results:?}");
    assert_eq!(present(&*tasks, &made.key()).await, *won[0]);
    let lost = results.iter().filter(|result| **result == Err(StoreError::Conflict)).count();
    assert_eq!(lost, 15);
}

/// The agent beats, the operator judges, a person cordons: each write keeps the others'.
pub async fn writers_of_different_fields_do_not_overwrite_each_other(subject: &dyn Subject) {
    let nodes = subject.stores().nodes;
    let key = created(&*nodes, node(subject, "a")).await.key();
    let beats = async {
        for second in 1..=ROUNDS {
            let time = WallTime::from_unix_seconds(1_767_225_600 + second);
            patched(&*nodes, &key, status().set("lastHeartbeatTime", time)).await;
            yield_once().await;
        }
    };
    let judgements = async {
        for _ in 0..ROUNDS {
            patched(&*nodes, &key, status().set("phase", NodePhase::Ready)).await;
            yield_once().await;
            patched(&*nodes, &key, status().set("phase", NodePhase::NotReady)).await;
        }
    };
    let people = async {
        for slots in 1..=ROUNDS {
            patched(&*nodes, &key, spec().set("slots", slots)).await;
            yield_once().await;
        }
    };
    futures::join!(beats, judgements, people);
    let seen = present(&*nodes, &key).await;
    let beat = WallTime::from_unix_seconds(1_767_225_600 + ROUNDS);
    assert_eq!(seen.status.last_heartbeat_time, Some(beat));
    assert_eq!(seen.status.phase, Some(NodePhase::NotReady.into()));
    assert_eq!((seen.spec.slots, seen.meta.generation), (Some(8), 9));
}

/// A write by one handle is read, and refused to be overwritten, by another.
pub async fn handles_see_each_other(subject: &dyn Subject) {
    let (ours, theirs) = (subject.stores().tasks, subject.second_handle().tasks);
    let made = created(&*ours, task(subject, "a")).await;
    assert_eq!(present(&*theirs, &made.key()).await, made);
    let at = Expect::At(made.revision().clone());
    let won = theirs.patch(&made.key(), status().set("session", "theirs"), at.clone()).await;
    let won = won.expect("at the current revision");
    let late = ours.patch(&made.key(), status().set("session", "ours"), at).await;
    assert_eq!(late, Err(StoreError::Conflict));
    assert_eq!(present(&*ours, &made.key()).await, won);
    let refused = theirs.create(task(subject, "a")).await;
    assert_eq!(refused, Err(StoreError::AlreadyExists { uid: Some(made.uid().clone()) }));
    ours.delete(&made.key(), made.uid(), Expect::Any).await.expect("delete");
    assert_eq!(theirs.get(&made.key()).await, Ok(None));
}
