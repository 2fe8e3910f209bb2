//! The store and the wires to it: one real [`MemoryStore`], reached over links that delay, lose and
//! break, and whose every accepted change is shown to the checks.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::chance::{Chance, Counts};
use super::engine::{Engine, Instant, lock};
use super::machine::{MachineClock, MachineId};
use super::reply::Reply;
use super::scenario::Rates;
use super::trace::Trace;
use super::truth::{Moved, Truth};
use super::watching::Watching;
use crate::memory::MemoryStore;
use crate::model::agent_release::AgentRelease;
use crate::model::ids::Key;
use crate::model::model_profile::ModelProfile;
use crate::model::{Agent, AgenticTask, FleetNode, Kind, Object, Workload};
use crate::ports::store::StoreError;

/// A process of the simulation, as the store sees it.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// The number of the process: each start has another one.
    pub(crate) process: u64,
    /// The name in the trace.
    pub(crate) name: Arc<str>,
    /// Where it runs.
    pub(crate) machine: MachineId,
}

/// What a machine's wires do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    /// Requests are lost: what is asked for is not done.
    pub(crate) requests_lost: bool,
    /// Answers are lost: what is asked for is done, and nobody is told.
    pub(crate) answers_lost: bool,
}

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Create,
    Patch,
    Delete,
}

impl Verb {
    fn reads(self) -> bool {
        matches!(self, Self::Get | Self::List)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

type Answering<T> = Reply<Result<T, StoreError>>;
type AnyObject = Arc<dyn Any + Send + Sync>;

pub(super) struct State {
    pub(super) chance: Chance,
    pub(super) rates: Rates,
    links: BTreeMap<MachineId, Link>,
    outage: bool,
    revision: u64,
    objects: BTreeMap<(&'static str, Key), AnyObject>,
    watchers: Vec<(&'static str, MachineId, Arc<dyn Watching>)>,
}

/// See the module.
pub(crate) struct Net {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) truth: Arc<Truth>,
    pub(super) state: Mutex<State>,
}

/// What becomes of one request.
enum Fate {
    /// It arrives and is answered.
    Good,
    /// It is refused before it arrives.
    Refused,
    /// It never arrives.
    Lost,
    /// It arrives, and the answer does not.
    AnswerLost,
    /// It arrives after its sender gave up.
    Late,
}

impl Net {
    pub(crate) fn new(
        engine: Arc<Engine>,
        server: MachineId,
        seed: u64,
        rates: Rates,
        trace: Arc<Trace>,
        counts: Arc<Counts>,
    ) -> Arc<Self> {
        let clock = MachineClock { engine: engine.clone(), machine: server };
        let state = State {
            chance: Chance::stream(seed, "net"),
            rates,
            links: BTreeMap::new(),
            outage: false,
            revision: 0,
            objects: BTreeMap::new(),
            watchers: Vec::new(),
        };
        let truth = Arc::new(Truth::new(trace.clone(), counts.clone()));
        let store = MemoryStore::new(Arc::new(clock));
        Arc::new(Self { engine, store, counts, trace, truth, state: Mutex::new(state) })
    }

    /// The link of a machine.
    pub(crate) fn link(&self, machine: MachineId) -> Link {
        lock(&self.state).links.get(&machine).copied().unwrap_or_default()
    }

    /// Changes a link. Watches over a link that comes back break: nobody knows what they missed.
    pub(crate) fn set_link(&self, machine: MachineId, link: Link) {
        let mut state = lock(&self.state);
        let before = state.links.insert(machine, link).unwrap_or_default();
        let cut: Vec<_> = state.watchers_of(machine);
        drop(state);
        if before.answers_lost && !link.answers_lost {
            for watcher in cut {
                watcher.cut();
            }
        }
    }

    /// The store is away, for everybody, or there again.
    pub(crate) fn set_outage(&self, outage: bool) {
        let mut state = lock(&self.state);
        state.outage = outage;
        let all: Vec<_> = state.watchers.iter().map(|(_, _, watcher)| watcher.clone()).collect();
        drop(state);
        if outage {
            for watcher in all {
                watcher.cut();
            }
        }
    }

    /// No call fails any more by chance; links and outage are the callers' to mend.
    pub(crate) fn heal(&self) {
        let mut state = lock(&self.state);
        state.rates = Rates::none();
        let machines: Vec<_> = state.links.keys().copied().collect();
        drop(state);
        self.set_outage(false);
        for machine in machines {
            self.set_link(machine, Link::default());
        }
    }

    pub(super) fn is_out(&self) -> bool {
        lock(&self.state).outage
    }

    pub(super) fn add_watcher(
        &self,
        kind: &'static str,
        machine: MachineId,
        watcher: Arc<dyn Watching>,
    ) {
        lock(&self.state).watchers.push((kind, machine, watcher));
    }

    /// Sends a request and waits for its answer. What was sent is done or not done whatever becomes
    /// of the sender.
    pub(crate) async fn call<T, F>(
        self: &Arc<Self>,
        actor: &Actor,
        verb: Verb,
        about: impl FnOnce() -> String,
        serve: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&MemoryStore) -> Result<T, StoreError> + Send + 'static,
    {
        let about = self.trace.keeps().then(about);
        let reply = Reply::default();
        self.send(Request { actor: actor.clone(), verb, about }, reply.clone(), serve);
        reply.await
    }

    fn send<T, F>(self: &Arc<Self>, request: Request, reply: Answering<T>, serve: F)
    where
        T: Send + 'static,
        F: FnOnce(&MemoryStore) -> Result<T, StoreError> + Send + 'static,
    {
        let mut state = lock(&self.state);
        let link = state.links.get(&request.actor.machine).copied().unwrap_or_default();
        let fate = if link.requests_lost {
            if state.chance.percent(50) { Fate::Refused } else { Fate::Lost }
        } else {
            state.fate(request.verb)
        };
        let (there, back) = (state.latency(), state.latency());
        let patience = state.chance.duration(Duration::from_secs(2), Duration::from_secs(10));
        let late = state.chance.duration(Duration::ZERO, Duration::from_secs(5));
        drop(state);
        let net = self.clone();
        match fate {
            Fate::Refused => {
                self.counts.add("call refused");
                self.engine.after(there, move || {
                    net.trace_answer(&request, "unavailable", 0);
                    reply.give(Err(unavailable()));
                });
            }
            Fate::Lost => {
                self.counts.add("request lost");
                self.engine.after(patience, move || {
                    net.trace_answer(&request, "lost, not done", 0);
                    reply.give(Err(no_answer(request.verb)));
                });
            }
            Fate::Good => self.engine.after(there, move || {
                let answer = net.serve(&request, serve);
                if net.link(request.actor.machine).answers_lost {
                    net.counts.add("answer lost");
                    let error = no_answer(request.verb);
                    net.engine.clone().after(patience, move || reply.give(Err(error)));
                } else {
                    net.engine.clone().after(back, move || reply.give(answer));
                }
            }),
            Fate::AnswerLost => {
                self.counts.add("answer lost");
                self.engine.after(there, move || {
                    let answer = net.serve(&request, serve);
                    drop(answer);
                    let error = no_answer(request.verb);
                    net.engine.clone().after(patience, move || reply.give(Err(error)));
                });
            }
            Fate::Late => {
                self.counts.add("write done after its answer");
                self.engine.after(patience, move || {
                    reply.give(Err(no_answer(request.verb)));
                    let engine = net.engine.clone();
                    engine.after(late, move || {
                        net.truth.facts(|facts| facts.late = true);
                        drop(net.serve(&request, serve));
                        net.truth.facts(|facts| facts.late = false);
                    });
                });
            }
        }
    }

    /// Lets go of who watches and of what was seen: watchers hold this.
    pub(crate) fn forget_all(&self) {
        let (watchers, objects) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.watchers), std::mem::take(&mut state.objects))
        };
        drop((watchers, objects));
    }

    /// Does something at the store at once, whatever the wires are like: people wait and try again.
    pub(crate) fn direct<T>(
        self: &Arc<Self>,
        actor: &Actor,
        verb: Verb,
        about: impl FnOnce() -> String,
        serve: impl FnOnce(&MemoryStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = serve(&self.store);
        let word = if answer.is_ok() { "ok" } else { "refused" };
        let about = self.trace.keeps().then(about);
        let request = Request { actor: actor.clone(), verb, about };
        self.trace_answer(&request, word, self.store.revision());
        self.absorb(actor);
        answer
    }

    /// Does what is asked, at the store.
    fn serve<T, F>(self: &Arc<Self>, request: &Request, serve: F) -> Result<T, StoreError>
    where
        F: FnOnce(&MemoryStore) -> Result<T, StoreError>,
    {
        if self.is_out() {
            self.trace_answer(request, "outage", 0);
            return Err(unavailable());
        }
        let answer = serve(&self.store);
        let word = match &answer {
            Ok(_) => "ok",
            Err(StoreError::Conflict) => {
                self.counts.add("conflict");
                "conflict"
            }
            Err(StoreError::NotFound) => "not found",
            Err(StoreError::AlreadyExists { .. }) => "already exists",
            Err(error) => {
                let text = error.to_string();
                self.truth.refused_by_the_store(self.engine.now(), &request.actor, &text);
                "refused"
            }
        };
        if !request.verb.reads() || self.trace.keeps() {
            self.trace_answer(request, word, self.store.revision());
        }
        self.absorb(&request.actor);
        answer
    }

    fn trace_answer(&self, request: &Request, word: &str, revision: u64) {
        let numbers = [request.actor.process, revision];
        self.trace.event(self.engine.now(), word, &numbers, || {
            let about = request.about.as_deref().unwrap_or_default();
            let revision = if revision == 0 { String::new() } else { format!(" rev {revision}") };
            format!("{} {} {about} -> {word}{revision}", request.actor.name, request.verb.word())
        });
    }

    /// Shows what changed to the watchers and to the checks.
    fn absorb(self: &Arc<Self>, actor: &Actor) {
        let after = lock(&self.state).revision;
        if self.store.revision() == after {
            return;
        }
        for change in self.store.changes_after(after) {
            lock(&self.state).revision = change.revision;
            let kind = change.kind;
            let (key, value) = (&change.key, change.object.as_deref());
            if kind == AgenticTask::NAMES.kind {
                self.changed::<AgenticTask>(actor, kind, key, value, Moved::Task);
            } else if kind == FleetNode::NAMES.kind {
                self.changed::<FleetNode>(actor, kind, key, value, Moved::Node);
            } else if kind == Workload::NAMES.kind {
                self.changed::<Workload>(actor, kind, key, value, Moved::Workload);
            } else if kind == Agent::NAMES.kind {
                self.changed::<Agent>(actor, kind, key, value, |_, after| Moved::Agent(after));
            } else if kind == AgentRelease::NAMES.kind {
                self.changed::<AgentRelease>(actor, kind, key, value, |_, _| Moved::Other);
            } else if kind == ModelProfile::NAMES.kind {
                self.changed::<ModelProfile>(actor, kind, key, value, |_, _| Moved::Other);
            }
        }
    }

    fn changed<K: Kind>(
        self: &Arc<Self>,
        actor: &Actor,
        kind: &'static str,
        key: &Key,
        value: Option<&Value>,
        moved: impl FnOnce(Option<Arc<Object<K>>>, Option<Arc<Object<K>>>) -> Moved,
    ) {
        let object = value.and_then(|value| Object::<K>::from_json(value).ok());
        let object = object.map(Arc::new);
        let now = self.engine.now();
        let mut state = lock(&self.state);
        let before = state.objects.remove(&(kind, key.clone()));
        let before = before.and_then(|object| object.downcast::<Object<K>>().ok());
        if let Some(object) = &object {
            let object: AnyObject = object.clone();
            state.objects.insert((kind, key.clone()), object);
        }
        state.watchers.retain(|(_, _, watcher)| watcher.is_open());
        let watchers: Vec<_> = state
            .watchers
            .iter()
            .filter(|(of, _, _)| *of == kind)
            .map(|(_, _, watcher)| watcher.clone())
            .collect();
        drop(state);
        let any: Option<AnyObject> = object.clone().map(|object| object as AnyObject);
        for watcher in watchers {
            watcher.changed(key, value, any.as_ref());
        }
        self.truth.saw(now, actor, key, moved(before, object));
    }

    /// The objects of a kind as they are now.
    pub(super) fn objects<K: Kind>(&self) -> Vec<(Key, Arc<Object<K>>)> {
        let kind = K::NAMES.kind;
        let state = lock(&self.state);
        let all = state.objects.iter().filter(|((of, _), _)| *of == kind);
        all.filter_map(|((_, key), object)| {
            Some((key.clone(), object.clone().downcast::<Object<K>>().ok()?))
        })
        .collect()
    }
}

struct Request {
    actor: Actor,
    verb: Verb,
    about: Option<String>,
}

impl State {
    fn fate(&mut self, verb: Verb) -> Fate {
        let rates = self.rates;
        let mut dice = u32::try_from(self.chance.below(1000)).unwrap_or_default();
        for (times, fate) in [
            (rates.refused, Fate::Refused),
            (rates.lost_requests, Fate::Lost),
            (rates.lost_answers, Fate::AnswerLost),
            (if verb.reads() { 0 } else { rates.late_writes }, Fate::Late),
        ] {
            if dice < times {
                return fate;
            }
            dice -= times;
        }
        Fate::Good
    }

    fn latency(&mut self) -> Duration {
        let high = Duration::from_millis(self.rates.latency_ms.max(1));
        self.chance.skewed(Duration::from_micros(200), high)
            + Duration::from_micros(self.chance.below(900))
    }

    fn watchers_of(&self, machine: MachineId) -> Vec<Arc<dyn Watching>> {
        let all = self.watchers.iter().filter(|(_, on, _)| *on == machine);
        all.map(|(_, _, watcher)| watcher.clone()).collect()
    }
}

pub(super) fn unavailable() -> StoreError {
    StoreError::Unavailable { reason: "simulated".to_owned(), retry_after: None }
}

fn no_answer(verb: Verb) -> StoreError {
    let reason = "no answer came".to_owned();
    if verb.reads() {
        StoreError::Unavailable { reason, retry_after: None }
    } else {
        StoreError::Uncertain { reason }
    }
}

/// How long ago.
pub(crate) fn since(now: Instant, earlier: Instant) -> Duration {
    Duration::from_nanos(now.saturating_sub(earlier))
}
