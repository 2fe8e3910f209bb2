//! What a watcher has seen: turns a store's log of changes into the events of one query. Shared by
//! every store that keeps such a log.

use std::collections::BTreeMap;

use serde_json::Value;

use super::store::{Query, StoreEvent};
use crate::model::apiserver;
use crate::model::ids::{Key, Uid};
use crate::model::object::{Kind, Object};

/// One watcher's view of a query.
#[derive(Debug)]
pub struct View {
    query: Query,
    visible: BTreeMap<Key, Uid>,
}

impl View {
    /// A view that has seen nothing.
    pub fn new(query: Query) -> Self {
        Self { query, visible: BTreeMap::new() }
    }

    /// The query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The events of a full reading: `objects` is everything of the kind, under the keys by which
    /// the store knows it (an unreadable object may not tell its own).
    pub fn sync<'a, K: Kind>(
        &mut self,
        objects: impl IntoIterator<Item = (&'a Key, &'a Value)>,
    ) -> Vec<StoreEvent<K>> {
        let mut events = vec![self.begin()];
        events.extend(objects.into_iter().filter_map(|(key, object)| self.seen(key, object)));
        events.push(StoreEvent::SyncEnd);
        events
    }

    /// Begins a full reading of what does not fit into one answer: then [`View::seen`] for each
    /// object, then `SyncEnd`.
    pub fn begin<K: Kind>(&mut self) -> StoreEvent<K> {
        self.visible.clear();
        StoreEvent::SyncStart
    }

    /// The event of one object of a full reading, if it is in the query.
    pub fn seen<K: Kind>(&mut self, key: &Key, object: &Value) -> Option<StoreEvent<K>> {
        if !self.query.matches(object) {
            return None;
        }
        self.visible.insert(key.clone(), apiserver::uid_of(object));
        Some(read(key.clone(), object))
    }

    /// The events of one change: `object` is what stands under `key` now.
    pub fn change<K: Kind>(&mut self, key: &Key, object: Option<&Value>) -> Vec<StoreEvent<K>> {
        let mut events = Vec::new();
        let now = object.filter(|object| self.query.matches(object));
        let uid = now.map(apiserver::uid_of);
        if let Some(old) = self.visible.get(key)
            && uid.as_ref() != Some(old)
        {
            events.push(StoreEvent::Gone { key: key.clone(), uid: old.clone() });
            self.visible.remove(key);
        }
        if let (Some(object), Some(uid)) = (now, uid) {
            self.visible.insert(key.clone(), uid);
            events.push(read(key.clone(), object));
        }
        events
    }
}

fn read<K: Kind>(key: Key, object: &Value) -> StoreEvent<K> {
    match Object::read_under(&key, object) {
        Ok(object) => StoreEvent::Upsert(Box::new(object)),
        Err(reason) => StoreEvent::Unreadable { key, reason },
    }
}
