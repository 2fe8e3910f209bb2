//! The reconciler: wakes, takes every event, plans on the whole view, then acts.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, FuturesOrdered, StreamExt};
use tokio::sync::watch;

use super::election::Moment;
use super::elector::{Elector, Leadership};
use super::feed::{feed, feed_or_break};
use super::mirror::Mirror;
use super::settings::ControlSettings;
pub(super) use super::view::{Done, World};
use super::view::{Fed, View};
use super::write::Urgency;
use crate::policy::admit::Policy;
use crate::ports::clock::Clock;
use crate::ports::recorder::Recorder;
use crate::ports::store::{Query, StoreError, Stores};
use crate::timing::{EVENTS_AT_ONCE, RECONCILE_PASSES_MAX};

/// Why [`Reconciler::reconcile_once`] gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// The store could not be read.
    #[error("the store could not be read")]
    Read(#[source] StoreError),
    /// A write could not be done now.
    #[error("the store did not take a write")]
    Write,
    /// Every pass found more to do.
    #[error("still not settled after {RECONCILE_PASSES_MAX} passes")]
    Unsettled,
}

/// Places tasks, expands workloads and rolls them up.
#[derive(Clone)]
pub struct Reconciler {
    pub(super) stores: Stores,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) recorder: Arc<dyn Recorder>,
    settings: ControlSettings,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").field("settings", &self.settings).finish_non_exhaustive()
    }
}

type InFlight<'a> = FuturesOrdered<BoxFuture<'a, (Urgency, Done)>>;

impl Reconciler {
    /// A reconciler of these stores.
    pub fn new(stores: Stores, clock: Arc<dyn Clock>, recorder: Arc<dyn Recorder>) -> Self {
        Self { stores, clock, recorder, settings: ControlSettings::default() }
    }

    /// How it works; [`ControlSettings::validate`] says whether that is within the limits.
    #[must_use]
    pub fn with_settings(mut self, settings: ControlSettings) -> Self {
        self.settings = settings;
        self
    }

    /// What this installation allows; everything where this is not called.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Runs as the only one until `stop` turns true. Writes that are under way are awaited, so that
    /// nothing is left half known.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        self.lead(None, stop).await;
    }

    /// Runs as one of several, of which one acts at a time, until `stop` turns true. Whoever comes to
    /// lead reads everything before it acts, and starts every silence of the nodes anew.
    pub async fn run_elected(&self, elector: &Elector, stop: watch::Receiver<bool>) {
        elector.run(stop.clone(), |leadership| self.lead(Some(leadership), stop.clone())).await;
    }

    async fn lead(&self, leadership: Option<Leadership>, mut stop: watch::Receiver<bool>) {
        let leadership = leadership.as_ref();
        let mut view = View::new(&self.settings);
        let mut events = self.events().ready_chunks(EVENTS_AT_ONCE).fuse();
        let mut writes: InFlight<'_> = FuturesOrdered::new();
        let lost = async {
            match leadership {
                Some(leadership) => leadership.lost().await,
                None => std::future::pending().await,
            }
        };
        let mut lost = std::pin::pin!(lost.fuse());
        loop {
            let look_again = view.look_again(self.clock.awake());
            let alarm = async {
                match look_again {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            futures::select_biased! {
                _ = stop.wait_for(|stop| *stop).fuse() => break,
                () = lost => break,
                done = writes.select_next_some() => view.take(done.0, done.1, self.clock.awake()),
                chunk = events.select_next_some() => self.hear(&mut view, chunk),
                () = alarm.fuse() => {}
            }
            // Whatever else is ready: a pass decides on the whole view, and neither the answers nor
            // the events can keep the other from being heard.
            while let Some(Some((urgency, done))) = writes.next().now_or_never() {
                view.take(urgency, done, self.clock.awake());
            }
            if let Some(Some(chunk)) = events.next().now_or_never() {
                self.hear(&mut view, chunk);
            }
            // Seen here before anybody says so: a machine that slept has the time of its leadership behind
            // it, while the wait for its end still counts the time awake.
            if leadership.is_some_and(|leadership| !leadership.holds()) {
                break;
            }
            if !view.is_synced() {
                continue;
            }
            for (urgency, write) in view.decide(self.now()) {
                let write = self.carry_out_as(leadership, write);
                writes.push_back(write.map(move |done| (urgency, done)).boxed());
            }
        }
        while writes.next().await.is_some() {}
    }

    /// Reads everything, decides and writes until nothing is left to do, and says how many writes
    /// that took. A store in which all is as it should be is not written to.
    ///
    /// # Errors
    /// The store could not be read or did not take a write, or it never settles.
    pub async fn reconcile_once(&self) -> Result<usize, ReconcileError> {
        let query = Query::all();
        let read = ReconcileError::Read;
        let world = World {
            nodes: Mirror::of(self.stores.nodes.list(&query).await.map_err(read)?),
            tasks: Mirror::of(self.stores.tasks.list(&query).await.map_err(read)?),
            workloads: Mirror::of(self.stores.workloads.list(&query).await.map_err(read)?),
            agents: Mirror::of(self.stores.agents.list(&query).await.map_err(read)?),
            policy: self.settings.policy,
        };
        let mut view = View::of(world, &self.settings);
        let mut count = 0;
        for _ in 0..RECONCILE_PASSES_MAX {
            let planned = view.decide_all(self.now());
            if planned.is_empty() {
                return Ok(count);
            }
            for write in planned {
                let urgency = write.urgency();
                view.begins(&write);
                count += 1;
                let done = self.carry_out(write).await;
                view.take(urgency, done, self.clock.awake());
                if view.away_until(self.clock.awake()).is_some() {
                    return Err(ReconcileError::Write);
                }
            }
        }
        Err(ReconcileError::Unsettled)
    }

    fn events(&self) -> BoxStream<'static, Fed> {
        let (stores, all) = (&self.stores, Query::all);
        let clock = || self.clock.clone();
        stream::select_all([
            feed_or_break(stores.nodes.clone(), clock(), all())
                .map(|event| event.map_or(Fed::NodesBroken, Fed::Node))
                .boxed(),
            feed(stores.tasks.clone(), clock(), all()).map(Fed::Task).boxed(),
            feed(stores.workloads.clone(), clock(), all()).map(Fed::Workload).boxed(),
            feed(stores.agents.clone(), clock(), all()).map(Fed::Agent).boxed(),
        ])
        .boxed()
    }

    fn hear(&self, view: &mut View, chunk: Vec<Fed>) {
        view.wakes(self.now());
        for event in chunk {
            view.hear(event, self.now());
        }
    }

    fn now(&self) -> Moment {
        let clock = &self.clock;
        Moment { wall: clock.wall(), awake: clock.awake(), boot: clock.boot() }
    }
}
