//! Whatever a store holds: while nobody changes it, the running loop comes to rest and writes no more.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use proptest::prelude::*;
use tokio::sync::watch;

use super::Reconciler;
use super::any_object_tests::{Held, held};
use crate::memory::MemoryStore;
use crate::model::{Agent, AgenticTask, FleetNode, Key, Workload};
use crate::ports::recorder::LogRecorder;
use crate::ports::store::Stores;
use crate::testkit::sim::SimClock;

/// How often the loop may wake within one step of the clock.
const POLLS: usize = 8;
/// In so many hours every wait and every retry that has an end has ended.
const SETTLED_AFTER_HOURS: u64 = 4;
/// The most writes that two tasks, two nodes and a workload may cost until then.
const WRITES_UNTIL_SETTLED_MAX: u64 = 400;

fn fill(store: &MemoryStore, held: Held) {
    for (name, node) in ["one", "two"].into_iter().zip(held.nodes) {
        store.put_raw::<FleetNode>(Key::cluster(name), node);
    }
    let within = |name: &str| Key::namespaced("d", name);
    store.put_raw::<Agent>(within("coder"), held.agent);
    for (name, task) in ["t", "w-code"].into_iter().zip(held.tasks) {
        store.put_raw::<AgenticTask>(within(name), task);
    }
    store.put_raw::<Workload>(within("w"), held.workload);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]
    #[test]
    fn a_store_that_nobody_changes_is_not_written_to(held in held()) {
        let clock = SimClock::new();
        let store = MemoryStore::new(clock.clone());
        fill(&store, held);
        let start = store.revision();
        let (_keep, stop) = watch::channel(false);
        let reconciler = Reconciler::new(Stores::of(&store), clock.clone(), Arc::new(LogRecorder));
        let mut run = pin!(reconciler.run(stop));
        let mut minutes = |count: u64| {
            for _ in 0..count {
                for _ in 0..POLLS {
                    assert!(run.as_mut().now_or_never().is_none(), "nobody told it to stop");
                }
                clock.advance(Duration::from_mins(1));
            }
        };
        minutes(SETTLED_AFTER_HOURS * 60);
        let settled = store.revision();
        prop_assert!(settled - start <= WRITES_UNTIL_SETTLED_MAX, "{} writes", settled - start);
        minutes(60);
        prop_assert_eq!(store.revision() - settled, 0);
    }
}
