use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::memory::MemoryStore;
use crate::model::fleet_node::{FleetNode, FleetNodeSpec};
use crate::model::{NewObject, Uid};
use crate::ports::store::{Change, Expect, Part, Query, Store, StoreError};
use crate::testkit::sim::SimClock;

fn node(revision: &str) -> Object<FleetNode> {
    let spec = FleetNodeSpec { node_name: "n".into(), ..FleetNodeSpec::default() };
    Object::from_json(&json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": revision},
        "spec": spec}))
    .expect("valid")
}

fn key() -> Key {
    Key::cluster("n")
}

fn shown(mirror: &Mirror<FleetNode>) -> Option<&str> {
    mirror.objects.get(&key()).map(|object| object.revision().as_str())
}

fn upsert(mirror: &mut Mirror<FleetNode>, revision: &str) {
    mirror.apply(StoreEvent::Upsert(Box::new(node(revision))));
}

fn write(mirror: &mut Mirror<FleetNode>, revision: &str) {
    mirror.write_begins(key());
    mirror.write_done(node(revision));
}

#[test]
fn our_own_older_answers_do_not_undo_our_newer_ones() {
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    write(&mut mirror, "2");
    write(&mut mirror, "3");
    upsert(&mut mirror, "2");
    assert_eq!(shown(&mirror), Some("3"));
    upsert(&mut mirror, "3");
    upsert(&mut mirror, "4");
    assert_eq!(shown(&mirror), Some("4"));
}

fn read_all(mirror: &mut Mirror<FleetNode>, revision: Option<&str>) {
    mirror.apply(StoreEvent::SyncStart);
    if let Some(revision) = revision {
        upsert(mirror, revision);
    }
    mirror.apply(StoreEvent::SyncEnd);
}

#[test]
fn a_full_reading_that_is_older_than_our_writes_does_not_undo_them() {
    // The reading was made before we wrote 2, and is told after 2 was answered.
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    write(&mut mirror, "2");
    read_all(&mut mirror, Some("1"));
    assert_eq!(shown(&mirror), Some("2"));
    // Or before the answer.
    mirror.write_begins(key());
    read_all(&mut mirror, Some("2"));
    mirror.write_done(node("3"));
    assert_eq!(shown(&mirror), Some("3"));
    read_all(&mut mirror, Some("7"));
    assert_eq!(shown(&mirror), Some("7"));
    write(&mut mirror, "8");
    read_all(&mut mirror, None);
    assert_eq!(shown(&mirror), None, "8 was made of 7, so the reading came after the deletion");
}

#[test]
fn what_we_made_outlives_a_full_reading_that_does_not_know_it_yet() {
    let mut mirror = Mirror::default();
    write(&mut mirror, "1");
    read_all(&mut mirror, None);
    assert_eq!(shown(&mirror), Some("1"));
    upsert(&mut mirror, "1");
    read_all(&mut mirror, None);
    assert_eq!(shown(&mirror), None);
}

#[test]
fn a_watch_that_leaves_our_answer_out_is_still_believed() {
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    write(&mut mirror, "2");
    // Somebody wrote 3 before the watch looked: it never shows 2.
    upsert(&mut mirror, "3");
    assert_eq!(shown(&mirror), Some("3"));
    upsert(&mut mirror, "4");
    assert_eq!(shown(&mirror), Some("4"));
}

#[test]
fn an_answer_that_the_watch_overtook_is_not_taken_for_new() {
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    mirror.write_begins(key());
    assert!(!mirror.is_free(&key()), "one write at a time");
    upsert(&mut mirror, "2");
    upsert(&mut mirror, "3");
    mirror.write_done(node("2"));
    assert_eq!(shown(&mirror), Some("3"));
    upsert(&mut mirror, "4");
    assert_eq!(shown(&mirror), Some("4"));
}

/// A write without an answer: it was done after the fresh read looked, and the watch told so before that
/// read's answer came.
#[test]
fn a_fresh_read_that_the_watch_overtook_undoes_nothing() {
    let reread = |found: &str| Reread::There(Box::new(node(found)));
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    mirror.write_begins(key());
    upsert(&mut mirror, "2");
    mirror.write_failed(&key(), reread("1"));
    assert_eq!(shown(&mirror), Some("2"));
    assert!(mirror.is_free(&key()));
    mirror.write_begins(key());
    mirror.write_failed(&key(), reread("3"));
    assert_eq!(shown(&mirror), Some("3"), "nothing was told meanwhile");
}

#[test]
fn an_answer_about_what_was_deleted_meanwhile_brings_nothing_back() {
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    mirror.write_begins(key());
    mirror.apply(StoreEvent::Gone { key: key(), uid: Uid::new("u") });
    mirror.write_done(node("2"));
    assert_eq!(shown(&mirror), None);
}

#[test]
fn what_a_full_reading_does_not_show_is_gone() {
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    mirror.apply(StoreEvent::SyncStart);
    mirror.apply(StoreEvent::SyncEnd);
    assert_eq!(shown(&mirror), None);
}

#[test]
fn a_refused_write_is_not_repeated_on_the_same_version() {
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    mirror.write_begins(key());
    mirror.write_refused(&key(), at(0));
    assert!(!mirror.is_free(&key()));
    upsert(&mut mirror, "2");
    assert!(mirror.is_free(&key()));
    assert!(mirror.refused.is_empty(), "nothing is kept of old versions");
}

#[test]
fn a_refused_write_is_tried_again_ever_more_seldom() {
    let mut mirror = Mirror::default();
    upsert(&mut mirror, "1");
    let (mut now, mut tries) = (at(0), 0);
    while now < at(3600) {
        tries += 1;
        mirror.write_begins(key());
        mirror.write_refused(&key(), now);
        assert!(!mirror.is_free(&key()));
        let next = mirror.next_retry().expect("a pause");
        assert!(!mirror.retry_refused(now) && mirror.retry_refused(next) && mirror.is_free(&key()));
        assert!(next.since(now) <= REFUSED_RETRY_MAX);
        now = next;
    }
    assert_eq!(tries, 20, "in an hour");
    mirror.write_begins(key());
    mirror.write_done(node("2"));
    assert!(mirror.refused.is_empty() && mirror.next_retry().is_none());
}

fn at(seconds: u64) -> AwakeTime {
    AwakeTime::new(Duration::from_secs(seconds))
}

#[test]
fn an_unreadable_object_is_there_and_is_not_written() {
    let mut mirror = Mirror::<FleetNode>::default();
    mirror.apply(StoreEvent::Unreadable { key: key(), reason: "odd".into() });
    assert!(mirror.is_taken(&key()));
    assert!(!mirror.is_free(&key()));
    mirror.apply(StoreEvent::Gone { key: key(), uid: Uid::new("u") });
    assert!(!mirror.is_taken(&key()) && mirror.is_free(&key()));
}

/// What may happen between a store, a mirror of it and others who write.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The mirror takes up to so many events; `thin` leaves out all but the last of each run.
    Take(usize),
    /// The mirror's owner writes, by compare-and-swap on what it knows; the answer comes later.
    Write,
    /// The oldest answer comes in.
    Answer,
    /// Somebody else writes.
    Other,
    /// Somebody deletes the object.
    Delete,
    /// Somebody creates it again.
    Create,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_usize..4).prop_map(Step::Take),
        3 => Just(Step::Write),
        3 => Just(Step::Answer),
        2 => Just(Step::Other),
        1 => Just(Step::Delete),
        2 => Just(Step::Create),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    store: std::sync::Arc<MemoryStore>,
    mirror: Mirror<FleetNode>,
    events: BoxStream<'static, Result<StoreEvent<FleetNode>, StoreError>>,
    answers: std::collections::VecDeque<Result<Object<FleetNode>, StoreError>>,
    writes: i32,
    thin: bool,
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the store in memory answers at once")
}

impl World {
    fn new(thin: bool) -> Self {
        let store = MemoryStore::new(SimClock::new());
        let events = Store::<FleetNode>::watch(&*store, Query::all());
        let answers = std::collections::VecDeque::new();
        Self { store, mirror: Mirror::default(), events, answers, writes: 0, thin }
    }

    fn take(&mut self, most: usize) -> usize {
        let mut batch = Vec::new();
        while batch.len() < most {
            let Some(Some(event)) = self.events.next().now_or_never() else {
                break;
            };
            batch.push(event.expect("the store in memory has no faults"));
        }
        let count = batch.len();
        let mut rest = batch.into_iter().peekable();
        while let Some(event) = rest.next() {
            let covered = matches!(
                (&event, rest.peek()),
                (StoreEvent::Upsert(old), Some(StoreEvent::Upsert(new))) if old.uid() == new.uid()
            );
            if !(self.thin && covered) {
                self.mirror.apply(event);
            }
        }
        count
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Take(most) => {
                self.take(most);
            }
            Step::Write => {
                let here = self.mirror.objects.get(&key());
                if let Some(here) = here.filter(|_| self.mirror.is_free(&key())) {
                    let expect = Expect::At(here.revision().clone());
                    self.writes += 1;
                    let change = Change::of(Part::Spec).set("slots", self.writes);
                    self.mirror.write_begins(key());
                    self.answers.push_back(now(self.store.patch(&key(), change, expect)));
                }
            }
            Step::Answer => match self.answers.pop_front() {
                Some(Ok(object)) => self.mirror.write_done(object),
                Some(Err(_)) => {
                    let found = now(Store::<FleetNode>::get(&*self.store, &key()));
                    let now = match found.expect("readable") {
                        Some(object) => Reread::There(Box::new(object)),
                        None => Reread::Absent,
                    };
                    self.mirror.write_failed(&key(), now);
                }
                None => {}
            },
            Step::Other => {
                self.writes += 1;
                let change = Change::<FleetNode>::of(Part::Spec).set("slots", self.writes);
                drop(now(self.store.patch(&key(), change, Expect::Any)));
            }
            Step::Delete => {
                let there = now(Store::<FleetNode>::get(&*self.store, &key())).expect("readable");
                if let Some(uid) = there.map(|there| there.meta.uid) {
                    let store: &dyn Store<FleetNode> = &*self.store;
                    now(store.delete(&key(), &uid, Expect::Any)).expect("deleted");
                }
            }
            Step::Create => {
                let spec = FleetNodeSpec { node_name: "n".into(), ..FleetNodeSpec::default() };
                drop(now(self.store.create(NewObject::<FleetNode>::new(key(), spec))));
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_order_the_mirror_ends_equal_to_the_store(steps in steps(), thin: bool) {
        let mut world = World::new(thin);
        for step in steps {
            world.step(step);
        }
        while !world.answers.is_empty() {
            world.step(Step::Answer);
        }
        while world.take(7) > 0 {}
        let there = now(Store::<FleetNode>::get(&*world.store, &key())).expect("readable");
        prop_assert_eq!(world.mirror.objects.get(&key()), there.as_ref());
        prop_assert!(there.is_none() || world.mirror.is_free(&key()));
        prop_assert!(world.mirror.echoes.is_empty(), "{:?}", world.mirror.echoes);
    }
}
