//! The executor of a simulation: one thread, virtual time, and chance that decides who goes next.
//!
//! Among the tasks that can go on, the next one is drawn; when none can, time jumps to the next thing
//! on the agenda. Every task belongs to a machine: a machine that is paused is not polled, one that
//! crashes loses all of its tasks at once, between two awaits.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;

use super::chance::Chance;
use super::machine::{MachineId, MachineState};

/// A moment of virtual time: nanoseconds since the simulation began.
pub(crate) type Instant = u64;
/// A place on the agenda.
pub(crate) type Slot = (Instant, u64);

/// Polls in a row without time moving after which the simulation is taken to spin.
const POLLS_AT_ONE_INSTANT_MAX: u64 = 200_000;

/// Polls after which a simulation is taken never to come to rest; a seed needs some ten thousand.
const POLLS_MAX: u64 = 3_000_000;

/// Polls between two looks at whether anybody still wants the simulation.
const POLLS_UNASKED: u64 = 1024;

/// Waits that are over at once after which a poll is taken to spin.
const WAITS_IN_ONE_POLL_MAX: u64 = 20_000;

enum Due {
    Wake(Waker),
    Do(Box<dyn FnOnce() + Send>),
}

/// What everybody shares: time, the agenda, the machines.
pub(crate) struct Engine {
    now: AtomicU64,
    agenda: Mutex<Agenda>,
    ready: Arc<Mutex<BTreeSet<u64>>>,
    spawned: Mutex<Vec<Spawned>>,
    machines: Mutex<Vec<MachineState>>,
    graves: Mutex<Vec<MachineId>>,
    order: Mutex<Chance>,
    /// Waits that were over at once, since the last poll began.
    waits: AtomicU64,
}

#[derive(Default)]
struct Agenda {
    sequence: u64,
    due: BTreeMap<Slot, Due>,
}

struct Spawned {
    machine: MachineId,
    life: u64,
    future: BoxFuture<'static, ()>,
}

struct Ready {
    id: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.ready).insert(self.id);
    }
}

/// Locks what no other thread ever holds.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds of a duration.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Engine {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicU64::new(0),
            agenda: Mutex::default(),
            ready: Arc::default(),
            spawned: Mutex::default(),
            machines: Mutex::default(),
            graves: Mutex::default(),
            order: Mutex::new(Chance::stream(seed, "order")),
            waits: AtomicU64::new(0),
        })
    }

    /// Now.
    pub(crate) fn now(&self) -> Instant {
        self.now.load(Ordering::Relaxed)
    }

    /// Wakes somebody at a moment; the slot takes it off the agenda again.
    pub(crate) fn wake_at(&self, at: Instant, waker: Waker) -> Slot {
        self.put(at, Due::Wake(waker))
    }

    /// Does something at a moment.
    pub(crate) fn at(&self, at: Instant, what: impl FnOnce() + Send + 'static) {
        self.put(at, Due::Do(Box::new(what)));
    }

    /// Does something after a while.
    pub(crate) fn after(&self, pause: Duration, what: impl FnOnce() + Send + 'static) {
        self.at(self.now().saturating_add(nanos(pause)), what);
    }

    fn put(&self, at: Instant, due: Due) -> Slot {
        let mut agenda = lock(&self.agenda);
        agenda.sequence += 1;
        let slot = (at.max(self.now()), agenda.sequence);
        agenda.due.insert(slot, due);
        slot
    }

    /// Takes something off the agenda.
    pub(crate) fn forget(&self, slot: Slot) {
        lock(&self.agenda).due.remove(&slot);
    }

    /// Starts a task of a machine, in its present life.
    pub(crate) fn spawn(&self, machine: MachineId, future: BoxFuture<'static, ()>) {
        let life = self.machine(machine, |state| state.life);
        lock(&self.spawned).push(Spawned { machine, life, future });
    }

    pub(crate) fn add_machine(&self, state: MachineState) -> MachineId {
        let mut machines = lock(&self.machines);
        machines.push(state);
        MachineId(machines.len() - 1)
    }

    /// Looks at a machine or changes it.
    #[expect(clippy::expect_used, reason = "an id is given out for a machine that stays")]
    pub(crate) fn machine<T>(&self, id: MachineId, look: impl FnOnce(&mut MachineState) -> T) -> T {
        let mut machines = lock(&self.machines);
        look(machines.get_mut(id.0).expect("a machine stays"))
    }

    /// A wait was over at once. A task that does nothing else never comes back from its poll.
    pub(crate) fn waited_for_nothing(&self) {
        if self.waits.fetch_add(1, Ordering::Relaxed) > WAITS_IN_ONE_POLL_MAX {
            std::panic::resume_unwind(Box::new("it goes round and round within one poll"));
        }
    }

    /// Drops what is still planned. It holds those who planned it, and they hold this.
    pub(crate) fn forget_all(&self) {
        loop {
            // Dropped while nothing is locked: what goes may look here.
            let due = std::mem::take(&mut lock(&self.agenda).due);
            let spawned = std::mem::take(&mut *lock(&self.spawned));
            if due.is_empty() && spawned.is_empty() {
                return;
            }
        }
    }

    /// Ends everything that runs on a machine, at the next moment between two polls.
    pub(crate) fn kill(&self, id: MachineId) {
        self.machine(id, |state| {
            state.crash_after = None;
            state.life += 1;
        });
        lock(&self.graves).push(id);
    }
}

struct Task {
    machine: MachineId,
    life: u64,
    waker: Waker,
    future: BoxFuture<'static, ()>,
}

/// Why a run of the executor came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The given moment came.
    Reached,
    /// Nothing is left to do.
    Idle,
    /// A task of that machine panicked.
    Panicked { machine: MachineId, message: String },
    /// Tasks went on and on without time moving.
    Spinning { machine: MachineId },
    /// Tasks go on and on, and time with them.
    Restless { machine: MachineId },
    /// Nobody wants to know any more.
    Unwanted,
}

/// The tasks, and the loop that polls them.
pub(crate) struct Executor<'a> {
    engine: Arc<Engine>,
    tasks: BTreeMap<u64, Task>,
    ids: u64,
    /// Polls so far.
    pub(crate) polls: u64,
    polls_at_this_instant: u64,
    polls_max: u64,
    /// Whether nobody wants to know any more.
    unwanted: &'a dyn Fn() -> bool,
}

impl<'a> Executor<'a> {
    /// An executor that comes back soon once `unwanted` says so.
    pub(crate) fn new(engine: Arc<Engine>, unwanted: &'a dyn Fn() -> bool) -> Self {
        let (tasks, ids, polls, polls_max) = (BTreeMap::new(), 0, 0, POLLS_MAX);
        Self { engine, tasks, ids, polls, polls_at_this_instant: 0, polls_max, unwanted }
    }

    /// Polls and moves time until `until`.
    pub(crate) fn run(&mut self, until: Instant) -> Halt {
        loop {
            self.take_spawned();
            while let Some(id) = self.pick() {
                if let Some(halt) = self.poll(id) {
                    return halt;
                }
                self.take_spawned();
            }
            let next = {
                let mut agenda = lock(&self.engine.agenda);
                match agenda.due.first_key_value() {
                    None => {
                        self.engine.now.store(until, Ordering::Relaxed);
                        return Halt::Idle;
                    }
                    Some(((at, _), _)) if *at > until => {
                        self.engine.now.store(until, Ordering::Relaxed);
                        return Halt::Reached;
                    }
                    Some(_) => agenda.due.pop_first(),
                }
            };
            let Some(((at, _), due)) = next else { continue };
            if at > self.engine.now() {
                self.engine.now.store(at, Ordering::Relaxed);
                self.polls_at_this_instant = 0;
            }
            match due {
                Due::Wake(waker) => waker.wake(),
                Due::Do(what) => what(),
            }
            let dead = std::mem::take(&mut *lock(&self.engine.graves));
            for machine in dead {
                self.bury(machine);
            }
        }
    }

    fn take_spawned(&mut self) {
        let spawned = std::mem::take(&mut *lock(&self.engine.spawned));
        for spawned in spawned {
            self.ids += 1;
            let id = self.ids;
            let waker = Waker::from(Arc::new(Ready { id, ready: self.engine.ready.clone() }));
            let Spawned { machine, life, future } = spawned;
            self.tasks.insert(id, Task { machine, life, waker, future });
            lock(&self.engine.ready).insert(id);
        }
    }

    /// Draws one of the tasks that can go on.
    fn pick(&mut self) -> Option<u64> {
        loop {
            let mut ready = lock(&self.engine.ready);
            let machines = lock(&self.engine.machines);
            let tasks = &self.tasks;
            ready.retain(|id| tasks.contains_key(id));
            let is_awake = |id: &u64| {
                tasks
                    .get(id)
                    .and_then(|task| machines.get(task.machine.0))
                    .is_some_and(|machine| !machine.asleep)
            };
            let count = ready.iter().filter(|id| is_awake(id)).count();
            let at = lock(&self.engine.order).below(u64::try_from(count).unwrap_or(u64::MAX));
            let at = usize::try_from(at).unwrap_or_default();
            let id = *ready.iter().filter(|id| is_awake(id)).nth(at)?;
            ready.remove(&id);
            let dead = tasks.get(&id).is_none_or(|task| {
                machines.get(task.machine.0).is_none_or(|machine| machine.life != task.life)
            });
            drop((ready, machines));
            if !dead {
                return Some(id);
            }
            self.tasks.remove(&id);
        }
    }

    fn poll(&mut self, id: u64) -> Option<Halt> {
        let task = self.tasks.get_mut(&id)?;
        let machine = task.machine;
        let mut context = Context::from_waker(&task.waker);
        let future = &mut task.future;
        self.engine.waits.store(0, Ordering::Relaxed);
        let polled =
            std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        self.polls += 1;
        self.polls_at_this_instant += 1;
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => {
                self.tasks.remove(&id);
            }
            Err(panic) => {
                self.tasks.remove(&id);
                return Some(Halt::Panicked { machine, message: message_of(&*panic) });
            }
        }
        let now = self.engine.now();
        if self.engine.machine(machine, |state| state.was_polled(now)) {
            self.bury(machine);
        }
        if self.polls_at_this_instant > POLLS_AT_ONE_INSTANT_MAX {
            return Some(Halt::Spinning { machine });
        }
        if self.polls > self.polls_max {
            return Some(Halt::Restless { machine });
        }
        (self.polls.is_multiple_of(POLLS_UNASKED) && (self.unwanted)()).then_some(Halt::Unwanted)
    }

    /// Drops all tasks, and what they planned.
    pub(crate) fn end(&mut self) {
        self.tasks.clear();
        self.engine.forget_all();
    }

    /// Drops the tasks of lives that are over.
    pub(crate) fn bury(&mut self, machine: MachineId) {
        let life = self.engine.machine(machine, |state| state.life);
        self.tasks.retain(|_, task| task.machine != machine || task.life == life);
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restless(engine: &Arc<Engine>) {
        let machine = engine.add_machine(MachineState::new("box", 0, 0));
        let ticking = engine.clone();
        let future = std::future::poll_fn(move |context| {
            ticking.wake_at(ticking.now() + 1, context.waker().clone());
            Poll::Pending
        });
        engine.spawn(machine, Box::pin(future));
    }

    #[test]
    fn who_never_comes_to_rest_is_stopped() {
        let engine = Engine::new(1);
        restless(&engine);
        let mut executor = Executor::new(engine, &|| false);
        executor.polls_max = 5000;
        let halt = executor.run(Instant::MAX - 1);
        assert_eq!(halt, Halt::Restless { machine: MachineId(0) });
        assert_eq!(executor.polls, 5001);
    }

    #[test]
    fn what_nobody_wants_to_know_ends_soon() {
        let engine = Engine::new(1);
        restless(&engine);
        let mut executor = Executor::new(engine, &|| true);
        assert_eq!(executor.run(Instant::MAX - 1), Halt::Unwanted);
        assert_eq!(executor.polls, POLLS_UNASKED);
    }
}
