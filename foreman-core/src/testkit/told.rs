//! A store for benches that holds nothing: it makes each object when it is asked for, so that whoever
//! reads it can be measured alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::{self, BoxStream, StreamExt};

use crate::model::apiserver::{self, Patched};
use crate::model::ids::{Key, Revision, Uid};
use crate::model::object::{Kind, NewObject, Object};
use crate::ports::store::{Change, Expect, Listing, Query, Store, StoreError, StoreEvent};

type Make<K> = Arc<dyn Fn(usize) -> Object<K> + Send + Sync>;

/// So many objects of a kind, made by number, and what became of those that changed. It tells
/// everything to the first watcher, whatever the query, and only there the changes.
pub struct Told<K: Kind> {
    count: usize,
    make: Make<K>,
    state: Mutex<State<K>>,
    news: UnboundedSender<StoreEvent<K>>,
}

struct State<K: Kind> {
    changed: BTreeMap<Key, Object<K>>,
    revision: u64,
    writes: usize,
    listener: Option<UnboundedReceiver<StoreEvent<K>>>,
}

impl<K: Kind> std::fmt::Debug for Told<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").field("count", &self.count).finish_non_exhaustive()
    }
}

impl<K: Kind> Told<K> {
    /// The objects 0 to `count`. The number of an object is what its name ends with.
    pub fn new(
        count: usize,
        make: impl Fn(usize) -> Object<K> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (news, listener) = unbounded();
        let listener = Some(listener);
        let state = State { changed: BTreeMap::new(), revision: 1, writes: 0, listener };
        Arc::new(Self { count, make: Arc::new(make), state: Mutex::new(state), news })
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object as it is now.
    pub fn now(&self, key: &Key) -> Option<Object<K>> {
        if let Some(changed) = self.lock().changed.get(key) {
            return Some(changed.clone());
        }
        let digits = key.name.rsplit(|letter: char| !letter.is_ascii_digit()).next()?;
        let number = digits.parse().ok().filter(|number| *number < self.count)?;
        Some((self.make)(number)).filter(|object| object.key() == *key)
    }

    /// How many writes were taken.
    pub fn writes(&self) -> usize {
        self.lock().writes
    }

    /// Somebody else wrote this object.
    pub fn wrote(&self, mut object: Object<K>) {
        let mut state = self.lock();
        state.revision += 1;
        object.meta.resource_version = Revision::new(state.revision.to_string());
        state.changed.insert(object.key(), object.clone());
        drop(state);
        self.tell(object);
    }

    fn tell(&self, object: Object<K>) {
        // Nobody listens any more once the watcher is gone.
        drop(self.news.unbounded_send(StoreEvent::Upsert(Box::new(object))));
    }
}

fn holds_nothing() -> StoreError {
    StoreError::Denied { reason: "this store only tells and takes patches".to_owned() }
}

#[async_trait]
impl<K: Kind> Store<K> for Told<K> {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        Ok(self.now(key))
    }

    async fn list(&self, _query: &Query) -> Result<Listing<K>, StoreError> {
        Err(holds_nothing())
    }

    async fn create(&self, _new: NewObject<K>) -> Result<Object<K>, StoreError> {
        Err(holds_nothing())
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let current = self.now(key).ok_or(StoreError::NotFound)?;
        if matches!(&expect, Expect::At(revision) if revision != current.revision()) {
            return Err(StoreError::Conflict);
        }
        let Patched::Changed(mut json) = apiserver::patch(&current.to_json(), &change)? else {
            return Ok(current);
        };
        let mut state = self.lock();
        state.revision += 1;
        state.writes += 1;
        apiserver::set_revision(&mut json, &Revision::new(state.revision.to_string()));
        let patched = Object::read_under(key, &json);
        let patched = patched.map_err(|reason| StoreError::Unreadable { reason })?;
        state.changed.insert(key.clone(), patched.clone());
        drop(state);
        self.tell(patched.clone());
        Ok(patched)
    }

    async fn delete(&self, _key: &Key, _uid: &Uid, _expect: Expect) -> Result<(), StoreError> {
        Err(holds_nothing())
    }

    fn watch(&self, _query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        let Some(listener) = self.lock().listener.take() else {
            return stream::pending().boxed();
        };
        let make = self.make.clone();
        let all = (0..self.count).map(move |number| StoreEvent::Upsert(Box::new(make(number))));
        stream::iter([StoreEvent::SyncStart])
            .chain(stream::iter(all))
            .chain(stream::iter([StoreEvent::SyncEnd]))
            .chain(listener)
            .map(Ok)
            .boxed()
    }
}
