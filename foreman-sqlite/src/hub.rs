//! The log of changes in memory, from which the watchers of this process are served. It holds what
//! the writer committed and what the writer found that other processes had committed, in order.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foreman_core::model::Key;
use serde_json::Value;
use tokio::sync::watch;

use crate::limits::{LOG_BYTES_MAX, TAKEN_MAX};

/// One change of one object.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The change's revision.
    pub(crate) revision: i64,
    /// The object's kind.
    pub(crate) kind: Cow<'static, str>,
    /// The object.
    pub(crate) key: Key,
    /// What stands there since; absent when it was deleted.
    pub(crate) object: Option<Arc<Value>>,
    /// How large its JSON is.
    pub(crate) bytes: usize,
}

/// What a watcher finds.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Changes of its kind, perhaps none, and how far it is now.
    Changes(Vec<Entry>, i64),
    /// It is too far behind and must read everything.
    Behind,
    /// The store is closed.
    Closed,
}

/// The log in memory.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    entries_max: usize,
}

#[derive(Debug)]
struct State {
    watchers: usize,
    closed: bool,
    /// Every change after this one, up to `head`, is in the log.
    since: i64,
    head: i64,
    bytes: usize,
    log: VecDeque<Entry>,
}

impl State {
    fn forget(&mut self) {
        self.log.clear();
        self.bytes = 0;
        self.since = self.head;
    }
}

impl Hub {
    /// A log that begins after revision `head`.
    pub(crate) fn new(head: i64, entries_max: usize) -> Arc<Self> {
        let state =
            State { watchers: 0, closed: false, since: head, head, bytes: 0, log: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state), changed: watch::channel(0).0, entries_max })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last revision that the log knows of.
    pub(crate) fn head(&self) -> i64 {
        self.lock().head
    }

    /// Whether anybody listens.
    pub(crate) fn is_watched(&self) -> bool {
        self.lock().watchers > 0
    }

    /// Adds changes, in order, after which the store is at `head`.
    pub(crate) fn append(&self, entries: Vec<Entry>, head: i64) {
        let mut state = self.lock();
        state.head = head;
        if state.watchers == 0 {
            state.forget();
            return;
        }
        for entry in entries {
            state.bytes += entry.bytes;
            state.log.push_back(entry);
        }
        while state.log.len() > self.entries_max || state.bytes > LOG_BYTES_MAX {
            let Some(oldest) = state.log.pop_front() else {
                break;
            };
            state.bytes -= oldest.bytes;
            state.since = oldest.revision;
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Says that the changes up to `head` are not known: every watcher reads everything again.
    pub(crate) fn lose(&self, head: i64) {
        let mut state = self.lock();
        state.head = head;
        state.forget();
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// The changes of a kind after `cursor`.
    pub(crate) fn take(&self, cursor: i64, kind: &str) -> Taken {
        let state = self.lock();
        if state.closed {
            return Taken::Closed;
        }
        if cursor >= state.head {
            return Taken::Changes(Vec::new(), cursor);
        }
        if cursor < state.since {
            return Taken::Behind;
        }
        let from = state.log.partition_point(|entry| entry.revision <= cursor);
        let mut taken = Vec::new();
        for entry in state.log.range(from..).filter(|entry| entry.kind == kind) {
            if taken.len() == TAKEN_MAX {
                let last = taken.last().map_or(cursor, |entry: &Entry| entry.revision);
                return Taken::Changes(taken, last);
            }
            taken.push(entry.clone());
        }
        Taken::Changes(taken, state.head)
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Whether the store is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Begins to listen: from now on the log keeps what is appended.
    pub(crate) fn listen(self: &Arc<Self>) -> Listener {
        let mut state = self.lock();
        state.watchers += 1;
        drop(state);
        Listener { hub: self.clone(), changed: self.changed.subscribe() }
    }
}

/// A watcher's place at the hub.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) hub: Arc<Hub>,
    /// Changes when the log does.
    pub(crate) changed: watch::Receiver<u64>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.watchers -= 1;
        if state.watchers == 0 {
            state.forget();
        }
    }
}
