//! The files: chains of attempts, claims, secrets, limits, reaping.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use serde_json::json;

use super::tests::{assistant, bytes, header, started, user};
use super::*;
use crate::model_client::{CallUsage, Message};
use crate::redact::Redactor;

fn store(dir: &std::path::Path) -> JournalStore {
    JournalStore::new(dir, Arc::new(|| 7))
}

fn key(uid: &str, attempt: u32) -> JournalKey {
    JournalKey::new(uid, attempt).expect("a good key")
}

#[tokio::test]
async fn a_second_attempt_goes_on_where_the_first_was_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let mut first =
        store.create(header("u-1", 1, None), Redactor::default()).await.expect("created");
    for entry in [user("task"), assistant(&["a"]), started("a")] {
        let written = first.journal.append(entry).expect("appended");
        first.replay.apply(&written);
    }
    first.journal.sync().await.expect("synced");
    let path = first.journal.path().to_owned();
    drop(first);
    // The crash tore the last record.
    let mut torn = std::fs::read(&path).expect("read");
    torn.extend([1, 2, 3]);
    std::fs::write(&path, torn).expect("written");

    assert_eq!(store.highest_attempt("u-1").await.expect("listed"), Some(1));
    let parent = store.parent("u-1").await.expect("read").expect("there");
    let second =
        store.create(header("u-1", 2, Some(parent)), Redactor::default()).await.expect("created");
    assert_eq!(second.replay.conversation.last().map(Message::content), Some(INTERRUPTED));
    assert_eq!(second.replay.pending(), Pending::Model);
    assert_eq!(second.replay.header.as_ref().map(|h| h.fence.attempt), Some(2));
    let state = second.replay.clone();
    drop(second);

    // What a process of the old claim still writes counts for nobody.
    let mut old = store.reopen(key("u-1", 1), Redactor::default()).await.expect("opened");
    old.journal.append(user("I still live")).expect("appended");
    old.journal.sync().await.expect("synced");
    assert_eq!(store.read(key("u-1", 2)).await.expect("read"), state);
    assert!(matches!(
        store.create(header("u-1", 2, None), Redactor::default()).await,
        Err(JournalError::Exists { .. })
    ));
}

#[tokio::test]
async fn a_task_that_continues_another_keeps_its_words_and_has_its_own_account() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let mut first =
        store.create(header("u-1", 1, None), Redactor::default()).await.expect("created");
    for entry in [user("task"), assistant(&[]), user("more")] {
        first.journal.append(entry).expect("appended");
    }
    first.journal.sync().await.expect("synced");
    let parent = store.parent("u-1").await.expect("read");
    let second =
        store.create(header("u-2", 1, parent), Redactor::default()).await.expect("created");
    assert_eq!(second.replay.conversation.len(), 3);
    assert_eq!((second.replay.turns.len(), second.replay.usage), (0, CallUsage::default()));
    assert_eq!(store.parent("nobody").await.expect("read"), None);
}

#[tokio::test]
async fn an_outcome_that_was_not_told_survives_a_new_claim() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let mut first = store.create(header("u", 1, None), Redactor::default()).await.expect("created");
    first.journal.append(Entry::Outcome { outcome: json!("GO") }).expect("appended");
    first.journal.sync().await.expect("synced");
    let parent = store.parent("u").await.expect("read");
    let second =
        store.create(header("u", 2, parent.clone()), Redactor::default()).await.expect("created");
    assert_eq!(second.replay.outcome, Some(json!("GO")));
    let other = store.create(header("v", 1, parent), Redactor::default()).await.expect("created");
    assert_eq!(other.replay.outcome, None, "a task that continues it has its own end");
}

#[tokio::test]
async fn secrets_do_not_reach_the_file_and_memory_sees_what_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = SecretString::from("ghp_topsecret123".to_owned());
    let mut opened = store(dir.path())
        .create(header("u", 1, None), Redactor::new([&secret]))
        .await
        .expect("created");
    let written = opened.journal.append(user("token \"ghp_topsecret123\"")).expect("appended");
    assert_eq!(written, user("token \"[redacted]\""));
    opened.journal.sync().await.expect("synced");
    let file = std::fs::read(opened.journal.path()).expect("read");
    assert!(!String::from_utf8_lossy(&file).contains("topsecret"));
    assert_eq!(decode(&file).records.last().map(|r| r.entry.clone()), Some(written));
}

#[tokio::test]
async fn a_full_journal_refuses_but_takes_the_outcome() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = store(dir.path())
        .create(header("u", 1, None), Redactor::default())
        .await
        .expect("created")
        .journal;
    journal.limit(journal.bytes() + 200);
    journal.append(user("fits")).expect("fits");
    assert!(matches!(journal.append(user(&"x".repeat(300))), Err(JournalError::Full { .. })));
    assert!(
        matches!(journal.append(user("small")), Err(JournalError::Full { .. })),
        "no gap in the record"
    );
    assert!(journal.sync().await.is_err());
    journal
        .append(Entry::Outcome { outcome: json!({"infrastructure": "Error"}) })
        .expect("the last word");
    journal.sync().await.expect("synced");
}

#[tokio::test]
async fn a_disk_that_refuses_is_told_and_stays_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.journal");
    std::fs::write(&path, b"").expect("written");
    // A descriptor that cannot be written, as a disk that is full or gone.
    let file = std::fs::File::open(&path).expect("opened");
    let mut journal =
        Journal::start(file, path, 0, Redactor::default(), Arc::new(|| 1)).expect("started");
    journal.append(user("x")).expect("handed over");
    assert!(matches!(journal.sync().await, Err(JournalError::Io { action: "write", .. })));
    assert!(journal.append(user("y")).is_err());
}

#[tokio::test]
async fn unusable_journals_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    for uid in ["", "../x", "a/b", ".", "ü", &"x".repeat(65)] {
        assert!(matches!(JournalKey::new(uid, 1), Err(JournalError::BadKey { .. })), "{uid}");
    }
    assert!(matches!(store.read(key("u", 1)).await, Err(JournalError::Io { action: "read", .. })));
    let newer = Header { schema: JOURNAL_SCHEMA + 1, ..header("u", 1, None) };
    std::fs::create_dir_all(dir.path().join("journals/u")).expect("made");
    std::fs::write(
        dir.path().join("journals/u/1.journal"),
        bytes(&[Entry::Header(Box::new(newer))]),
    )
    .expect("written");
    assert!(matches!(store.read(key("u", 1)).await, Err(JournalError::Newer { found: 2, .. })));
    std::fs::write(dir.path().join("journals/u/2.journal"), b"garbage").expect("written");
    assert!(matches!(store.read(key("u", 2)).await, Err(JournalError::NoHeader { .. })));
    let lost = ParentRef { uid: "gone".into(), attempt: 1, bytes: 10 };
    assert!(matches!(
        store.create(header("v", 1, Some(lost)), Redactor::default()).await,
        Err(JournalError::Parent { .. })
    ));
    // Two that name each other.
    let to = |uid: &str| Some(ParentRef { uid: uid.into(), attempt: 1, bytes: 1 << 20 });
    for (uid, parent) in [("x", "y"), ("y", "x")] {
        let path = dir.path().join(format!("journals/{uid}"));
        std::fs::create_dir_all(&path).expect("made");
        std::fs::write(
            path.join("1.journal"),
            bytes(&[Entry::Header(Box::new(header(uid, 1, to(parent))))]),
        )
        .expect("written");
    }
    assert!(matches!(store.read(key("x", 1)).await, Err(JournalError::Parent { .. })));
}

#[tokio::test]
async fn reaping_keeps_the_living_their_parents_and_what_is_young_and_small() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    for uid in ["old", "parent", "young"] {
        store.create(header(uid, 1, None), Redactor::default()).await.expect("created");
    }
    let parent = store.parent("parent").await.expect("read");
    store.create(header("live", 1, parent), Redactor::default()).await.expect("created");
    let live = BTreeSet::from(["live".to_owned()]);
    let now = SystemTime::now();
    let day = Duration::from_hours(24);
    let none = store.reap_now(live.clone(), now, day, u64::MAX).expect("reaped");
    assert_eq!(none, Reaped::default());
    // By size: the oldest goes first.
    let old = dir.path().join("journals/old/1.journal");
    let file = std::fs::File::options().write(true).open(&old).expect("opened");
    file.set_modified(now - day / 2).expect("set");
    let bytes = std::fs::metadata(&old).expect("there").len();
    let by_size = store.reap_now(live.clone(), now, day, bytes + 50).expect("reaped");
    assert_eq!(by_size, Reaped { uids: vec!["old".into()], bytes });
    // By age: all that is not live.
    let by_age = store.reap_now(live, now + 2 * day, day, u64::MAX).expect("reaped");
    assert_eq!(by_age.uids, ["young"]);
    let left: Vec<String> = store
        .list()
        .await
        .expect("listed")
        .into_iter()
        .map(|one| one.key.uid().to_owned())
        .collect();
    assert_eq!(left, ["live", "parent"]);
}
