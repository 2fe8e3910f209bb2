//! The store as one process reaches it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::FutureExt;
use futures::stream::{BoxStream, StreamExt};

use super::net::{Actor, Net, Verb};
use super::watching::Watch;
use crate::memory::MemoryStore;
use crate::model::ids::{Key, Uid};
use crate::model::{Kind, NewObject, Object};
use crate::ports::store::{Change, Expect, Listing, Query, Store, StoreError, StoreEvent};

/// Every kind's store, over the wires of one process.
#[derive(Clone)]
pub(crate) struct SimStore {
    pub(crate) net: Arc<Net>,
    pub(crate) actor: Actor,
}

/// The in-memory store answers at once.
fn at_once<T>(answer: Option<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.unwrap_or_else(|| {
        let reason = "the store in memory did not answer at once".to_owned();
        Err(StoreError::Denied { reason })
    })
}

fn named<K: Kind>(key: &Key) -> String {
    format!("{} {key}", K::NAMES.alias)
}

#[async_trait]
impl<K: Kind> Store<K> for SimStore {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        let wanted = key.clone();
        let serve =
            move |store: &MemoryStore| at_once(Store::<K>::get(store, &wanted).now_or_never());
        self.net.call(&self.actor, Verb::Get, || named::<K>(key), serve).await
    }

    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError> {
        let wanted = query.clone();
        let serve =
            move |store: &MemoryStore| at_once(Store::<K>::list(store, &wanted).now_or_never());
        self.net.call(&self.actor, Verb::List, || K::NAMES.plural.to_owned(), serve).await
    }

    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError> {
        let about = named::<K>(&new.key);
        let serve =
            move |store: &MemoryStore| at_once(Store::<K>::create(store, new).now_or_never());
        self.net.call(&self.actor, Verb::Create, || about, serve).await
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let about = || {
            let patch = change.to_merge_patch(None);
            let at = match &expect {
                Expect::Any => String::new(),
                Expect::At(revision) => format!(" at {revision}"),
            };
            format!("{}{at} {}", named::<K>(key), brief(&patch))
        };
        let about = self.net.trace.keeps().then(about);
        let wanted = key.clone();
        let serve = move |store: &MemoryStore| {
            at_once(Store::<K>::patch(store, &wanted, change, expect).now_or_never())
        };
        self.net.call(&self.actor, Verb::Patch, || about.unwrap_or_default(), serve).await
    }

    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError> {
        let (wanted, uid) = (key.clone(), uid.clone());
        let serve = move |store: &MemoryStore| {
            at_once(Store::<K>::delete(store, &wanted, &uid, expect).now_or_never())
        };
        self.net.call(&self.actor, Verb::Delete, || named::<K>(key), serve).await
    }

    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        Watch::open(&self.net, self.actor.machine, query).boxed()
    }
}

/// A patch in a line: short values are shown, long ones named.
fn brief(patch: &serde_json::Value) -> String {
    let Some(parts) = patch.as_object() else { return String::new() };
    let mut words = Vec::new();
    for (part, fields) in parts {
        for (name, value) in fields.as_object().into_iter().flatten() {
            let text = value.to_string();
            if text.len() <= 60 {
                words.push(format!("{part}.{name}={text}"));
            } else {
                words.push(format!("{part}.{name}"));
            }
        }
    }
    words.join(" ")
}
