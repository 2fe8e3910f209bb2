//! The store behind a proxy that cuts, delays and lies: which error a caller gets, and that a watch
//! ends up right.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foreman_core::model::{
    AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, Object, TaskKind,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Query, StoreError, StoreEvent, Stores, TaskStore};
use foreman_kube::{KubeStore, Limits};
use foreman_probe::os_clock::{SystemClock, SystemEntropy};
use futures::StreamExt;
use kube::Config;

use super::Cluster;
use super::proxy::{Fault, Proxy};
use crate::support::within;

/// Short times, so that a test that waits for one is short.
const SHORT: Limits = Limits {
    read: Duration::from_secs(3),
    write: Duration::from_secs(3),
    watch: Duration::from_secs(200),
    watch_silence: Duration::from_secs(2),
};

struct Bench {
    cluster: Cluster,
    proxy: Proxy,
    /// By way of the proxy.
    tasks: Arc<dyn TaskStore>,
    /// Straight.
    truth: Arc<dyn TaskStore>,
}

fn stores(config: Config, limits: Limits) -> Stores {
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    Stores::of(&KubeStore::new(config, clock, entropy, limits).expect("a client"))
}

impl Bench {
    async fn new(what: &str, limits: Limits) -> Option<Self> {
        let cluster = Cluster::new(what).await?;
        let proxy = Proxy::start(cluster.client.clone()).await;
        let tasks = stores(proxy.config(), limits).tasks;
        let truth = Stores::of(&cluster.store().await).tasks;
        Some(Self { cluster, proxy, tasks, truth })
    }

    fn key(&self, name: &str) -> Key {
        Key::namespaced(&self.cluster.namespace, name)
    }

    fn task(&self, name: &str) -> NewObject<AgenticTask> {
        let payload = AgenticTaskPayload { prompt: Some("do".to_owned()), ..Default::default() };
        NewObject::new(self.key(name), AgenticTaskSpec::new(TaskKind::Freeform, payload))
    }

    fn here(&self) -> Query {
        Query::in_namespace(&self.cluster.namespace)
    }

    /// The next write of this method meets the fault, everything else nothing.
    fn once(&self, wanted: &'static str, fault: Fault) {
        self.proxy.next(1, fault, move |method, _| method == wanted);
    }

    async fn created(&self, name: &str) -> Object<AgenticTask> {
        self.truth.create(self.task(name)).await.expect("created")
    }

    async fn read(&self, name: &str) -> Option<Object<AgenticTask>> {
        self.truth.get(&self.key(name)).await.expect("read")
    }
}

fn attempt(attempt: i64) -> Change<AgenticTask> {
    Change::of(Part::Status).set("attempt", attempt)
}

fn opens_a_watch(_method: &str, address: &str) -> bool {
    address.contains("watch=1")
}

fn is_uncertain<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Uncertain { .. }))
}

/// The answer was lost: the caller does not know, and a fresh read does.
#[tokio::test]
async fn a_write_without_an_answer_is_uncertain_whether_it_was_done_or_not() {
    let Some(bench) = Bench::new("uncertain writes", SHORT).await else { return };
    let faults = [
        (Fault::LoseAnswer, true),
        (Fault::FailAfter(500), true),
        (Fault::FailAfter(504), true),
        (Fault::CutAfter(10), true),
        (Fault::Cut, false),
        (Fault::Refuse(500), false),
        (Fault::Refuse(502), false),
        (Fault::Refuse(503), false),
        (Fault::Refuse(504), false),
    ];
    for (number, (fault, done)) in faults.into_iter().enumerate() {
        let name = format!("t{number}");
        bench.once("POST", fault);
        let created = bench.tasks.create(bench.task(&name)).await;
        assert!(is_uncertain(&created), "{fault:?}: {created:?}");
        assert_eq!(bench.read(&name).await.is_some(), done, "{fault:?}");
        let there = match bench.read(&name).await {
            Some(there) => there,
            None => bench.created(&name).await,
        };
        bench.once("PATCH", fault);
        let at = Expect::At(there.revision().clone());
        let patched = bench.tasks.patch(&there.key(), attempt(1), at).await;
        assert!(is_uncertain(&patched), "{fault:?}: {patched:?}");
        let now = bench.read(&name).await.expect("there");
        assert_eq!(now.status.attempt, done.then_some(1), "{fault:?}");
        bench.once("DELETE", fault);
        let deleted = bench.tasks.delete(&there.key(), there.uid(), Expect::Any).await;
        assert!(is_uncertain(&deleted), "{fault:?}: {deleted:?}");
        assert_eq!(bench.read(&name).await.is_none(), done, "{fault:?}");
    }
}

/// A server that is too busy did nothing: tried again for a while, then the caller's to wait.
#[tokio::test]
async fn a_busy_server_is_asked_again_and_then_left_alone() {
    let Some(bench) = Bench::new("a busy server", SHORT).await else { return };
    bench.once("POST", Fault::Refuse(429));
    bench.tasks.create(bench.task("a")).await.expect("the second try is taken");
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    bench.proxy.plan(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Fault::Refuse(429)
    });
    let refused = bench.tasks.create(bench.task("b")).await;
    let after = Some(Duration::from_secs(1));
    match refused {
        Err(StoreError::Unavailable { retry_after, .. }) => assert_eq!(retry_after, after),
        other => panic!("{other:?}"),
    }
    let tries = tries.load(Ordering::Relaxed);
    assert!((2..=4).contains(&tries), "{tries} tries");
    bench.proxy.plan(|_, _| Fault::None);
    assert_eq!(bench.read("b").await, None);
}

/// What never left us is no riddle.
#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let Some(bench) = Bench::new("an absent server", SHORT).await else { return };
    let config = bench.proxy.config();
    let (key, new) = (bench.key("a"), bench.task("a"));
    drop(bench.proxy);
    let tasks = stores(config, SHORT).tasks;
    let got = tasks.get(&key).await;
    assert!(matches!(got, Err(StoreError::Unavailable { .. })), "{got:?}");
    let created = tasks.create(new).await;
    assert!(matches!(created, Err(StoreError::Unavailable { .. })), "{created:?}");
    let told = tasks.watch(Query::all()).next().await;
    assert!(matches!(told, Some(Err(StoreError::Unavailable { .. }))), "{told:?}");
}

/// A race that the server lost by itself is none of a caller's who expects no revision.
#[tokio::test]
async fn a_conflict_is_told_only_to_whom_it_concerns() {
    let Some(bench) = Bench::new("conflicts", SHORT).await else { return };
    let made = bench.created("a").await;
    bench.once("PATCH", Fault::Refuse(409));
    let patched = bench.tasks.patch(&made.key(), attempt(1), Expect::Any).await.expect("patched");
    assert_eq!(patched.status.attempt, Some(1));
    bench.once("PATCH", Fault::Refuse(409));
    let at = Expect::At(patched.revision().clone());
    let refused = bench.tasks.patch(&made.key(), attempt(2), at).await;
    assert_eq!(refused, Err(StoreError::Conflict));
}

/// A watcher's view after each event, until it is what the store holds.
async fn until_right(
    bench: &Bench,
    events: &mut futures::stream::BoxStream<'static, Result<StoreEvent<AgenticTask>, StoreError>>,
) -> (usize, usize) {
    let wanted = bench.truth.list(&bench.here()).await.expect("listed").objects;
    let (mut seen, mut breaks, mut syncs) = (std::collections::BTreeMap::new(), 0, 0);
    let mut reading = false;
    within("a watcher that is right", async {
        loop {
            match events.next().await.expect("a watch never ends") {
                Ok(StoreEvent::SyncStart) => {
                    seen.clear();
                    reading = true;
                }
                Ok(StoreEvent::Upsert(object)) => {
                    seen.insert(object.key(), *object);
                }
                Ok(StoreEvent::Gone { key, .. }) => {
                    seen.remove(&key);
                }
                Ok(StoreEvent::SyncEnd) => {
                    reading = false;
                    syncs += 1;
                }
                Ok(StoreEvent::Unreadable { key, reason }) => panic!("{key}: {reason}"),
                Err(_) => breaks += 1,
            }
            if !reading && syncs > 0 && seen.values().eq(&wanted) {
                break;
            }
        }
    })
    .await;
    (breaks, syncs)
}

/// A revision that is too old: when a watch is opened, in its middle, and between two pages.
#[tokio::test]
async fn what_expired_is_read_again() {
    let Some(bench) = Bench::new("expired revisions", SHORT).await else { return };
    for number in 0..150 {
        bench.created(&format!("t{number:03}")).await;
    }
    bench.proxy.next(1, Fault::Refuse(410), |_, address| address.contains("continue="));
    let listing = bench.tasks.list(&bench.here()).await.expect("listed");
    assert_eq!(listing.objects.len(), 150);
    for fault in [Fault::Refuse(410), Fault::Expire] {
        bench.proxy.next(1, fault, opens_a_watch);
        let mut events = bench.tasks.watch(bench.here());
        assert_eq!(until_right(&bench, &mut events).await, (0, 1));
        let last = bench.created(if fault == Fault::Expire { "u" } else { "v" }).await;
        let (breaks, syncs) = until_right(&bench, &mut events).await;
        assert_eq!((breaks, syncs), (0, 1), "{fault:?}: everything was read again");
        bench.truth.delete(&last.key(), last.uid(), Expect::Any).await.expect("deleted");
    }
}

/// A watch that cannot go on says so, and goes on.
#[tokio::test]
async fn a_broken_watch_is_told() {
    let Some(bench) = Bench::new("broken watches", SHORT).await else { return };
    bench.created("a").await;
    // As often as a call is tried.
    bench.proxy.next(4, Fault::Refuse(503), opens_a_watch);
    let mut events = bench.tasks.watch(bench.here());
    assert_eq!(until_right(&bench, &mut events).await, (0, 1));
    bench.created("b").await;
    assert_eq!(until_right(&bench, &mut events).await, (1, 1));
}

/// Connections that are open and carry nothing, in either direction.
#[tokio::test]
async fn a_world_that_stands_still_ends_in_uncertainty_and_goes_on() {
    let Some(bench) = Bench::new("a world that stands still", SHORT).await else { return };
    let made = bench.created("a").await;
    let mut events = bench.tasks.watch(bench.here());
    until_right(&bench, &mut events).await;
    bench.proxy.stop_the_world(true);
    let patched = bench.tasks.patch(&made.key(), attempt(1), Expect::Any).await;
    assert!(is_uncertain(&patched), "{patched:?}");
    let got = bench.tasks.get(&made.key()).await;
    assert!(matches!(got, Err(StoreError::Unavailable { .. })), "{got:?}");
    // A silent watch is given up, opened again, and that breaks.
    let told = within("a broken watch", events.next()).await;
    assert!(matches!(told, Some(Err(StoreError::Unavailable { .. }))), "{told:?}");
    bench.created("b").await;
    bench.proxy.stop_the_world(false);
    until_right(&bench, &mut events).await;
    bench.tasks.patch(&made.key(), attempt(2), Expect::Any).await.expect("goes on");
}
