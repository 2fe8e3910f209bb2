//! A watch over a bad wire: changes come late, twice, and those of different objects out of order.
//! The changes of one object keep their order: the port promises that, and the loops rely on it.

use std::any::Any;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::stream::Stream;
use serde_json::Value;

use super::engine::{Instant, Slot, lock, nanos};
use super::machine::MachineId;
use super::net::{Net, unavailable};
use crate::model::ids::{Key, Uid};
use crate::model::{Kind, Object};
use crate::ports::store::{Query, StoreError, StoreEvent};

/// A watcher, whatever its kind.
pub(crate) trait Watching: Send + Sync {
    /// Whether anybody still listens.
    fn is_open(&self) -> bool;
    /// Something changed at the store.
    fn changed(
        &self,
        key: &Key,
        value: Option<&Value>,
        object: Option<&Arc<dyn Any + Send + Sync>>,
    );
    /// The watch breaks: an error, then nothing.
    fn cut(&self);
}

type Item<K> = Result<StoreEvent<K>, StoreError>;

struct State<K: Kind> {
    visible: BTreeMap<Key, Uid>,
    queue: BTreeMap<(Instant, u64), Item<K>>,
    sequence: u64,
    /// Not before this moment: what comes after a full reading comes after it.
    floor: Instant,
    last: BTreeMap<Key, Instant>,
    newest: Instant,
    waker: Option<Waker>,
    timer: Option<Slot>,
    open: bool,
    broken: bool,
    synced: bool,
}

pub(super) struct Watcher<K: Kind> {
    net: Arc<Net>,
    machine: MachineId,
    query: Query,
    state: Mutex<State<K>>,
}

/// The stream that a caller of `watch` holds.
pub(super) struct Watch<K: Kind>(Arc<Watcher<K>>);

impl<K: Kind> Watch<K> {
    pub(super) fn open(net: &Arc<Net>, machine: MachineId, query: Query) -> Self {
        let state = State {
            visible: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            floor: net.engine.now(),
            last: BTreeMap::new(),
            newest: 0,
            waker: None,
            timer: None,
            open: true,
            broken: false,
            synced: false,
        };
        let watcher =
            Arc::new(Watcher { net: net.clone(), machine, query, state: Mutex::new(state) });
        let link = net.link(machine);
        if net.is_out() || link.requests_lost || link.answers_lost {
            let pause =
                lock(&net.state).chance.duration(Duration::from_millis(5), Duration::from_secs(5));
            watcher.break_off(net.engine.now() + nanos(pause));
        } else {
            net.add_watcher(K::NAMES.kind, machine, watcher.clone());
            let pause = watcher.delay();
            let opened = watcher.clone();
            net.engine.after(pause, move || opened.sync());
        }
        Self(watcher)
    }
}

impl<K: Kind> Watcher<K> {
    fn delay(&self) -> Duration {
        let mut net = lock(&self.net.state);
        let high = Duration::from_millis(net.rates.watch_delay_ms.max(1));
        let pause = net.chance.skewed(Duration::from_micros(200), high);
        pause + Duration::from_micros(net.chance.below(900))
    }

    /// Tells everything, as it is now; what was under way is not told any more.
    fn sync(&self) {
        if self.net.is_out() {
            self.cut();
            return;
        }
        let objects = self.net.objects::<K>();
        let at = self.net.engine.now() + nanos(self.delay());
        let mut state = lock(&self.state);
        if !state.open || state.broken {
            return;
        }
        state.queue.clear();
        state.last.clear();
        state.visible.clear();
        state.synced = true;
        state.floor = state.floor.max(at);
        let at = state.floor;
        state.put(at, Ok(StoreEvent::SyncStart));
        for (key, object) in objects {
            if self.matches(&object) {
                state.visible.insert(key, object.meta.uid.clone());
                state.put(at, Ok(StoreEvent::Upsert(Box::new((*object).clone()))));
            }
        }
        state.put(at, Ok(StoreEvent::SyncEnd));
        self.arm(&mut state);
    }

    fn matches(&self, object: &Object<K>) -> bool {
        let query = &self.query;
        if query.assigned_node.is_none() && query.phase.is_none() {
            let meta = &object.meta;
            let place = query.namespace.is_none() || query.namespace == meta.namespace;
            return place
                && query.labels.iter().all(|(name, value)| meta.labels.get(name) == Some(value));
        }
        query.matches(&object.to_json())
    }

    fn break_off(&self, at: Instant) {
        let mut state = lock(&self.state);
        state.broken = true;
        state.queue.clear();
        state.put(at, Err(unavailable()));
        self.arm(&mut state);
    }

    /// Sees to it that the listener is woken when the next item is due.
    fn arm(&self, state: &mut State<K>) {
        let Some(waker) = &state.waker else { return };
        let Some(((due, _), _)) = state.queue.first_key_value() else { return };
        if state.timer.is_none_or(|(at, _)| *due < at) {
            if let Some(timer) = state.timer.take() {
                self.net.engine.forget(timer);
            }
            state.timer = Some(self.net.engine.wake_at(*due, waker.clone()));
        }
    }

    fn told(&self, state: &mut State<K>, key: &Key, event: StoreEvent<K>) {
        let (delay, again) = {
            let delay = self.delay();
            let mut net = lock(&self.net.state);
            let twice = net.rates.watch_twice;
            let again = net.chance.per_mille(twice);
            if !net.rates.watch_reorder {
                state.floor = state.floor.max(state.newest);
            }
            (delay, again)
        };
        let last = state.last.get(key).copied().unwrap_or_default();
        let at = (self.net.engine.now() + nanos(delay)).max(state.floor).max(last);
        state.last.insert(key.clone(), at);
        state.newest = state.newest.max(at);
        if again {
            self.net.counts.add("watch event twice");
            state.put(at, Ok(event.clone()));
        }
        state.put(at, Ok(event));
        self.arm(state);
    }

    /// Puts into the trace what the listener is told; it is no event of its own.
    fn show(&self, item: &Item<K>) {
        if !self.net.trace.keeps() {
            return;
        }
        let what = match item {
            Ok(StoreEvent::SyncStart) => "everything:".to_owned(),
            Ok(StoreEvent::SyncEnd) => "that was everything".to_owned(),
            Ok(StoreEvent::Upsert(object)) => {
                format!("{} at {}", object.key(), object.revision())
            }
            Ok(StoreEvent::Gone { key, .. }) => format!("{key} is gone"),
            Ok(StoreEvent::Unreadable { key, .. }) => format!("{key} cannot be read"),
            Err(error) => error.to_string(),
        };
        let machine = self.net.engine.machine(self.machine, |state| state.name.clone());
        let kind = K::NAMES.alias;
        self.net.trace.aside(self.net.engine.now(), || format!("{machine} hears {kind} {what}"));
    }

    /// Whether the watch breaks or is resynced instead of telling the next change.
    fn mishap(&self) -> Option<bool> {
        let mut net = lock(&self.net.state);
        let (cuts, compactions) = (net.rates.watch_cuts, net.rates.compactions);
        if net.chance.per_mille(cuts) {
            return Some(true);
        }
        net.chance.per_mille(compactions).then_some(false)
    }
}

impl<K: Kind> State<K> {
    fn put(&mut self, at: Instant, item: Item<K>) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), item);
    }
}

impl<K: Kind> Watching for Watcher<K> {
    fn is_open(&self) -> bool {
        let state = lock(&self.state);
        state.open && !state.broken
    }

    fn changed(
        &self,
        key: &Key,
        value: Option<&Value>,
        object: Option<&Arc<dyn Any + Send + Sync>>,
    ) {
        if !lock(&self.state).synced {
            return;
        }
        match self.mishap() {
            Some(true) => {
                self.net.counts.add("watch cut");
                return self.cut();
            }
            Some(false) => {
                self.net.counts.add("watch compacted");
                return self.sync();
            }
            None => {}
        }
        let mut state = lock(&self.state);
        let now = value.filter(|value| self.query.matches(value));
        let object = object.and_then(|object| object.downcast_ref::<Object<K>>());
        let object = now.and(object);
        let old = state.visible.get(key).cloned();
        if let Some(old) = old.filter(|old| object.is_none_or(|object| object.meta.uid != *old)) {
            state.visible.remove(key);
            self.told(&mut state, key, StoreEvent::Gone { key: key.clone(), uid: old });
        }
        if let Some(object) = object {
            state.visible.insert(key.clone(), object.meta.uid.clone());
            self.told(&mut state, key, StoreEvent::Upsert(Box::new(object.clone())));
        }
    }

    fn cut(&self) {
        let at = self.net.engine.now() + nanos(self.delay());
        self.break_off(at);
    }
}

impl<K: Kind> Stream for Watch<K> {
    type Item = Item<K>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watcher = &self.0;
        let stalled = watcher.net.link(watcher.machine).answers_lost;
        let mut state = lock(&watcher.state);
        let now = watcher.net.engine.now();
        let due = state.queue.first_key_value().is_some_and(|((at, _), _)| *at <= now);
        // Over a link that loses answers nothing arrives until it is mended, and then it breaks.
        if due
            && (!stalled || state.broken)
            && let Some((_, item)) = state.queue.pop_first()
        {
            watcher.show(&item);
            return Poll::Ready(Some(item));
        }
        if state.broken && state.queue.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(timer) = state.timer.take() {
            watcher.net.engine.forget(timer);
        }
        state.waker = Some(context.waker().clone());
        if !stalled || state.broken {
            watcher.arm(&mut state);
        }
        Poll::Pending
    }
}

impl<K: Kind> Drop for Watch<K> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.open = false;
        if let Some(timer) = state.timer.take() {
            self.0.net.engine.forget(timer);
        }
    }
}
