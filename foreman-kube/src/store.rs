//! The store: the port, on an API server.

use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::model::apiserver::uid_of;
use foreman_core::model::{Key, Kind, NewObject, Object, Uid};
use foreman_core::ports::store::Part;
use foreman_core::ports::{
    Change, Clock, Entropy, Expect, Listing, Query, Store, StoreError, StoreEvent,
};
use futures::stream::BoxStream;
use http::Method;
use kube::Config;
use serde_json::{Map, Value, json};

use crate::address;
use crate::answer::{Page, slim, typed};
use crate::call::{Call, ConnectError, Wire};
use crate::failure::Failure;
use crate::limits::{
    LIST_TRIES_MAX, Limits, OBJECT_ANSWER_BYTES_MAX, PAGE_ANSWER_BYTES_MAX, PAGE_OBJECTS, RACES_MAX,
};
use crate::watch;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Objects of every kind on a Kubernetes API server.
///
/// A read is linearizable. A write that had no answer is [`StoreError::Uncertain`], one that never
/// left us, or that the server was too busy to take, is [`StoreError::Unavailable`]. An
/// [`StoreError::Unreadable`] answer to a write means that it was done and that the object does not
/// fit its kind all the same.
pub struct KubeStore {
    wire: Arc<Wire>,
}

impl std::fmt::Debug for KubeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeStore").field("limits", &self.wire.limits).finish_non_exhaustive()
    }
}

impl KubeStore {
    /// The store of the cluster that `config` names, with connections of its own, which are made when
    /// they are needed. `clock` bounds its calls, `entropy` spreads its tries. Call it inside the
    /// tokio runtime that shall do its work.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
    ) -> Result<Arc<Self>, ConnectError> {
        Ok(Arc::new(Self { wire: Wire::new(config, clock, entropy, limits)? }))
    }
}

impl Wire {
    /// One page of what the server has for a query; it may hold more than the query asks for.
    pub(crate) async fn page<K: Kind>(
        &self,
        query: &Query,
        next: Option<&str>,
    ) -> Result<Page, Failure> {
        let mut parameters = address::selectors::<K>(query);
        parameters.push(("limit", PAGE_OBJECTS.to_string()));
        if let Some(next) = next {
            parameters.push(("continue", next.to_owned()));
        }
        let path = address::collection::<K>(query.namespace.as_deref());
        let call = Call::get(address::with(&path, &parameters), PAGE_ANSWER_BYTES_MAX);
        self.ask(&call).await.map(Page::of)
    }

    async fn list_once<K: Kind>(&self, query: &Query) -> Result<Listing<K>, Failure> {
        let mut page = self.page::<K>(query, None).await?;
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            for (key, object) in page.objects {
                if !query.matches(&object) {
                    continue;
                }
                match Object::read_under(&key, &object) {
                    Ok(object) => objects.push(object),
                    Err(reason) => unreadable.push((key, reason)),
                }
            }
            let Some(next) = page.next else { break };
            page = self.page::<K>(query, Some(&next)).await?;
        }
        // The server sorts by its own paths, where a namespace ends with a slash.
        objects.sort_by_cached_key(Object::key);
        unreadable.sort();
        Ok(Listing { objects, unreadable, revision: page.revision })
    }

    /// A write; the answer's JSON.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        media_type: &'static str,
        body: Value,
    ) -> Result<Value, Failure> {
        // The server gives up when we do: it never writes what nobody waits for any more.
        let seconds = self.limits.write.as_secs().max(1);
        let parameters =
            [("timeout", format!("{seconds}s")), ("fieldManager", "foreman".to_owned())];
        let call = Call {
            method,
            address: address::with(path, &parameters),
            body: Some((media_type, body)),
            answer_bytes_max: OBJECT_ANSWER_BYTES_MAX,
        };
        self.ask(&call).await
    }

    /// A merge patch. Without an expected revision, races that the server itself lost are tried
    /// again.
    pub(crate) async fn merge(
        &self,
        path: &str,
        change: Value,
        any: bool,
    ) -> Result<Value, StoreError> {
        let bytes = change.to_string().len();
        let mut races = 1;
        loop {
            let merged = self.write(Method::PATCH, path, MERGE_PATCH, change.clone()).await;
            let error = match merged {
                Ok(object) => return Ok(object),
                Err(failure) => failure.of_write(bytes),
            };
            if !any || error != StoreError::Conflict {
                return Err(error);
            }
            if races == RACES_MAX {
                let reason = "others write the object all the time".to_owned();
                return Err(StoreError::Unavailable { reason, retry_after: None });
            }
            races += 1;
        }
    }

    pub(crate) async fn create(
        &self,
        collection: &str,
        object: Value,
    ) -> Result<Value, StoreError> {
        let bytes = object.to_string().len();
        let created = self.write(Method::POST, collection, JSON, object).await;
        created.map_err(|failure| failure.of_write(bytes))
    }
}

#[async_trait]
impl<K: Kind> Store<K> for KubeStore {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        let Some(path) = address::object::<K>(key) else { return Ok(None) };
        match self.wire.ask(&Call::get(path, OBJECT_ANSWER_BYTES_MAX)).await {
            Ok(object) => typed(key, object).map(Some),
            Err(failure) if failure.is_absence() => Ok(None),
            Err(failure) => Err(failure.of_read()),
        }
    }

    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError> {
        let mut tries = 1;
        loop {
            match self.wire.list_once(query).await {
                Ok(listing) => return Ok(listing),
                Err(failure) if failure.is_expired() && tries < LIST_TRIES_MAX => tries += 1,
                Err(failure) => return Err(failure.of_read()),
            }
        }
    }

    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError> {
        if !address::has_scope_of::<K>(&new.key) {
            let rule = match &new.key.namespace {
                Some(_) => "must be absent: the kind has no namespaces",
                None => "is required",
            };
            let field = "metadata.namespace".to_owned();
            return Err(StoreError::Invalid { field, rule: rule.to_owned() });
        }
        let collection = address::collection::<K>(new.key.namespace.as_deref());
        match self.wire.create(&collection, new.to_json()).await {
            Ok(object) => typed(&new.key, object),
            Err(StoreError::AlreadyExists { .. }) => {
                Err(StoreError::AlreadyExists { uid: self.uid_under::<K>(&new.key).await })
            }
            // What is absent under a collection is its namespace.
            Err(StoreError::NotFound) => Err(StoreError::Invalid {
                field: "metadata.namespace".to_owned(),
                rule: format!(
                    "there is no namespace {}; create it first",
                    new.key.namespace.as_deref().unwrap_or_default()
                ),
            }),
            Err(error) => Err(error),
        }
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let Some(mut path) = address::object::<K>(key) else { return Err(StoreError::NotFound) };
        if change.part() == Part::Status {
            path.push_str("/status");
        }
        let (change, any) = match &expect {
            Expect::Any => (change.to_merge_patch(None), true),
            Expect::At(revision) => (change.to_merge_patch(Some(revision)), false),
        };
        match self.wire.merge(&path, change, any).await {
            Ok(object) => typed(key, object),
            Err(StoreError::TooLarge { bytes, max }) => {
                let bytes = bytes + self.bytes_under::<K>(key).await;
                Err(StoreError::TooLarge { bytes, max })
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError> {
        let Some(path) = address::object::<K>(key) else { return Err(StoreError::NotFound) };
        let mut preconditions = Map::new();
        preconditions.insert("uid".to_owned(), json!(uid));
        if let Expect::At(revision) = &expect {
            preconditions.insert("resourceVersion".to_owned(), json!(revision));
        }
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": preconditions, "propagationPolicy": "Background",
        });
        let deleted = self.wire.write(Method::DELETE, &path, JSON, body).await;
        deleted.map(drop).map_err(|failure| failure.of_write(0))
    }

    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        watch::stream(self.wire.clone(), query)
    }
}

impl KubeStore {
    /// The raw object under a key, where it can be had.
    async fn under<K: Kind>(&self, key: &Key) -> Option<Value> {
        let path = address::object::<K>(key)?;
        let mut object = self.wire.ask(&Call::get(path, OBJECT_ANSWER_BYTES_MAX)).await.ok()?;
        slim(&mut object);
        Some(object)
    }

    /// Whose a name is; absent when it is nobody's any more, or cannot be asked.
    async fn uid_under<K: Kind>(&self, key: &Key) -> Option<Uid> {
        self.under::<K>(key).await.as_ref().map(uid_of)
    }

    /// How large the object under a key is, in bytes of JSON.
    async fn bytes_under<K: Kind>(&self, key: &Key) -> usize {
        self.under::<K>(key).await.map_or(0, |object| object.to_string().len())
    }
}
