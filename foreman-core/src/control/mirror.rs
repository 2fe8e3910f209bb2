//! What a loop knows of the objects of one kind: the watch's events, and its own writes' answers
//! ahead of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::{Key, Revision};
use crate::model::object::{Kind, Object};
use crate::ports::store::{Listing, StoreEvent};

/// The objects of one kind, as this process knows them.
#[derive(Debug)]
pub(crate) struct Mirror<K: Kind> {
    pub(crate) objects: BTreeMap<Key, Object<K>>,
    synced: bool,
    syncing: Option<BTreeSet<Key>>,
    /// Own writes that the watch did not show yet: until it does, its events of that key are older
    /// than what we know.
    echoes: BTreeMap<Key, Revision>,
    /// Writes in flight, each with the revisions that the watch showed meanwhile.
    in_flight: BTreeMap<Key, Vec<Revision>>,
    /// Versions of objects on which a write of ours was refused for good.
    refused: BTreeMap<Key, Revision>,
}

impl<K: Kind> Default for Mirror<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            synced: false,
            syncing: None,
            echoes: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }
}

impl<K: Kind> Mirror<K> {
    /// A mirror of a listing.
    pub(crate) fn of(listing: Listing<K>) -> Self {
        let objects = listing.objects.into_iter().map(|object| (object.key(), object)).collect();
        Self { objects, synced: true, ..Self::default() }
    }

    /// Whether a full reading is complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Takes one event of the watch.
    pub(crate) fn apply(&mut self, event: StoreEvent<K>) {
        match event {
            StoreEvent::SyncStart => {
                self.syncing = Some(BTreeSet::new());
                self.echoes.clear();
            }
            StoreEvent::Upsert(object) => self.upsert(*object),
            StoreEvent::Unreadable { key, reason } => {
                tracing::warn!(kind = K::NAMES.kind, %key, reason, "an object cannot be read");
                self.objects.remove(&key);
            }
            StoreEvent::SyncEnd => {
                if let Some(seen) = self.syncing.take() {
                    self.objects.retain(|key, _| seen.contains(key));
                }
                self.synced = true;
            }
            StoreEvent::Gone { key, uid } => {
                if self.objects.get(&key).is_some_and(|object| object.meta.uid == uid) {
                    self.objects.remove(&key);
                    self.echoes.remove(&key);
                }
            }
        }
    }

    fn upsert(&mut self, object: Object<K>) {
        let key = object.key();
        if let Some(seen) = &mut self.syncing {
            seen.insert(key.clone());
        }
        if let Some(seen) = self.in_flight.get_mut(&key) {
            seen.push(object.revision().clone());
        }
        match self.echoes.get(&key) {
            Some(echo) if echo == object.revision() => {
                self.echoes.remove(&key);
            }
            Some(_) => {}
            None => {
                self.objects.insert(key, object);
            }
        }
    }

    /// Whether a decision on this object may be written now.
    pub(crate) fn is_free(&self, key: &Key) -> bool {
        let refused = self.refused.get(key);
        let here = self.objects.get(key).map(Object::revision);
        !self.in_flight.contains_key(key) && (refused.is_none() || refused != here)
    }

    /// A write goes out.
    pub(crate) fn write_begins(&mut self, key: Key) {
        self.in_flight.insert(key, Vec::new());
    }

    /// A write's answer came: newer than the watch, unless the watch showed it already.
    pub(crate) fn write_done(&mut self, object: Object<K>) {
        let key = object.key();
        let seen = self.in_flight.remove(&key).unwrap_or_default();
        let known = self.objects.get(&key).map(Object::revision) == Some(object.revision());
        if known || seen.contains(object.revision()) {
            return;
        }
        self.echoes.insert(key.clone(), object.revision().clone());
        self.objects.insert(key, object);
    }

    /// A write failed; `now` is what a fresh read showed, if one was made.
    pub(crate) fn write_failed(&mut self, key: &Key, now: Option<Option<Object<K>>>) {
        self.in_flight.remove(key);
        match now {
            Some(Some(object)) => {
                self.echoes.remove(key);
                self.objects.insert(key.clone(), object);
            }
            Some(None) => {
                self.echoes.remove(key);
                self.objects.remove(key);
            }
            None => {}
        }
    }

    /// The store will never take that write: not again on this version of the object.
    pub(crate) fn write_refused(&mut self, key: &Key) {
        self.in_flight.remove(key);
        if let Some(object) = self.objects.get(key) {
            self.refused.insert(key.clone(), object.revision().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet_node::{FleetNode, FleetNodeSpec};
    use serde_json::json;

    fn node(revision: &str) -> Object<FleetNode> {
        let spec = FleetNodeSpec { node_name: "n".into(), ..FleetNodeSpec::default() };
        Object::from_json(&json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": revision},
            "spec": spec}))
        .expect("valid")
    }

    fn shown(mirror: &Mirror<FleetNode>) -> &str {
        mirror.objects[&Key::cluster("n")].revision().as_str()
    }

    fn upsert(mirror: &mut Mirror<FleetNode>, revision: &str) {
        mirror.apply(StoreEvent::Upsert(Box::new(node(revision))));
    }

    #[test]
    fn an_older_event_does_not_undo_our_own_write() {
        let mut mirror = Mirror::default();
        upsert(&mut mirror, "1");
        mirror.write_begins(Key::cluster("n"));
        assert!(!mirror.is_free(&Key::cluster("n")));
        mirror.write_done(node("3"));
        upsert(&mut mirror, "2");
        assert_eq!(shown(&mirror), "3");
        upsert(&mut mirror, "3");
        upsert(&mut mirror, "4");
        assert_eq!(shown(&mirror), "4");
    }

    #[test]
    fn an_answer_that_the_watch_overtook_is_not_taken_for_new() {
        let mut mirror = Mirror::default();
        upsert(&mut mirror, "1");
        mirror.write_begins(Key::cluster("n"));
        upsert(&mut mirror, "2");
        upsert(&mut mirror, "3");
        mirror.write_done(node("2"));
        assert_eq!(shown(&mirror), "3");
        upsert(&mut mirror, "4");
        assert_eq!(shown(&mirror), "4");
    }

    #[test]
    fn what_a_full_reading_does_not_show_is_gone() {
        let mut mirror = Mirror::default();
        upsert(&mut mirror, "1");
        mirror.apply(StoreEvent::SyncStart);
        mirror.apply(StoreEvent::SyncEnd);
        assert!(mirror.objects.is_empty());
    }

    #[test]
    fn a_refused_write_is_not_repeated_on_the_same_version() {
        let mut mirror = Mirror::default();
        upsert(&mut mirror, "1");
        mirror.write_begins(Key::cluster("n"));
        mirror.write_refused(&Key::cluster("n"));
        assert!(!mirror.is_free(&Key::cluster("n")));
        upsert(&mut mirror, "2");
        assert!(mirror.is_free(&Key::cluster("n")));
    }
}
