//! What a loop knows of the objects of one kind: the watch's events, and its own writes' answers
//! ahead of them.
//!
//! Own writes are compare-and-swaps, so nobody wrote between the version a write was for and its
//! answer. Versions are opaque and a watch may leave some out, so an event is *older* than what we
//! know only if it is one of our own answers, or the version that the first of them was for; every
//! other one is newer, or at worst as old as what the watch is about to correct itself. That holds for
//! a full reading too: it may have been made before our writes and be told after their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::ids::{Key, Revision};
use crate::model::object::{Kind, Object};
use crate::model::time::AwakeTime;
use crate::ports::store::{Listing, StoreEvent};
use crate::timing::{REFUSED_RETRY_MAX, REFUSED_RETRY_MIN, STORE_RETRY_MIN};

/// The objects of one kind, as this process knows them.
#[derive(Debug)]
pub(crate) struct Mirror<K: Kind> {
    pub(crate) objects: BTreeMap<Key, Object<K>>,
    synced: bool,
    syncing: Option<BTreeSet<Key>>,
    /// Answers to own writes that the watch did not show yet, oldest first.
    echoes: BTreeMap<Key, Vec<Revision>>,
    /// The version that the oldest of those writes was for; absent inside = it made the object.
    bases: BTreeMap<Key, Option<Revision>>,
    /// Writes in flight, and whether the watch showed something new meanwhile.
    in_flight: BTreeMap<Key, bool>,
    /// Fresh reads under way, how many, and whether the watch showed something new meanwhile.
    reads: BTreeMap<Key, (usize, bool)>,
    /// Objects on which a write of ours was refused.
    refused: BTreeMap<Key, Refused>,
    /// Objects that are there and cannot be read: nothing is known of them, nothing is written.
    pub(crate) unreadable: BTreeSet<Key>,
    /// Objects of which something else is known than when this was last asked, or whose write ended.
    changed: BTreeSet<Key>,
}

impl<K: Kind> Default for Mirror<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            synced: false,
            syncing: None,
            echoes: BTreeMap::new(),
            bases: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            reads: BTreeMap::new(),
            refused: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }
}

/// A write of ours was refused: that version of the object is left alone for a while, the longer the
/// more often.
#[derive(Debug)]
struct Refused {
    revision: Revision,
    /// Absent once the pause is over.
    until: Option<AwakeTime>,
    pause: Duration,
}

/// What a fresh read showed.
#[derive(Debug)]
pub(crate) enum Reread<K: Kind> {
    /// The object as it is now.
    There(Box<Object<K>>),
    /// There is none.
    Absent,
    /// It could not be read now.
    Unknown,
}

impl<K: Kind> Mirror<K> {
    /// A mirror of a listing.
    pub(crate) fn of(listing: Listing<K>) -> Self {
        let objects: BTreeMap<_, _> =
            listing.objects.into_iter().map(|object| (object.key(), object)).collect();
        let unreadable: BTreeSet<_> = listing.unreadable.into_iter().map(|(key, _)| key).collect();
        let changed = objects.keys().chain(&unreadable).cloned().collect();
        Self { objects, unreadable, changed, synced: true, ..Self::default() }
    }

    /// The objects of which something else is known than when this was last asked, or whose write
    /// ended.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    /// Whether that version tells nothing: it is what our own answers began with, one of them, or
    /// what is known.
    pub(crate) fn is_known(&self, object: &Object<K>) -> bool {
        let (key, revision) = (object.key(), object.revision());
        let known = self.objects.get(&key).map(Object::revision) == Some(revision);
        let echoes = self.echoes.get(&key);
        known || self.is_base(&key, object) || echoes.is_some_and(|it| it.contains(revision))
    }

    /// Whether a full reading is complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether an object of that name is there, readable or not.
    pub(crate) fn is_taken(&self, key: &Key) -> bool {
        self.objects.contains_key(key) || self.unreadable.contains(key)
    }

    /// Takes one event of the watch; whether it told something new.
    pub(crate) fn apply(&mut self, event: StoreEvent<K>) -> bool {
        match event {
            StoreEvent::SyncStart => {
                self.syncing = Some(BTreeSet::new());
                return false;
            }
            StoreEvent::Upsert(object) => return self.upsert(*object),
            StoreEvent::Unreadable { key, reason } => {
                tracing::warn!(kind = K::NAMES.kind, %key, reason, "an object cannot be read");
                self.seen(&key);
                self.forget(&key);
                if let Some(seen) = &mut self.syncing {
                    seen.insert(key.clone());
                }
                self.unreadable.insert(key);
            }
            StoreEvent::SyncEnd => {
                if let Some(mut seen) = self.syncing.take() {
                    // Made by us and not shown yet: the reading may be older.
                    seen.extend(
                        self.bases
                            .iter()
                            .filter(|(_, base)| base.is_none())
                            .map(|(k, _)| k.clone()),
                    );
                    self.echoes.retain(|key, _| seen.contains(key));
                    self.bases.retain(|key, _| seen.contains(key));
                    let known = self.objects.keys().chain(&self.unreadable);
                    self.changed.extend(known.filter(|key| !seen.contains(*key)).cloned());
                    self.objects.retain(|key, _| seen.contains(key));
                    self.unreadable.retain(|key| seen.contains(key));
                    self.refused.retain(|key, _| seen.contains(key));
                }
                self.synced = true;
            }
            StoreEvent::Gone { key, uid } => {
                if self.unreadable.remove(&key) {
                    self.changed.insert(key.clone());
                }
                if self.objects.get(&key).is_some_and(|object| object.meta.uid == uid) {
                    self.seen(&key);
                    self.forget(&key);
                }
            }
        }
        true
    }

    fn upsert(&mut self, object: Object<K>) -> bool {
        let key = object.key();
        if let Some(seen) = &mut self.syncing {
            seen.insert(key.clone());
        }
        let known = self.objects.get(&key).map(Object::revision) == Some(object.revision());
        if self.is_base(&key, &object) || (known && !self.echoes.contains_key(&key)) {
            return false;
        }
        let own = self.echoes.get_mut(&key).and_then(|chain| {
            let at = chain.iter().position(|echo| echo == object.revision())?;
            chain.drain(..=at);
            Some(chain.is_empty())
        });
        match own {
            // The newest of our own answers: the mirror shows it, and what follows is newer.
            Some(true) => {
                self.echoes.remove(&key);
                self.bases.remove(&key);
            }
            Some(false) => {
                self.bases.insert(key, Some(object.revision().clone()));
            }
            None => {
                self.seen(&key);
                self.forget(&key);
                self.objects.insert(key, object);
            }
        }
        own.is_none()
    }

    /// Whether it is the version that our own answers began with.
    fn is_base(&self, key: &Key, object: &Object<K>) -> bool {
        let base = self.bases.get(key).and_then(Option::as_ref);
        base.is_some_and(|base| base == object.revision())
    }

    fn seen(&mut self, key: &Key) {
        if let Some(shown) = self.in_flight.get_mut(key) {
            *shown = true;
        }
        if let Some((_, shown)) = self.reads.get_mut(key) {
            *shown = true;
        }
    }

    fn forget(&mut self, key: &Key) {
        self.changed.insert(key.clone());
        self.objects.remove(key);
        self.echoes.remove(key);
        self.bases.remove(key);
        self.refused.remove(key);
        self.unreadable.remove(key);
    }

    /// Whether a decision on this object may be written now.
    pub(crate) fn is_free(&self, key: &Key) -> bool {
        let refused = self.refused.get(key).filter(|refused| refused.until.is_some());
        let here = self.objects.get(key).map(Object::revision);
        !self.in_flight.contains_key(key)
            && !self.unreadable.contains(key)
            && refused.is_none_or(|refused| Some(&refused.revision) != here)
    }

    /// Whether a write of that name is under way.
    pub(crate) fn is_writing(&self, key: &Key) -> bool {
        self.in_flight.contains_key(key)
    }

    /// A write goes out.
    pub(crate) fn write_begins(&mut self, key: Key) {
        self.in_flight.insert(key, false);
    }

    /// A write's answer came: newer than the watch, unless the watch showed something meanwhile,
    /// which then is that very answer or newer.
    pub(crate) fn write_done(&mut self, object: Object<K>) {
        let key = object.key();
        self.changed.insert(key.clone());
        let shown = self.in_flight.remove(&key).unwrap_or_default();
        self.refused.remove(&key);
        let known = self.objects.get(&key).map(Object::revision) == Some(object.revision());
        if known || shown {
            return;
        }
        let base = self.objects.get(&key).map(|known| known.revision().clone());
        self.bases.entry(key.clone()).or_insert(base);
        self.echoes.entry(key.clone()).or_default().push(object.revision().clone());
        self.objects.insert(key, object);
    }

    /// A write failed; `now` is what a fresh read showed. What the watch showed meanwhile may be newer
    /// than it, and is not shown again; if it is older, the watch will correct itself.
    pub(crate) fn write_failed(&mut self, key: &Key, now: Reread<K>) {
        let shown = self.in_flight.remove(key).unwrap_or_default();
        self.changed.insert(key.clone());
        match now {
            // It says another name of itself: every write to it would miss it and be tried again.
            Reread::There(object) if object.key() != *key => {
                self.forget(key);
                self.unreadable.insert(key.clone());
            }
            Reread::There(_) | Reread::Absent if shown => {}
            Reread::There(object) => {
                self.forget(key);
                self.objects.insert(key.clone(), *object);
            }
            Reread::Absent => self.forget(key),
            Reread::Unknown => {}
        }
    }

    /// A fresh read of an object goes out.
    pub(crate) fn read_begins(&mut self, key: Key) {
        self.reads.entry(key).or_default().0 += 1;
    }

    /// A fresh read's answer came. What the watch showed meanwhile may be newer or older than it: the
    /// watch will correct itself, and a write of ours under way knows better.
    pub(crate) fn read_done(&mut self, key: &Key, found: Reread<K>) {
        let Some((count, shown)) = self.reads.get_mut(key) else { return };
        let shown = *shown;
        *count -= 1;
        if *count == 0 {
            self.reads.remove(key);
        }
        if shown || self.in_flight.contains_key(key) {
            return;
        }
        match found {
            Reread::There(object) if object.key() == *key => {
                self.forget(key);
                self.objects.insert(key.clone(), *object);
            }
            Reread::Absent => self.forget(key),
            Reread::There(_) | Reread::Unknown => {}
        }
    }

    /// The store did not take a write: not again on this version of the object for a while, from
    /// [`REFUSED_RETRY_MIN`], doubled each time, to [`REFUSED_RETRY_MAX`].
    pub(crate) fn write_refused(&mut self, key: &Key, now: AwakeTime) {
        self.pause(key, now, REFUSED_RETRY_MIN);
    }

    /// Whether a fresh read after a write shows the very version that the write was for.
    pub(crate) fn is_unmoved(&self, key: &Key, found: &Reread<K>) -> bool {
        let Reread::There(found) = found else { return false };
        let shown = self.in_flight.get(key).copied().unwrap_or_default();
        let known = self.objects.get(key);
        !shown && known.is_some_and(|known| known.revision() == found.revision())
    }

    /// A write was not done although the object is as it was: it is tried again after a short pause,
    /// doubled each time.
    pub(crate) fn write_missed(&mut self, key: &Key, now: AwakeTime) {
        self.pause(key, now, STORE_RETRY_MIN);
    }

    fn pause(&mut self, key: &Key, now: AwakeTime, first: Duration) {
        self.in_flight.remove(key);
        self.changed.insert(key.clone());
        let Some(object) = self.objects.get(key) else { return };
        let revision = object.revision().clone();
        let before = self.refused.get(key).filter(|refused| refused.revision == revision);
        let pause = before.map_or(first, |refused| refused.pause * 2);
        let pause = pause.min(REFUSED_RETRY_MAX);
        self.refused.insert(key.clone(), Refused { revision, until: Some(now + pause), pause });
    }

    /// Lets go of the objects whose pause after a refusal is over; whether there were any.
    pub(crate) fn retry_refused(&mut self, now: AwakeTime) -> bool {
        let mut any = false;
        for (key, refused) in &mut self.refused {
            if refused.until.is_some_and(|until| until <= now) {
                refused.until = None;
                self.changed.insert(key.clone());
                any = true;
            }
        }
        any
    }

    /// When the next pause after a refusal is over.
    pub(crate) fn next_retry(&self) -> Option<AwakeTime> {
        self.refused.values().filter_map(|refused| refused.until).min()
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
