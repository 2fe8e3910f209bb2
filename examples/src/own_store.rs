//! A store of one's own: objects as JSON behind one lock, with a log of changes for watchers. It is
//! small because the core brings what all stores share: what an API server does to a write
//! (`model::apiserver`) and what a watcher has seen (`ports::watching::View`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use foreman_core::model::apiserver::{self, Patched};
use foreman_core::model::{Key, Kind, NewObject, Object, Revision, Uid};
use foreman_core::ports::watching::View;
use foreman_core::ports::{
    Change, Clock, Entropy, Expect, Listing, Query, Store, StoreError, StoreEvent,
};
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::Value;
use tokio::sync::watch;

type Id = (&'static str, Key);

#[derive(Default)]
struct State {
    objects: BTreeMap<Id, Value>,
    /// Every change so far: what it was to, and what stood there after it.
    log: Vec<(Id, Option<Value>)>,
}

/// Objects of every kind behind one lock.
pub struct OwnStore {
    state: Mutex<State>,
    changes: watch::Sender<usize>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl OwnStore {
    /// An empty store.
    pub fn empty(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Arc<OwnHandle> {
        let store = Self { state: Mutex::default(), changes: watch::channel(0).0, clock, entropy };
        Arc::new(OwnHandle(Arc::new(store)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object (or its absence) under an id; the revision is the number of the change.
    fn put(&self, mut state: MutexGuard<'_, State>, changes: Vec<(Id, Option<Value>)>) {
        for (id, object) in changes {
            match &object {
                Some(object) => state.objects.insert(id.clone(), object.clone()),
                None => state.objects.remove(&id),
            };
            state.log.push((id, object));
        }
        let count = state.log.len();
        drop(state);
        self.changes.send_replace(count);
    }
}

/// A handle on the store; watches hold the store through it.
pub struct OwnHandle(Arc<OwnStore>);

fn typed<K: Kind>(object: &Value) -> Result<Object<K>, StoreError> {
    Object::from_json(object).map_err(|error| StoreError::Unreadable { reason: error.to_string() })
}

fn current<K: Kind>(state: &State, key: &Key, expect: &Expect) -> Result<Value, StoreError> {
    let found = state.objects.get(&(K::NAMES.kind, key.clone()));
    let object = found.cloned().ok_or(StoreError::NotFound)?;
    let revision = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    match expect {
        Expect::At(expected) if revision != Some(expected.as_str()) => Err(StoreError::Conflict),
        Expect::At(_) | Expect::Any => Ok(object),
    }
}

fn next_revision(state: &State) -> Revision {
    Revision::new((state.log.len() + 1).to_string())
}

#[async_trait]
impl<K: Kind> Store<K> for OwnHandle {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        let found = self.0.lock().objects.get(&(K::NAMES.kind, key.clone())).cloned();
        found.map(|object| typed(&object)).transpose()
    }

    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError> {
        let state = self.0.lock();
        let revision = Revision::new(state.log.len().to_string());
        let mut listing = Listing { objects: Vec::new(), unreadable: Vec::new(), revision };
        for ((kind, key), object) in &state.objects {
            if *kind != K::NAMES.kind || !query.matches(object) {
                continue;
            }
            match Object::from_json(object) {
                Ok(object) => listing.objects.push(object),
                Err(error) => listing.unreadable.push((key.clone(), error.to_string())),
            }
        }
        Ok(listing)
    }

    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError> {
        let state = self.0.lock();
        let id = (K::NAMES.kind, new.key.clone());
        if let Some(there) = state.objects.get(&id) {
            return Err(StoreError::AlreadyExists { uid: Some(apiserver::uid_of(there)) });
        }
        let uid = Uid::new(self.0.entropy.uuid());
        let mut object = apiserver::create(&new, &uid, self.0.clock.wall())?;
        apiserver::set_revision(&mut object, &next_revision(&state));
        let created = typed(&object)?;
        self.0.put(state, vec![(id, Some(object))]);
        Ok(created)
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let state = self.0.lock();
        let before = current::<K>(&state, key, &expect)?;
        match apiserver::patch(&before, &change)? {
            Patched::Same => typed(&before),
            Patched::Changed(mut object) => {
                apiserver::set_revision(&mut object, &next_revision(&state));
                let patched = typed(&object)?;
                self.0.put(state, vec![((K::NAMES.kind, key.clone()), Some(object))]);
                Ok(patched)
            }
        }
    }

    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError> {
        let state = self.0.lock();
        if apiserver::uid_of(&current::<K>(&state, key, &expect)?) != *uid {
            return Err(StoreError::Conflict);
        }
        let mut gone = vec![((K::NAMES.kind, key.clone()), uid.clone())];
        let mut next = 0;
        while let Some((_, owner)) = gone.get(next).cloned() {
            let owned = state.objects.iter().filter(|(id, object)| {
                apiserver::owners_of(object).contains(&owner) && gone.iter().all(|(g, _)| g != *id)
            });
            let owned: Vec<_> =
                owned.map(|(id, object)| (id.clone(), apiserver::uid_of(object))).collect();
            gone.extend(owned);
            next += 1;
        }
        self.0.put(state, gone.into_iter().map(|(id, _)| (id, None)).collect());
        Ok(())
    }

    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        let start = (self.0.clone(), self.0.changes.subscribe(), View::new(query), None);
        let events = stream::unfold(start, |(store, mut changes, mut view, mut seen)| async move {
            loop {
                changes.borrow_and_update();
                let events = news::<K>(&store.lock(), &mut view, &mut seen);
                if !events.is_empty() {
                    return Some((
                        stream::iter(events.into_iter().map(Ok)),
                        (store, changes, view, seen),
                    ));
                }
                changes.changed().await.ok()?;
            }
        });
        events.flatten().boxed()
    }
}

/// What a watcher that has seen `seen` changes is to be told.
fn news<K: Kind>(state: &State, view: &mut View, seen: &mut Option<usize>) -> Vec<StoreEvent<K>> {
    let from = seen.replace(state.log.len());
    let Some(from) = from else {
        let objects = state.objects.iter().filter(|((kind, _), _)| *kind == K::NAMES.kind);
        return view.sync(objects.map(|((_, key), object)| (key, object)));
    };
    let mut events = Vec::new();
    for ((kind, key), object) in state.log.iter().skip(from) {
        if *kind == K::NAMES.kind {
            events.extend(view.change(key, object.as_ref()));
        }
    }
    events
}
