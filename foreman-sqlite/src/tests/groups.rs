//! Group commit: many changes, one transaction; each change stands for itself.

use foreman_core::model::{AgenticTask, Revision};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Store, StoreError};
use futures::future::join_all;

use super::{Place, attempt, create, key, names, task};
use crate::Statistics;
use crate::limits::GROUP_CHANGES_MAX;

/// Runs `during` while another connection holds the write lock, so that all its writes wait.
async fn while_locked<T>(place: &Place, during: impl Future<Output = T>) -> T {
    let other = place.raw();
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let release = async {
        // By now `join` has polled `during` once: every write is queued.
        other.execute_batch("ROLLBACK").expect("unlock");
    };
    let (done, ()) = futures::join!(during, release);
    done
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let place = Place::new();
    let store = place.open();
    create(&store, "a").await;
    let before = store.statistics();
    assert_eq!(before, Statistics { transactions: 1, changes: 1 });
    let count = 2 * GROUP_CHANGES_MAX;
    let creates = (0..count).map(|number| store.create(task(&format!("t{number:04}"))));
    let made = while_locked(&place, join_all(creates)).await;
    assert!(made.iter().all(Result::is_ok));
    let after = store.statistics();
    assert_eq!(after.changes - before.changes, u64::try_from(count).expect("fits"));
    // The first change may have been taken alone before the others came.
    let transactions = after.transactions - before.transactions;
    assert!((2..=4).contains(&transactions), "{count} changes in {transactions} transactions");
}

#[tokio::test]
async fn a_refused_change_does_not_fail_its_group() {
    let place = Place::new();
    let store = place.open();
    let there = create(&store, "there").await;
    let mut bad = task("bad");
    bad.spec.timeout_seconds = Some(-1);
    let mut large = task("large");
    large.spec.payload.prompt = Some("x".repeat(2 << 20));
    let (there_key, absent) = (key("there"), key("absent"));
    let late = Expect::At(Revision::new("999"));
    let all = async {
        futures::join!(
            store.create(task("a")),
            store.create(bad),
            store.create(task("there")),
            store.create(large),
            store.patch(&there_key, attempt(1), late),
            store.patch(&absent, attempt(1), Expect::Any),
            Store::<AgenticTask>::delete(&*store, &absent, there.uid(), Expect::Any),
            store.create(task("b")),
        )
    };
    let before = store.statistics().transactions;
    let (a, bad, taken, large, late, absent, undeleted, b) =
        Box::pin(while_locked(&place, all)).await;
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    assert!(matches!(bad, Err(StoreError::Invalid { .. })), "{bad:?}");
    assert_eq!(taken, Err(StoreError::AlreadyExists { uid: Some(there.uid().clone()) }));
    assert!(matches!(large, Err(StoreError::TooLarge { .. })), "{large:?}");
    assert_eq!(late, Err(StoreError::Conflict));
    assert_eq!(absent, Err(StoreError::NotFound));
    assert_eq!(undeleted, Err(StoreError::NotFound));
    assert_eq!(names(&store).await, ["a", "b", "there"]);
    assert!(store.statistics().transactions - before <= 2);
}

#[tokio::test]
async fn changes_of_one_object_in_one_group_see_each_other() {
    let place = Place::new();
    let store = place.open();
    let made = create(&store, "a").await;
    let of = key("a");
    let at = || Expect::At(made.revision().clone());
    let both = async {
        futures::join!(
            store.patch(&of, attempt(1), at()),
            store.patch(&of, attempt(2), at()),
            store.patch(&of, attempt(3), Expect::Any),
        )
    };
    let (first, second, third) = while_locked(&place, both).await;
    assert_eq!(first.map(|task| task.status.attempt), Ok(Some(1)));
    assert_eq!(second, Err(StoreError::Conflict));
    assert_eq!(third.map(|task| task.status.attempt), Ok(Some(3)));
}

#[tokio::test]
async fn a_write_that_changes_nothing_costs_no_transaction() {
    let place = Place::new();
    let store = place.open();
    create(&store, "a").await;
    let before = store.statistics();
    let nothing = Change::<AgenticTask>::of(Part::Status).clear("phase");
    store.patch(&key("a"), nothing, Expect::Any).await.expect("patch");
    assert_eq!(store.statistics(), before);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_store_sound() {
    let place = Place::new();
    let store = place.open();
    create(&store, "a").await;
    let abandoned = async {
        let of = key("a");
        let mut patch = Box::pin(store.patch(&of, attempt(7), Expect::Any));
        assert!(futures::poll!(&mut patch).is_pending(), "the lock is held");
        drop(patch);
    };
    while_locked(&place, abandoned).await;
    // Handed over is handed over: the next write comes after it.
    let change = Change::<AgenticTask>::of(Part::Status).set("session", "s");
    let after = store.patch(&key("a"), change, Expect::Any).await.expect("patch");
    assert_eq!(after.status.attempt, Some(7));
}
