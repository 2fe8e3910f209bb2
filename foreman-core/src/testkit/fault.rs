//! A store that fails as a test says: it wraps any store and breaks single calls of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use crate::model::ids::{Key, Uid};
use crate::model::object::{Kind, NewObject, Object};
use crate::ports::store::{Change, Expect, Listing, Query, Store, StoreError, StoreEvent};

/// A call of [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Store::get`].
    Get,
    /// [`Store::list`].
    List,
    /// [`Store::create`].
    Create,
    /// [`Store::patch`].
    Patch,
    /// [`Store::delete`].
    Delete,
    /// [`Store::watch`]: a fault breaks the new watch at once.
    Watch,
}

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing was done.
    Fail(StoreError),
    /// It is done, and then fails all the same: an answer that was lost.
    DoneThen(StoreError),
}

impl Fault {
    /// The store cannot be reached.
    pub fn unavailable() -> Self {
        Self::Fail(StoreError::Unavailable { reason: "scripted".to_owned(), retry_after: None })
    }

    /// No answer came; nothing was done.
    pub fn uncertain() -> Self {
        Self::Fail(StoreError::Uncertain { reason: "scripted".to_owned() })
    }

    /// No answer came; it was done.
    pub fn uncertain_but_done() -> Self {
        Self::DoneThen(StoreError::Uncertain { reason: "scripted".to_owned() })
    }
}

/// One call that the store was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which.
    pub operation: Operation,
    /// The object's name; empty for lists and watches.
    pub name: String,
    /// The merge patch of a [`Operation::Patch`], as it would go over the wire.
    pub patch: Option<serde_json::Value>,
    /// What it failed with, if it did.
    pub error: Option<StoreError>,
}

type Chooser<K> = Box<dyn FnMut(&Key, &Change<K>) -> Option<Fault> + Send>;

/// Wraps a store of one kind. Without a script it does what the wrapped one does, and remembers it.
pub struct FaultyStore<K: Kind> {
    inner: Arc<dyn Store<K>>,
    state: Mutex<State<K>>,
    held: watch::Sender<BTreeSet<Operation>>,
}

struct State<K: Kind> {
    scripts: BTreeMap<Operation, VecDeque<Option<Fault>>>,
    away: BTreeMap<Operation, StoreError>,
    chooser: Option<Chooser<K>>,
    calls: Vec<Call>,
}

impl<K: Kind> std::fmt::Debug for FaultyStore<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").field("kind", &K::NAMES.kind).finish_non_exhaustive()
    }
}

impl<K: Kind> FaultyStore<K> {
    /// Wraps `inner`; no call fails yet.
    pub fn new(inner: Arc<dyn Store<K>>) -> Arc<Self> {
        let state = State {
            scripts: BTreeMap::new(),
            away: BTreeMap::new(),
            chooser: None,
            calls: Vec::new(),
        };
        Arc::new(Self { inner, state: Mutex::new(state), held: watch::channel(BTreeSet::new()).0 })
    }

    /// What becomes of the next calls of that kind, in order; `None` = nothing happens to it.
    pub fn script(
        &self,
        operation: Operation,
        faults: impl IntoIterator<Item = impl Into<Option<Fault>>>,
    ) {
        let mut state = self.state();
        let script = state.scripts.entry(operation).or_default();
        script.extend(faults.into_iter().map(Into::into));
    }

    /// Decides by key and change what becomes of each further patch that no script speaks of.
    pub fn on_patch(
        &self,
        chooser: impl FnMut(&Key, &Change<K>) -> Option<Fault> + Send + 'static,
    ) {
        self.state().chooser = Some(Box::new(chooser));
    }

    /// Every call of these kinds fails with `error` from now on; scripts come first.
    pub fn break_down(&self, operations: impl IntoIterator<Item = Operation>, error: &StoreError) {
        let mut state = self.state();
        for operation in operations {
            state.away.insert(operation, error.clone());
        }
    }

    /// Calls of that kind wait from now on, before anything is done, until [`Self::let_go`].
    pub fn hold(&self, operation: Operation) {
        self.held.send_modify(|held| {
            held.insert(operation);
        });
    }

    /// Calls of that kind wait no longer.
    pub fn let_go(&self, operation: Operation) {
        self.held.send_modify(|held| {
            held.remove(&operation);
        });
    }

    /// Nothing fails any more, whatever was scripted.
    pub fn mend(&self) {
        let mut state = self.state();
        state.scripts.clear();
        state.away.clear();
        state.chooser = None;
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The calls of one kind so far.
    pub fn calls_of(&self, operation: Operation) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.operation == operation).collect()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next fault for a call.
    fn next(&self, operation: Operation, patch: Option<(&Key, &Change<K>)>) -> Option<Fault> {
        let mut state = self.state();
        if let Some(scripted) = state.scripts.get_mut(&operation).and_then(VecDeque::pop_front) {
            return scripted;
        }
        if let (Some((key, change)), Some(chooser)) = (patch, state.chooser.as_mut())
            && let Some(fault) = chooser(key, change)
        {
            return Some(fault);
        }
        state.away.get(&operation).cloned().map(Fault::Fail)
    }

    async fn call<T: Send>(
        &self,
        call: Call,
        fault: Option<Fault>,
        inner: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut held = self.held.subscribe();
        // The sender lives as long as `self`, so waiting ends by the condition only.
        drop(held.wait_for(|held| !held.contains(&call.operation)).await);
        let answer = match fault {
            None => inner.await,
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::DoneThen(error)) => inner.await.and_then(|_| Err(error)),
        };
        let error = answer.as_ref().err().cloned();
        self.state().calls.push(Call { error, ..call });
        answer
    }
}

fn call(operation: Operation, name: &str) -> Call {
    Call { operation, name: name.to_owned(), patch: None, error: None }
}

#[async_trait]
impl<K: Kind> Store<K> for FaultyStore<K> {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        let fault = self.next(Operation::Get, None);
        self.call(call(Operation::Get, &key.name), fault, self.inner.get(key)).await
    }

    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError> {
        let fault = self.next(Operation::List, None);
        self.call(call(Operation::List, ""), fault, self.inner.list(query)).await
    }

    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError> {
        let fault = self.next(Operation::Create, None);
        let name = new.key.name.clone();
        self.call(call(Operation::Create, &name), fault, self.inner.create(new)).await
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let fault = self.next(Operation::Patch, Some((key, &change)));
        let revision = match &expect {
            Expect::Any => None,
            Expect::At(revision) => Some(revision),
        };
        let patch = Some(change.to_merge_patch(revision));
        let call = Call { patch, ..call(Operation::Patch, &key.name) };
        self.call(call, fault, self.inner.patch(key, change, expect)).await
    }

    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError> {
        let fault = self.next(Operation::Delete, None);
        let inner = self.inner.delete(key, uid, expect);
        self.call(call(Operation::Delete, &key.name), fault, inner).await
    }

    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        let fault = self.next(Operation::Watch, None);
        let error = match fault {
            None => None,
            Some(Fault::Fail(error) | Fault::DoneThen(error)) => Some(error),
        };
        self.state().calls.push(Call { error: error.clone(), ..call(Operation::Watch, "") });
        match error {
            Some(error) => stream::iter([Err(error)]).boxed(),
            None => self.inner.watch(query),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::model::fleet_node::{FleetNode, FleetNodeSpec};
    use crate::ports::store::Part;
    use crate::testkit::sim::SimClock;

    fn slots(slots: i32) -> Change<FleetNode> {
        Change::of(Part::Spec).set("slots", slots)
    }

    #[tokio::test]
    async fn faults_come_in_order_and_a_lost_answer_was_done() {
        let store = FaultyStore::<FleetNode>::new(MemoryStore::new(SimClock::new()));
        let key = Key::cluster("n");
        let spec = FleetNodeSpec { node_name: "n".into(), ..FleetNodeSpec::default() };
        store.create(NewObject::new(key.clone(), spec)).await.expect("created");
        let faults = [Some(Fault::uncertain()), None, Some(Fault::uncertain_but_done())];
        store.script(Operation::Patch, faults);
        let mut answers = Vec::new();
        for n in 1..5 {
            answers.push(store.patch(&key, slots(n), Expect::Any).await.map(|n| n.spec.slots));
        }
        let lost = || Err(StoreError::Uncertain { reason: "scripted".into() });
        assert_eq!(answers, [lost(), Ok(Some(2)), lost(), Ok(Some(4))]);
        let away = StoreError::Unavailable { reason: "down".into(), retry_after: None };
        store.break_down([Operation::Get], &away);
        assert_eq!(store.get(&key).await, Err(away));
        store.mend();
        assert_eq!(store.get(&key).await.expect("up").expect("there").spec.slots, Some(4));
        assert_eq!(store.calls_of(Operation::Patch).len(), 4);
    }

    #[tokio::test]
    async fn a_broken_watch_says_so_and_the_next_one_works() {
        let store = FaultyStore::<FleetNode>::new(MemoryStore::new(SimClock::new()));
        store.script(Operation::Watch, [Fault::unavailable()]);
        let first = store.watch(Query::all()).collect::<Vec<_>>().await;
        assert!(matches!(first.as_slice(), [Err(StoreError::Unavailable { .. })]), "{first:?}");
        assert_eq!(store.watch(Query::all()).next().await, Some(Ok(StoreEvent::SyncStart)));
    }
}
