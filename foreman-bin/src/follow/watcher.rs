//! The watching itself: the store's watches and this process' runs, merged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foreman_core::model::{AgenticTask, Attempt, FleetNode, Key, Kind, Object, Uid, Workload};
use foreman_core::ports::{Query, Store, StoreEvent, Stores};
use foreman_runner::observe::{RunEvent, RunObserver};
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;

use super::fact::Fact;
use super::story::{Story, finished};

/// Events of runs that wait to be shown; beyond it they are dropped and counted, because a run must
/// never wait for a terminal.
const EVENTS_MAX: usize = 4096;
/// Pause before a watch that broke is opened again.
const WATCH_AGAIN: Duration = Duration::from_millis(500);

/// Takes the events of the runs in this process.
#[derive(Debug)]
pub struct Bus {
    sender: mpsc::Sender<(Key, Attempt, RunEvent)>,
    lost: AtomicU64,
}

/// The other end of a [`Bus`].
#[derive(Debug)]
pub struct Heard {
    receiver: mpsc::Receiver<(Key, Attempt, RunEvent)>,
    bus: Arc<Bus>,
}

impl Bus {
    /// A bus and its one listener.
    pub fn new() -> (Arc<Self>, Heard) {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let bus = Arc::new(Self { sender, lost: AtomicU64::new(0) });
        (bus.clone(), Heard { receiver, bus })
    }
}

impl RunObserver for Bus {
    fn event(&self, task: &Key, attempt: Attempt, event: RunEvent) {
        if self.sender.try_send((task.clone(), attempt, event)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// One workload and its tasks.
    Workload(Key, Uid),
    /// All there is.
    Everything,
}

/// Why the following ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The workload is gone.
    #[error("workload {name} was deleted while it was followed")]
    Deleted {
        /// Its name.
        name: String,
    },
}

/// Tells what happens, one fact at a time.
pub struct Follower {
    of: Of,
    story: Story,
    workloads: BoxStream<'static, StoreEvent<Workload>>,
    tasks: BoxStream<'static, StoreEvent<AgenticTask>>,
    nodes: BoxStream<'static, StoreEvent<FleetNode>>,
    heard: Heard,
    ready: VecDeque<Fact>,
    /// Whether the followed workload was there since the last full reading began.
    seen: bool,
    /// Whether the first full reading of workloads, and of tasks, is over: what had ended before it is
    /// no news to somebody who follows everything.
    read: (bool, bool),
}

impl Follower {
    /// Follows from now on; the first facts tell how things stand.
    pub fn new(stores: &Stores, of: Of, heard: Heard) -> Self {
        let query = match &of {
            Of::Workload(key, _) => Query { namespace: key.namespace.clone(), ..Query::all() },
            Of::Everything => Query::all(),
        };
        Self {
            of,
            story: Story::default(),
            workloads: steady(stores.workloads.clone(), query.clone()),
            tasks: steady(stores.tasks.clone(), query),
            nodes: steady(stores.nodes.clone(), Query::all()),
            heard,
            ready: VecDeque::new(),
            seen: false,
            read: (false, false),
        }
    }

    /// The next fact. Cancelling loses none.
    pub async fn next(&mut self) -> Result<Fact, FollowError> {
        loop {
            if let Some(fact) = self.ready.pop_front() {
                return Ok(fact);
            }
            let lost = self.heard.bus.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                return Ok(Fact::notice(None, format!("{lost} events came too fast to be shown")));
            }
            // What a run told before it ended comes before its end in the store.
            futures::select_biased! {
                heard = self.heard.receiver.recv().fuse() => match heard {
                    Some((task, attempt, event)) => {
                        let fact = self.story.run(&task, attempt, event);
                        if self.concerns(&fact) {
                            return Ok(fact);
                        }
                    }
                    // We hold the bus ourselves, so it is never closed.
                    None => std::future::pending().await,
                },
                event = self.workloads.next().fuse() => self.workload(event)?,
                event = self.tasks.next().fuse() => self.task(event),
                event = self.nodes.next().fuse() => self.node(event),
            }
        }
    }

    /// Facts that are there without waiting.
    pub fn next_now(&mut self) -> Option<Result<Fact, FollowError>> {
        self.next().now_or_never()
    }

    fn concerns(&self, fact: &Fact) -> bool {
        match &self.of {
            Of::Everything => true,
            Of::Workload(key, _) => fact.workload.as_deref() == Some(key.name.as_str()),
        }
    }

    fn workload(&mut self, event: Option<StoreEvent<Workload>>) -> Result<(), FollowError> {
        let Of::Workload(key, uid) = &self.of else {
            match event {
                Some(StoreEvent::Upsert(workload)) => {
                    let facts = self.story.workload(&workload);
                    if self.read.0 || finished(&workload).is_none() {
                        self.ready.extend(facts);
                    }
                }
                Some(StoreEvent::SyncEnd) => self.read.0 = true,
                _ => {}
            }
            return Ok(());
        };
        let deleted = || FollowError::Deleted { name: key.name.clone() };
        match event {
            Some(StoreEvent::SyncStart) => self.seen = false,
            Some(StoreEvent::Upsert(workload)) if workload.meta.uid == *uid => {
                self.seen = true;
                self.ready.extend(self.story.workload(&workload));
            }
            Some(StoreEvent::Gone { uid: gone, .. }) if gone == *uid => return Err(deleted()),
            Some(StoreEvent::SyncEnd) if !self.seen => return Err(deleted()),
            Some(StoreEvent::Unreadable { key: which, reason }) if which == *key => {
                self.seen = true;
                let message = format!("the workload cannot be read: {reason}");
                self.ready.push_back(Fact::notice(Some(&key.name), message));
            }
            _ => {}
        }
        Ok(())
    }

    fn task(&mut self, event: Option<StoreEvent<AgenticTask>>) {
        match event {
            Some(StoreEvent::Upsert(task)) if self.is_ours(&task) => {
                let facts = self.story.task(&task);
                let ended = task.status.has_ended();
                let old = matches!(self.of, Of::Everything) && !self.read.1 && ended;
                if !old {
                    self.ready.extend(facts);
                }
            }
            Some(StoreEvent::SyncEnd) => self.read.1 = true,
            _ => {}
        }
    }

    fn node(&mut self, event: Option<StoreEvent<FleetNode>>) {
        if let Some(StoreEvent::Upsert(node)) = event {
            self.ready.extend(self.story.node(&node));
        }
    }

    fn is_ours(&self, task: &Object<AgenticTask>) -> bool {
        match &self.of {
            Of::Everything => true,
            Of::Workload(_, uid) => task.is_of(uid),
        }
    }
}

/// A watch that is opened again when it breaks.
pub fn steady<K: Kind, S: Store<K> + ?Sized + 'static>(
    store: Arc<S>,
    query: Query,
) -> BoxStream<'static, StoreEvent<K>> {
    let watch = store.watch(query.clone());
    stream::unfold((watch, store, query), |(mut watch, store, query)| async move {
        loop {
            match watch.next().await {
                Some(Ok(event)) => return Some((event, (watch, store, query))),
                Some(Err(error)) => {
                    tracing::warn!(kind = K::NAMES.kind, %error, "the watch broke, opening it again");
                }
                None => tracing::debug!(kind = K::NAMES.kind, "the watch ended, opening it again"),
            }
            tokio::time::sleep(WATCH_AGAIN).await;
            watch = store.watch(query.clone());
        }
    })
    .boxed()
}
