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
        let mut events = vec![StoreEvent::SyncStart];
        self.visible.clear();
        for (key, object) in objects {
            if self.query.matches(object) {
                self.visible.insert(key.clone(), apiserver::uid_of(object));
                events.push(read(key.clone(), object));
            }
        }
        events.push(StoreEvent::SyncEnd);
        events
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
