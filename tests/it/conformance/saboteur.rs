//! The suite itself is tested: a store with one fault must fail at least one case.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::memory::MemoryStore;
use foreman_core::model::{Key, Kind, NewObject, Object, Uid};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Listing, Query, Store, StoreError, StoreEvent, Stores};
use foreman_core::testkit::conformance::{CASES, Subject};
use foreman_core::testkit::sim::SimClock;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A compare-and-swap is none.
    AtIsAny,
    /// A patch without a difference is written.
    EmptyPatchWrites,
    /// A taken name is taken over.
    CreateReplaces,
    /// It does not say whose a taken name is.
    CreateHidesTheOwner,
    /// A delete takes whatever has the name.
    DeleteIgnoresTheUid,
    /// A list holds other namespaces too.
    ListIgnoresTheQuery,
    /// A list lacks its last object.
    ListIsCut,
    /// A watcher does not hear what leaves.
    NoGone,
    /// A watch does not say when its first reading is complete.
    NoSyncEnd,
    /// A watch holds other namespaces too.
    WatchIgnoresTheQuery,
    /// An absent object is an error.
    AbsentIsAnError,
    /// A refused write is taken for done.
    InvalidIsFine,
}

const FAULTS: [Fault; 12] = [
    Fault::AtIsAny,
    Fault::EmptyPatchWrites,
    Fault::CreateReplaces,
    Fault::CreateHidesTheOwner,
    Fault::DeleteIgnoresTheUid,
    Fault::ListIgnoresTheQuery,
    Fault::ListIsCut,
    Fault::NoGone,
    Fault::NoSyncEnd,
    Fault::WatchIgnoresTheQuery,
    Fault::AbsentIsAnError,
    Fault::InvalidIsFine,
];

/// How long a case may wait for an event that a faulty watch never sends.
const STUCK: Duration = Duration::from_secs(2);
/// Cases that take seconds and show nothing here that others do not.
const SLOW: [&str; 2] = ["ten_thousand_objects", "a_watcher_that_is_behind_ends_up_right"];

struct Faulty {
    store: Arc<MemoryStore>,
    fault: Fault,
}

impl Faulty {
    fn query(&self, fault: Fault, query: &Query) -> Query {
        if self.fault == fault { Query::all() } else { query.clone() }
    }
}

#[async_trait]
impl<K: Kind> Store<K> for Faulty {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        match self.store.get(key).await {
            Ok(None) if self.fault == Fault::AbsentIsAnError => Err(StoreError::NotFound),
            other => other,
        }
    }

    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError> {
        let query = self.query(Fault::ListIgnoresTheQuery, query);
        let mut listing = Store::<K>::list(&*self.store, &query).await?;
        if self.fault == Fault::ListIsCut {
            listing.objects.pop();
        }
        Ok(listing)
    }

    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError> {
        let there = Store::<K>::get(&*self.store, &new.key).await?;
        match (self.store.create(new.clone()).await, there) {
            (Err(StoreError::AlreadyExists { .. }), _)
                if self.fault == Fault::CreateHidesTheOwner =>
            {
                Err(StoreError::AlreadyExists { uid: None })
            }
            (Err(StoreError::AlreadyExists { .. }), Some(old))
                if self.fault == Fault::CreateReplaces =>
            {
                Store::<K>::delete(&*self.store, &new.key, old.uid(), Expect::Any).await?;
                self.store.create(new).await
            }
            (answer, _) => answer,
        }
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let expect = if self.fault == Fault::AtIsAny { Expect::Any } else { expect };
        let before = Store::<K>::get(&*self.store, key).await.unwrap_or_default();
        let after = self.store.patch(key, change, expect).await;
        match (after, before) {
            (Ok(same), Some(old))
                if self.fault == Fault::EmptyPatchWrites && same.revision() == old.revision() =>
            {
                let touch = Change::of(Part::Meta)
                    .annotations([("touched", Some(same.revision().to_string()))]);
                self.store.patch(key, touch, Expect::Any).await
            }
            (Err(StoreError::Invalid { .. }), Some(old)) if self.fault == Fault::InvalidIsFine => {
                Ok(old)
            }
            (answer, _) => answer,
        }
    }

    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError> {
        let there = Store::<K>::get(&*self.store, key).await.unwrap_or_default();
        let any = there.filter(|_| self.fault == Fault::DeleteIgnoresTheUid);
        let uid = any.map_or_else(|| uid.clone(), |object| object.uid().clone());
        Store::<K>::delete(&*self.store, key, &uid, expect).await
    }

    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        let query = self.query(Fault::WatchIgnoresTheQuery, &query);
        let fault = self.fault;
        self.store
            .watch(query)
            .filter(move |event| {
                let dropped = match event {
                    Ok(StoreEvent::Gone { .. }) => fault == Fault::NoGone,
                    Ok(StoreEvent::SyncEnd) => fault == Fault::NoSyncEnd,
                    Ok(_) | Err(_) => false,
                };
                std::future::ready(!dropped)
            })
            .boxed()
    }
}

struct Sabotaged(Arc<Faulty>);

impl Subject for Sabotaged {
    fn stores(&self) -> Stores {
        Stores::of(&self.0)
    }
}

/// The first case that a store with this fault fails.
async fn first_failed(fault: Fault) -> Option<&'static str> {
    for case in CASES.iter().filter(|case| !SLOW.contains(&case.name)) {
        let store = MemoryStore::new(SimClock::new());
        let subject = Sabotaged(Arc::new(Faulty { store, fault }));
        let run = AssertUnwindSafe((case.run)(&subject)).catch_unwind();
        if !matches!(tokio::time::timeout(STUCK, run).await, Ok(Ok(()))) {
            return Some(case.name);
        }
    }
    None
}

#[tokio::test]
async fn every_fault_fails_a_case() {
    for fault in FAULTS {
        let failed = first_failed(fault).await;
        assert!(failed.is_some(), "no case sees that {fault:?}");
    }
}
