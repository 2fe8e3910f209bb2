//! Promise 10: any byte prefix of a journal is a valid conversation, repair is idempotent, and a call
//! that was started is never run again.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model_client::{CallUsage, FinishReason, Message, ToolCall};

pub(super) fn header(uid: &str, attempt: u32, parent: Option<ParentRef>) -> Header {
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

pub(super) fn user(text: &str) -> Entry {
    Entry::Message { message: Message::user(text), usage: None, finish: None, problem: None }
}

pub(super) fn assistant(ids: &[&str]) -> Entry {
    let tool_calls = ids
        .iter()
        .map(|id| ToolCall { id: (*id).into(), name: "bash".into(), arguments: "{}".into() })
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

pub(super) fn started(id: &str) -> Entry {
    Entry::ToolStarted { call: id.into(), name: "bash".into() }
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
    entries.iter().map(|entry| Record { at: 1, entry: entry.clone() }).collect()
}

pub(super) fn bytes(entries: &[Entry]) -> Vec<u8> {
    let values =
        records(entries).into_iter().map(|record| serde_json::to_value(record).expect("JSON"));
    values.flat_map(|value| encode(&value).expect("small")).collect()
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
                    assert!(!call.id.is_empty() && ids.insert(call.id.as_str()), "ids are unique");
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
    let mut whole: Vec<u8> =
        bytes.iter().copied().take(usize::try_from(decoded.valid_bytes).expect("small")).collect();
    for entry in &once.missing {
        let record = Record { at: 2, entry: entry.clone() };
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
    prop::collection::vec(prop::collection::vec((any::<bool>(), any::<bool>()), 0..4), 0..5)
        .prop_map(|turns| {
            let mut entries = vec![Entry::Header(Box::new(header("u", 1, None))), user("task")];
            for (t, calls) in turns.iter().enumerate() {
                let ids: Vec<String> = (0..calls.len()).map(|c| format!("call_{t}_{c}")).collect();
                entries.push(assistant(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
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
            let mut open = BTreeSet::new();
            for record in &seen {
                if let Entry::ToolStarted { call, .. } = &record.entry {
                    open.insert(call.clone());
                } else if let Entry::ToolResult { call, .. } = &record.entry {
                    open.remove(call);
                }
            }
            for message in &repaired.replay.conversation {
                if let Message::Tool { tool_call_id, content, .. } = message {
                    prop_assert_eq!(open.contains(tool_call_id), content == INTERRUPTED);
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
    assert_eq!(decode(&[0; 64]), Decoded { records: vec![], valid_bytes: 0, torn: true });
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
        Entry::EffectIntent { key: "push".into(), detail: json!(1) },
    ];
    let state = assert_repairs(&bytes(&entries)).replay;
    let contents: Vec<&str> = state.conversation.iter().map(Message::content).collect();
    assert_eq!(contents, ["task", "", "x", INTERRUPTED]);
    assert_eq!(state.pending(), Pending::Model);
    assert_eq!((state.turns.len(), state.tool_calls, state.usage.prompt_tokens), (1, 2, 10));
    assert_eq!(state.effects.get("push"), Some(&EffectState::Intended { detail: json!(1) }));
    assert_eq!(replay(&records(&[user("task")])).pending(), Pending::Model);
    assert_eq!(replay(&[]).pending(), Pending::Opening);
    assert_eq!(replay(&records(&[user("task"), assistant(&[])])).pending(), Pending::Answer);
}

#[test]
fn a_submission_waits_for_its_judgement_until_somebody_speaks() {
    let call = ToolCall { id: "z".into(), name: "submit_result".into(), arguments: "{}".into() };
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
    assert_eq!(replay(&records(&entries)).pending(), Pending::Judgement { call });
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
