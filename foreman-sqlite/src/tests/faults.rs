//! What goes wrong with a disk, a file or a lock.

use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use foreman_core::model::AgenticTask;
#[cfg(feature = "testkit")]
use foreman_core::ports::{Change, store::Part};
use foreman_core::ports::{Expect, Query, Store, StoreError, StoreEvent, Stores};

use super::{Place, attempt, create, key, names, next, task, watch};
use crate::SqliteStore;
use crate::limits::Tuning;

#[tokio::test]
async fn a_lock_that_is_held_too_long_is_said_and_nothing_is_written() {
    let place = Place::new();
    let busy = Duration::from_millis(100);
    let poll = Duration::from_millis(10);
    let store = place.open_tuned(Tuning { poll, busy, ..Tuning::default() });
    create(&store, "a").await;
    let other = place.raw();
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    match store.create(task("b")).await {
        Err(StoreError::Unavailable { reason, retry_after }) => {
            assert!(reason.contains("another process holds the write lock"), "{reason}");
            assert!(retry_after.is_some());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&store).await, ["a"], "reads go on meanwhile");
    other.execute_batch("ROLLBACK").expect("unlock");
    create(&store, "b").await;
    assert_eq!(names(&store).await, ["a", "b"]);
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing_acknowledged() {
    let place = Place::new();
    let store = place.open_tuned(Tuning { pages_max: Some(200), ..Tuning::default() });
    let mut acknowledged = Vec::new();
    let error = loop {
        let mut new = task(&format!("t{:03}", acknowledged.len()));
        new.spec.payload.prompt = Some("x".repeat(20_000));
        match store.create(new).await {
            Ok(made) => acknowledged.push(made.meta.name),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1_000, "200 pages hold no 20 MB");
    };
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("no space"), "{error}");
    assert!(acknowledged.len() > 10);
    assert_eq!(names(&store).await, acknowledged);
    // Room again: writing goes on.
    let first = Store::<AgenticTask>::get(&*store, &key("t000")).await.expect("get");
    let first = first.expect("present");
    Store::<AgenticTask>::delete(&*store, &first.key(), first.uid(), Expect::Any)
        .await
        .expect("delete");
    create(&store, "small").await;
    assert_eq!(store.check().await, Ok(Vec::new()));
}

/// A closed store with some tasks, whose bytes from `from` on are overwritten.
async fn damaged(place: &Place, from: u64) {
    let store = place.open();
    for number in 0..200 {
        create(&store, &format!("t{number:03}")).await;
    }
    drop(store);
    let mut file = std::fs::OpenOptions::new().write(true).open(place.file()).expect("open");
    let length = file.metadata().expect("metadata").len();
    file.seek(SeekFrom::Start(from)).expect("seek");
    let garbage = vec![0xa5; usize::try_from(length - from).expect("fits")];
    file.write_all(&garbage).expect("write");
}

#[tokio::test]
async fn a_damaged_file_is_called_damaged() {
    let place = Place::new();
    // The first two pages stay: schema and bookkeeping.
    damaged(&place, 8 * 4_096).await;
    let store = place.open();
    let listed = Store::<AgenticTask>::list(&*store, &Query::all()).await;
    match listed {
        Err(StoreError::Unavailable { reason, .. }) => {
            assert!(reason.contains("is damaged"), "{reason}");
            assert!(reason.contains("foreman.db"), "{reason}");
            assert!(reason.contains("restore"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    match store.check().await {
        Ok(faults) => assert!(!faults.is_empty()),
        Err(error) => assert!(error.to_string().contains("damaged"), "{error}"),
    }
}

#[tokio::test]
async fn a_file_without_its_head_is_refused() {
    let place = Place::new();
    damaged(&place, 0).await;
    let clock = foreman_core::testkit::sim::SimClock::new();
    let chance = foreman_core::testkit::sim::SimEntropy::new(1);
    let error = SqliteStore::open(place.file(), clock, chance).expect_err("refused");
    assert!(matches!(error, crate::OpenError::NotADatabase { .. }), "{error:?}");
}

#[tokio::test]
async fn a_row_that_is_no_json_fails_nobody_else() {
    let place = Place::new();
    let store = place.open();
    for name in ["a", "b", "c"] {
        let new = task(name).label("team", "core");
        store.create(new).await.expect("create");
    }
    place.raw().execute("UPDATE objects SET json = '{' WHERE name = 'b'", []).expect("damage");
    let listing = Store::<AgenticTask>::list(&*store, &Query::all()).await.expect("list");
    assert_eq!((listing.objects.len(), listing.unreadable.len()), (2, 1));
    let labelled = Query::all().label("team", "core");
    let listing = Store::<AgenticTask>::list(&*store, &labelled).await.expect("list");
    assert_eq!(listing.objects.len(), 2);
    let mut events = Stores::of(&store).tasks.watch(Query::all());
    let mut unreadable = Vec::new();
    loop {
        match next(&mut events).await {
            StoreEvent::Unreadable { key, .. } => unreadable.push(key),
            StoreEvent::SyncEnd => break,
            StoreEvent::SyncStart | StoreEvent::Upsert(_) | StoreEvent::Gone { .. } => {}
        }
    }
    assert_eq!(unreadable, [key("b")]);
    let patched = store.patch(&key("b"), attempt(1), Expect::Any).await;
    assert!(matches!(patched, Err(StoreError::Unreadable { .. })), "{patched:?}");
    store.patch(&key("a"), attempt(1), Expect::Any).await.expect("patch");
}

#[tokio::test]
async fn a_store_that_was_migrated_meanwhile_is_not_written() {
    let place = Place::new();
    let store = place.open();
    create(&store, "a").await;
    place.raw().pragma_update(None, "user_version", 99).expect("another program");
    match store.create(task("b")).await {
        Err(StoreError::Unavailable { reason, .. }) => {
            assert!(reason.contains("version 99") && reason.contains("restart"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&store).await, ["a"]);
}

#[tokio::test]
async fn work_that_panics_costs_itself_and_neither_the_store_nor_its_watchers() {
    let place = Place::new();
    let store = place.open();
    let mut events = watch(&store).await;
    for _ in 0..2 * crate::limits::READER_THREADS {
        let write = store.write::<(), _>(|_| panic!("scripted panic")).await;
        assert!(matches!(write, Err(StoreError::Unavailable { .. })), "{write:?}");
        let read = store.readers.read::<()>(|_| panic!("scripted panic")).await;
        assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    }
    create(&store, "a").await;
    assert_eq!(names(&store).await, ["a"]);
    assert!(matches!(next(&mut events).await, StoreEvent::Upsert(task) if task.meta.name == "a"));
}

#[tokio::test]
async fn reads_that_nobody_waits_for_any_more_keep_their_places_until_they_are_thrown_away() {
    let place = Place::new();
    let store = place.open();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let hold = || {
        let gate = gate.clone();
        store.readers.read(move |_| {
            let _closed = gate.lock().expect("no panic").recv();
            Ok(())
        })
    };
    let mut holding: Vec<_> =
        (0..crate::limits::READER_THREADS).map(|_| Box::pin(hold())).collect();
    for read in &mut holding {
        assert!(futures::poll!(read).is_pending(), "every thread is kept busy");
    }
    for _ in crate::limits::READER_THREADS..crate::limits::PENDING_READS_MAX {
        // Polled once, so that it is queued, and given up.
        let read = store.readers.read(|_| -> rusqlite::Result<()> { panic!("nobody waits") });
        let read = tokio::task::unconstrained(read);
        assert!(futures::poll!(std::pin::pin!(read)).is_pending());
    }
    assert_eq!(store.readers.free_places(), 0);
    drop(go);
    for read in holding {
        read.await.expect("read");
    }
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[cfg(feature = "testkit")]
#[tokio::test]
async fn a_change_that_leaves_an_object_unreadable_is_not_made() {
    let place = Place::new();
    let store = place.open();
    let before = create(&store, "a").await;
    let mut object = before.to_json();
    object["status"] = serde_json::json!({"attempt": "one", "session": 7});
    store.put_raw("AgenticTask", &key("a"), object).await.expect("put");
    let half = Change::<AgenticTask>::of(Part::Status).set("attempt", 1);
    let error = store.patch(&key("a"), half, Expect::Any).await;
    assert!(matches!(error, Err(StoreError::Unreadable { .. })), "{error:?}");
    let both = Change::<AgenticTask>::of(Part::Status).set("session", "s");
    let error = store.patch(&key("a"), both, Expect::Any).await;
    assert!(matches!(error, Err(StoreError::Unreadable { .. })), "nothing of the first: {error:?}");
}
