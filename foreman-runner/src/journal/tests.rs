//! Promise 10: any byte prefix of a journal is a valid conversation, repair is idempotent, and a call
//! that was started is never run again. And the files: chains, claims, limits, reaping.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::model_client::{CallUsage, FinishReason, Message, ToolCall};
use crate::redact::Redactor;

fn header(uid: &str, attempt: u32, parent: Option<ParentRef>) -> Header {
    Header {
        schema: JOURNAL_SCHEMA,
        fence: JournalFence {
            uid: uid.into(),
            attempt,
            session: "s".into(),
            node: "n".into(),
            claimed_at: "2026-11-24T10:00:00Z".into(),
        },
        parent,
        base_commit: "4e1f".into(),
        agent: json!({"role": "coder"}),
        tools: vec![],
    }
}

fn user(text: &str) -> Entry {
    Entry::Message {
        message: Message::user(text),
        usage: None,
        finish: None,
        problem: None,
    }
}

fn assistant(ids: &[&str]) -> Entry {
    let tool_calls = ids
        .iter()
        .map(|id| ToolCall {
            id: (*id).into(),
            name: "bash".into(),
            arguments: "{}".into(),
        })
        .collect();
    Entry::Message {
        message: Message::Assistant {
            content: String::new(),
            reasoning: String::new(),
            tool_calls,
        },
        usage: Some(CallUsage {
            prompt_tokens: 10,
            cached_tokens: 4,
            completion_tokens: 2,
            estimated: false,
        }),
        finish: Some(FinishReason::ToolCalls),
        problem: None,
    }
}

fn started(id: &str) -> Entry {
    Entry::ToolStarted {
        call: id.into(),
        name: "bash".into(),
    }
}

fn result(id: &str, content: &str) -> Entry {
    Entry::ToolResult {
        call: id.into(),
        name: "bash".into(),
        content: content.into(),
        error: false,
        malformed: false,
    }
}

fn records(entries: &[Entry]) -> Vec<Record> {
    entries
        .iter()
        .map(|entry| Record {
            at: 1,
            entry: entry.clone(),
        })
        .collect()
}

fn bytes(entries: &[Entry]) -> Vec<u8> {
    let values = records(entries)
        .into_iter()
        .map(|record| serde_json::to_value(record).expect("JSON"));
    values
        .flat_map(|value| encode(&value).expect("small"))
        .collect()
}

/// What an API accepts, and what the promise says.
fn assert_valid(conversation: &[Message]) {
    let mut waiting: Vec<&str> = Vec::new();
    let mut ids = BTreeSet::new();
    let mut before: Option<&Message> = None;
    for message in conversation {
        match message {
            Message::Tool { tool_call_id, .. } => {
                assert_eq!(
                    waiting.first().copied(),
                    Some(tool_call_id.as_str()),
                    "answers stand in the order of the calls"
                );
                waiting.remove(0);
            }
            Message::System { .. } => assert!(before.is_none(), "a system message stands first"),
            Message::User { .. } => assert!(waiting.is_empty(), "a call without an answer"),
            Message::Assistant { tool_calls, .. } => {
                assert!(waiting.is_empty(), "a call without an answer");
                assert!(
                    matches!(before, Some(Message::User { .. } | Message::Tool { .. })),
                    "the model speaks when spoken to"
                );
                for call in tool_calls {
                    assert!(
                        !call.id.is_empty() && ids.insert(call.id.as_str()),
                        "ids are unique"
                    );
                }
                waiting = tool_calls.iter().map(|call| call.id.as_str()).collect();
            }
        }
        before = Some(message);
    }
    assert!(waiting.is_empty(), "a call without an answer at the end");
}

fn assert_repairs(bytes: &[u8]) -> Repaired {
    let once = repair(bytes);
    assert_valid(&once.replay.conversation);
    // Idempotent: what repair adds makes the journal whole by itself.
    let decoded = decode(bytes);
    let mut whole: Vec<u8> = bytes
        .iter()
        .copied()
        .take(usize::try_from(decoded.valid_bytes).expect("small"))
        .collect();
    for entry in &once.missing {
        let record = Record {
            at: 2,
            entry: entry.clone(),
        };
        whole.extend(encode(&serde_json::to_value(record).expect("JSON")).expect("small"));
    }
    let twice = repair(&whole);
    assert_eq!(twice.missing, vec![]);
    assert_eq!(twice.replay, once.replay);
    once
}

/// Any entry, sensible or not, over a few ids.
fn any_entry() -> impl Strategy<Value = Entry> {
    let id = prop::sample::select(vec!["a", "b", "c", "d", ""]);
    prop_oneof![
        2 => Just(user("go on")),
        1 => Just(Entry::Message { message: Message::system("s"), usage: None, finish: None, problem: None }),
        1 => Just(Entry::Message {
            message: Message::Tool { tool_call_id: "a".into(), name: "bash".into(), content: "x".into() },
            usage: None, finish: None, problem: None,
        }),
        5 => prop::collection::vec(id.clone(), 0..4).prop_map(|ids| assistant(&ids)),
        5 => id.clone().prop_map(started),
        5 => id.prop_map(|id| result(id, "done")),
        1 => Just(Entry::EffectIntent { key: "push".into(), detail: json!({"sha": "1"}) }),
        1 => Just(Entry::EffectDone { key: "push".into(), result: json!(null) }),
        1 => Just(Entry::Checkpoint(CheckpointMark { turn: 1, reference: "r".into(), commit: "c".into() })),
        1 => Just(Entry::Header(Box::new(header("other", 2, None)))),
        1 => Just(Entry::Outcome { outcome: json!("x") }),
    ]
}

/// A run as the loop writes it, with calls of which any may have no result.
fn a_run() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(
        prop::collection::vec((any::<bool>(), any::<bool>()), 0..4),
        0..5,
    )
    .prop_map(|turns| {
        let mut entries = vec![Entry::Header(Box::new(header("u", 1, None))), user("task")];
        for (t, calls) in turns.iter().enumerate() {
            let ids: Vec<String> = (0..calls.len()).map(|c| format!("call_{t}_{c}")).collect();
            entries.push(assistant(
                &ids.iter().map(String::as_str).collect::<Vec<_>>(),
            ));
            for (id, (start, end)) in ids.iter().zip(calls) {
                if *start {
                    entries.push(started(id));
                }
                if *end {
                    entries.push(result(id, "ok ✓"));
                }
            }
            if calls.is_empty() {
                entries.push(user("call a tool"));
            }
        }
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_prefix_of_a_run_repairs(entries in a_run()) {
        let all = bytes(&entries);
        for end in 0..=all.len() {
            let prefix = all.get(..end).unwrap_or(&[]);
            let repaired = assert_repairs(prefix);
            // Started and no result in the prefix: answered as interrupted, and nothing of it is to be run.
            let seen = decode(prefix).records;
            let mut open: BTreeMap<String, ()> = BTreeMap::new();
            for record in &seen {
                match &record.entry {
                    Entry::ToolStarted { call, .. } => drop(open.insert(call.clone(), ())),
                    Entry::ToolResult { call, .. } => drop(open.remove(call)),
                    _ => {}
                }
            }
            for message in &repaired.replay.conversation {
                if let Message::Tool { tool_call_id, content, .. } = message {
                    prop_assert_eq!(open.contains_key(tool_call_id), content == INTERRUPTED);
                }
            }
        }
    }

    #[test]
    fn any_order_of_records_repairs(entries in prop::collection::vec(any_entry(), 0..30)) {
        assert_repairs(&bytes(&entries));
    }

    #[test]
    fn a_damaged_byte_cuts_there_and_no_earlier(entries in a_run(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let good = bytes(&entries);
        let mut bad = good.clone();
        let at = at.index(bad.len());
        if let Some(byte) = bad.get_mut(at) {
            *byte ^= 1 << bit;
        }
        let (before, after) = (decode(&good), decode(&bad));
        assert_repairs(&bad);
        prop_assert!(after.torn);
        prop_assert!(after.valid_bytes <= at as u64, "the damaged record does not count");
        prop_assert_eq!(before.records.get(..after.records.len()), Some(after.records.as_slice()));
    }

    #[test]
    fn arbitrary_bytes_repair(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_repairs(&noise);
    }
}

#[test]
fn zeros_and_absurd_lengths_are_bad_records() {
    assert_eq!(
        decode(&[0; 64]),
        Decoded {
            records: vec![],
            valid_bytes: 0,
            torn: true
        }
    );
    assert!(decode(&[0xff; 64]).torn);
    let mut data = bytes(&[user("a")]);
    let good = data.len() as u64;
    data.extend([0; 4096]); // what a file system leaves after a power cut
    assert_eq!(decode(&data).valid_bytes, good);
}

#[test]
fn the_account_and_the_state_of_a_run() {
    let entries = [
        Entry::Header(Box::new(header("u", 1, None))),
        user("task"),
        assistant(&["a", "b"]),
        started("a"),
        result("a", "x"),
        started("b"),
        Entry::EffectIntent {
            key: "push".into(),
            detail: json!(1),
        },
    ];
    let state = assert_repairs(&bytes(&entries)).replay;
    let contents: Vec<&str> = state.conversation.iter().map(Message::content).collect();
    assert_eq!(contents, ["task", "", "x", INTERRUPTED]);
    assert_eq!(state.pending(), Pending::Model);
    assert_eq!(
        (
            state.turns.len(),
            state.tool_calls,
            state.usage.prompt_tokens
        ),
        (1, 2, 10)
    );
    assert_eq!(
        state.effects.get("push"),
        Some(&EffectState::Intended { detail: json!(1) })
    );
    assert_eq!(replay(&records(&[user("task")])).pending(), Pending::Model);
    assert_eq!(replay(&[]).pending(), Pending::Opening);
    assert_eq!(
        replay(&records(&[user("task"), assistant(&[])])).pending(),
        Pending::Answer
    );
}

#[test]
fn a_submission_waits_for_its_judgement_until_somebody_speaks() {
    let call = ToolCall {
        id: "z".into(),
        name: "submit_result".into(),
        arguments: "{}".into(),
    };
    let said = Entry::Message {
        message: Message::Assistant {
            content: String::new(),
            reasoning: String::new(),
            tool_calls: vec![call.clone()],
        },
        usage: None,
        finish: None,
        problem: None,
    };
    let taken = Entry::ToolResult {
        call: "z".into(),
        name: "submit_result".into(),
        content: "{}".into(),
        error: false,
        malformed: false,
    };
    let mut entries = vec![user("task"), said, taken];
    assert_eq!(
        replay(&records(&entries)).pending(),
        Pending::Judgement { call }
    );
    entries.push(user("the gate failed"));
    assert_eq!(replay(&records(&entries)).pending(), Pending::Model);
}

#[test]
fn kinds_of_a_later_version_are_skipped() {
    let later = json!({"at": 1, "kind": "telepathy", "to": "you"});
    let mut data = bytes(&[user("task")]);
    data.extend(encode(&later).expect("small"));
    data.extend(bytes(&[assistant(&["a"])]));
    let decoded = decode(&data);
    assert_eq!((decoded.records.len(), decoded.torn), (3, false));
    assert_eq!(replay(&decoded.records).turns.len(), 1);
}

// The files.

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
    let mut first = store
        .create(header("u-1", 1, None), Redactor::default())
        .await
        .expect("created");
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
    let second = store
        .create(header("u-1", 2, Some(parent)), Redactor::default())
        .await
        .expect("created");
    assert_eq!(
        second.replay.conversation.last().map(Message::content),
        Some(INTERRUPTED)
    );
    assert_eq!(second.replay.pending(), Pending::Model);
    assert_eq!(
        second.replay.header.as_ref().map(|h| h.fence.attempt),
        Some(2)
    );
    let state = second.replay.clone();
    drop(second);

    // What a process of the old claim still writes counts for nobody.
    let mut old = store
        .reopen(key("u-1", 1), Redactor::default())
        .await
        .expect("opened");
    old.journal.append(user("I still live")).expect("appended");
    old.journal.sync().await.expect("synced");
    assert_eq!(store.read(key("u-1", 2)).await.expect("read"), state);
    assert!(matches!(
        store
            .create(header("u-1", 2, None), Redactor::default())
            .await,
        Err(JournalError::Exists { .. })
    ));
}

#[tokio::test]
async fn a_task_that_continues_another_keeps_its_words_and_has_its_own_account() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let mut first = store
        .create(header("u-1", 1, None), Redactor::default())
        .await
        .expect("created");
    for entry in [user("task"), assistant(&[]), user("more")] {
        first.journal.append(entry).expect("appended");
    }
    first.journal.sync().await.expect("synced");
    let parent = store.parent("u-1").await.expect("read");
    let second = store
        .create(header("u-2", 1, parent), Redactor::default())
        .await
        .expect("created");
    assert_eq!(second.replay.conversation.len(), 3);
    assert_eq!(
        (second.replay.turns.len(), second.replay.usage),
        (0, CallUsage::default())
    );
    assert_eq!(store.parent("nobody").await.expect("read"), None);
}

#[tokio::test]
async fn secrets_do_not_reach_the_file_and_memory_sees_what_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = SecretString::from("ghp_topsecret123".to_owned());
    let mut opened = store(dir.path())
        .create(header("u", 1, None), Redactor::new([&secret]))
        .await
        .expect("created");
    let written = opened
        .journal
        .append(user("token \"ghp_topsecret123\""))
        .expect("appended");
    assert_eq!(written, user("token \"[redacted]\""));
    opened.journal.sync().await.expect("synced");
    let file = std::fs::read(opened.journal.path()).expect("read");
    assert!(!String::from_utf8_lossy(&file).contains("topsecret"));
    assert_eq!(
        decode(&file).records.last().map(|r| r.entry.clone()),
        Some(written)
    );
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
    assert!(matches!(
        journal.append(user(&"x".repeat(300))),
        Err(JournalError::Full { .. })
    ));
    assert!(
        matches!(
            journal.append(user("small")),
            Err(JournalError::Full { .. })
        ),
        "no gap in the record"
    );
    assert!(journal.sync().await.is_err());
    journal
        .append(Entry::Outcome {
            outcome: json!({"infrastructure": "Error"}),
        })
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
    assert!(matches!(
        journal.sync().await,
        Err(JournalError::Io {
            action: "write",
            ..
        })
    ));
    assert!(journal.append(user("y")).is_err());
}

#[tokio::test]
async fn unusable_journals_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    for uid in ["", "../x", "a/b", ".", "ü", &"x".repeat(65)] {
        assert!(
            matches!(JournalKey::new(uid, 1), Err(JournalError::BadKey { .. })),
            "{uid}"
        );
    }
    assert!(matches!(
        store.read(key("u", 1)).await,
        Err(JournalError::Io { action: "read", .. })
    ));
    let newer = Header {
        schema: JOURNAL_SCHEMA + 1,
        ..header("u", 1, None)
    };
    std::fs::create_dir_all(dir.path().join("journals/u")).expect("made");
    std::fs::write(
        dir.path().join("journals/u/1.journal"),
        bytes(&[Entry::Header(Box::new(newer))]),
    )
    .expect("written");
    assert!(matches!(
        store.read(key("u", 1)).await,
        Err(JournalError::Newer { found: 2, .. })
    ));
    std::fs::write(dir.path().join("journals/u/2.journal"), b"garbage").expect("written");
    assert!(matches!(
        store.read(key("u", 2)).await,
        Err(JournalError::NoHeader { .. })
    ));
    let lost = ParentRef {
        uid: "gone".into(),
        attempt: 1,
        bytes: 10,
    };
    assert!(matches!(
        store
            .create(header("v", 1, Some(lost)), Redactor::default())
            .await,
        Err(JournalError::Parent { .. })
    ));
    // Two that name each other.
    let to = |uid: &str| {
        Some(ParentRef {
            uid: uid.into(),
            attempt: 1,
            bytes: 1 << 20,
        })
    };
    for (uid, parent) in [("x", "y"), ("y", "x")] {
        let path = dir.path().join(format!("journals/{uid}"));
        std::fs::create_dir_all(&path).expect("made");
        std::fs::write(
            path.join("1.journal"),
            bytes(&[Entry::Header(Box::new(header(uid, 1, to(parent))))]),
        )
        .expect("written");
    }
    assert!(matches!(
        store.read(key("x", 1)).await,
        Err(JournalError::Parent { .. })
    ));
}

#[tokio::test]
async fn reaping_keeps_the_living_their_parents_and_what_is_young_and_small() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    for uid in ["old", "parent", "young"] {
        store
            .create(header(uid, 1, None), Redactor::default())
            .await
            .expect("created");
    }
    let parent = store.parent("parent").await.expect("read");
    store
        .create(header("live", 1, parent), Redactor::default())
        .await
        .expect("created");
    let live = BTreeSet::from(["live".to_owned()]);
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let none = store
        .reap_now(live.clone(), now, day, u64::MAX)
        .expect("reaped");
    assert_eq!(none, Reaped::default());
    // By size: the oldest goes first.
    let old = dir.path().join("journals/old/1.journal");
    let file = std::fs::File::options()
        .write(true)
        .open(&old)
        .expect("opened");
    file.set_modified(now - day / 2).expect("set");
    let bytes = std::fs::metadata(&old).expect("there").len();
    let by_size = store
        .reap_now(live.clone(), now, day, bytes + 50)
        .expect("reaped");
    assert_eq!(
        by_size,
        Reaped {
            uids: vec!["old".into()],
            bytes
        }
    );
    // By age: all that is not live.
    let by_age = store
        .reap_now(live, now + 2 * day, day, u64::MAX)
        .expect("reaped");
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
