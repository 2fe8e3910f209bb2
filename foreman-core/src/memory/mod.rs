//! The in-memory store: a full citizen, for unit tests of embedders and for simulations.

mod leases;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::Value;
use tokio::sync::watch;

use crate::model::apiserver::{self, Patched};
use crate::model::ids::{Key, Revision, Uid};
use crate::model::object::{Kind, NewObject, Object};
use crate::model::time::WallTime;
use crate::ports::clock::Clock;
use crate::ports::store::{Change, Expect, Listing, Query, Store, StoreError, StoreEvent};
use crate::ports::watching::View;

pub use leases::MemoryLeases;

/// Changes that are kept for watchers; one that falls further behind is resynced.
const LOG_ENTRIES_MAX: usize = 16_384;

/// Holds objects of every kind in memory. Cheap to share: clones see the same objects.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    revision: u64,
    uids: u64,
    objects: BTreeMap<(&'static str, Key), Arc<Value>>,
    log: VecDeque<Entry>,
}

struct Entry {
    revision: u64,
    kind: &'static str,
    key: Key,
    object: Option<Arc<Value>>,
}

/// One change that the store took.
#[cfg(feature = "testkit")]
pub(crate) struct Changed {
    /// The revision that it made.
    pub(crate) revision: u64,
    /// The object's kind.
    pub(crate) kind: &'static str,
    /// The object.
    pub(crate) key: Key,
    /// What stands there now; absent = it was deleted.
    pub(crate) object: Option<Arc<Value>>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store; `clock` dates what is created.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (revision, _) = watch::channel(0);
        let state = Mutex::new(State::default());
        Arc::new(Self { shared: Arc::new(Shared { clock, state, revision }) })
    }

    /// The store's revision now: how many changes it has seen.
    pub fn revision(&self) -> u64 {
        self.shared.lock().revision
    }

    /// The changes after a revision, oldest first: what everybody's writes really did.
    #[cfg(feature = "testkit")]
    pub(crate) fn changes_after(&self, revision: u64) -> Vec<Changed> {
        let state = self.shared.lock();
        let later = state.log.iter().rev().take_while(|entry| entry.revision > revision);
        let mut changes: Vec<_> = later
            .map(|entry| Changed {
                revision: entry.revision,
                kind: entry.kind,
                key: entry.key.clone(),
                object: entry.object.clone(),
            })
            .collect();
        changes.reverse();
        changes
    }

    /// Puts raw JSON under a key, unchecked, as a store written by another version might hold it.
    pub fn put_raw<K: Kind>(&self, key: Key, mut object: Value) {
        let mut state = self.shared.lock();
        let revision = state.next_revision();
        apiserver::set_revision(&mut object, &revision);
        state.store::<K>(key, Some(object));
        self.shared.announce(state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, state: MutexGuard<'_, State>) {
        let revision = state.revision;
        drop(state);
        self.revision.send_replace(revision);
    }

    fn now(&self) -> WallTime {
        self.clock.wall()
    }
}

impl State {
    fn next_revision(&self) -> Revision {
        Revision::new((self.revision + 1).to_string())
    }

    fn next_uid(&mut self) -> Uid {
        self.uids += 1;
        Uid::new(format!("00000000-0000-4000-8000-{:012x}", self.uids))
    }

    fn store<K: Kind>(&mut self, key: Key, object: Option<Value>) {
        self.store_kind(K::NAMES.kind, key, object.map(Arc::new));
    }

    fn store_kind(&mut self, kind: &'static str, key: Key, object: Option<Arc<Value>>) {
        self.revision += 1;
        match &object {
            Some(object) => {
                self.objects.insert((kind, key.clone()), object.clone());
            }
            None => {
                self.objects.remove(&(kind, key.clone()));
            }
        }
        self.log.push_back(Entry { revision: self.revision, kind, key, object });
        if self.log.len() > LOG_ENTRIES_MAX {
            self.log.pop_front();
        }
    }

    fn current<K: Kind>(&self, key: &Key, expect: &Expect) -> Result<Arc<Value>, StoreError> {
        let found = self.objects.get(&(K::NAMES.kind, key.clone())).cloned();
        let object = found.ok_or(StoreError::NotFound)?;
        if let Expect::At(revision) = expect {
            let now = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            if now != Some(revision.as_str()) {
                return Err(StoreError::Conflict);
            }
        }
        Ok(object)
    }

    fn of_kind<K: Kind>(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let kind = K::NAMES.kind;
        self.objects
            .iter()
            .filter(move |((of, _), _)| *of == kind)
            .map(|((_, key), object)| (key, object))
    }

    fn owned_by(&self, uid: &Uid) -> Vec<(&'static str, Key, Uid)> {
        self.objects
            .iter()
            .filter(|(_, object)| apiserver::owners_of(object).contains(uid))
            .map(|((kind, key), object)| (*kind, key.clone(), apiserver::uid_of(object)))
            .collect()
    }
}

fn typed<K: Kind>(key: &Key, object: &Value) -> Result<Object<K>, StoreError> {
    Object::read_under(key, object).map_err(|reason| StoreError::Unreadable { reason })
}

#[async_trait]
impl<K: Kind> Store<K> for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        let found = self.shared.lock().objects.get(&(K::NAMES.kind, key.clone())).cloned();
        found.map(|object| typed(key, &object)).transpose()
    }

    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError> {
        let (objects, revision) = {
            let state = self.shared.lock();
            let matching = state.of_kind::<K>().filter(|(_, object)| query.matches(object));
            let objects: Vec<_> =
                matching.map(|(key, object)| (key.clone(), object.clone())).collect();
            (objects, Revision::new(state.revision.to_string()))
        };
        let mut listing = Listing { objects: Vec::new(), unreadable: Vec::new(), revision };
        for (key, object) in objects {
            match Object::read_under(&key, &object) {
                Ok(object) => listing.objects.push(object),
                Err(reason) => listing.unreadable.push((key, reason)),
            }
        }
        Ok(listing)
    }

    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if let Some(there) = state.objects.get(&(K::NAMES.kind, new.key.clone())) {
            return Err(StoreError::AlreadyExists { uid: Some(apiserver::uid_of(there)) });
        }
        let uid = state.next_uid();
        let mut object = apiserver::create(&new, &uid, now)?;
        apiserver::set_revision(&mut object, &state.next_revision());
        let created = typed(&new.key, &object)?;
        state.store::<K>(new.key, Some(object));
        self.shared.announce(state);
        Ok(created)
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let mut state = self.shared.lock();
        let current = state.current::<K>(key, &expect)?;
        match apiserver::patch(&current, &change)? {
            Patched::Same => typed(key, &current),
            Patched::Changed(mut object) => {
                apiserver::set_revision(&mut object, &state.next_revision());
                let patched = typed(key, &object)?;
                state.store::<K>(key.clone(), Some(object));
                self.shared.announce(state);
                Ok(patched)
            }
        }
    }

    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        let current = state.current::<K>(key, &expect)?;
        if apiserver::uid_of(&current) != *uid {
            return Err(StoreError::Conflict);
        }
        let mut doomed = vec![(K::NAMES.kind, key.clone(), uid.clone())];
        while let Some((kind, key, uid)) = doomed.pop() {
            if state.objects.contains_key(&(kind, key.clone())) {
                state.store_kind(kind, key, None);
                doomed.extend(state.owned_by(&uid));
            }
        }
        self.shared.announce(state);
        Ok(())
    }

    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        let watcher = Watcher {
            shared: self.shared.clone(),
            changed: self.shared.revision.subscribe(),
            view: View::new(query),
            cursor: None,
        };
        stream::unfold(watcher, |mut watcher| async move {
            let events = watcher.next::<K>().await?;
            Some((stream::iter(events.into_iter().map(Ok)), watcher))
        })
        .flatten()
        .boxed()
    }
}

struct Watcher {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    view: View,
    cursor: Option<u64>,
}

impl Watcher {
    /// The next events, or `None` when the store is gone.
    async fn next<K: Kind>(&mut self) -> Option<Vec<StoreEvent<K>>> {
        loop {
            self.changed.borrow_and_update();
            let events = self.take::<K>();
            if !events.is_empty() {
                return Some(events);
            }
            self.changed.changed().await.ok()?;
        }
    }

    fn take<K: Kind>(&mut self) -> Vec<StoreEvent<K>> {
        let state = self.shared.lock();
        let oldest = state.log.front().map_or(state.revision + 1, |entry| entry.revision);
        let Some(cursor) = self.cursor.filter(|cursor| *cursor + 1 >= oldest) else {
            self.cursor = Some(state.revision);
            return self.view.sync(state.of_kind::<K>().map(|(key, object)| (key, &**object)));
        };
        let skip = usize::try_from(cursor + 1 - oldest).unwrap_or(usize::MAX);
        let mut events = Vec::new();
        for entry in state.log.iter().skip(skip).filter(|entry| entry.kind == K::NAMES.kind) {
            events.extend(self.view.change(&entry.key, entry.object.as_deref()));
        }
        self.cursor = Some(state.revision);
        events
    }
}
