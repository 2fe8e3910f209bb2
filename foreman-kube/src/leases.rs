//! The record by which one of several control loops leads, in the form of client-go's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::model::ids::Revision;
use foreman_core::model::time::WallTime;
use foreman_core::ports::leases::{Lease, LeaseRecord, Leases};
use foreman_core::ports::{Clock, Entropy, StoreError};
use kube::Config;
use serde_json::{Value, json};

use crate::address;
use crate::call::{Call, ConnectError, Wire};
use crate::limits::{Limits, OBJECT_ANSWER_BYTES_MAX};

/// Where leases are.
const API: &str = "/apis/coordination.k8s.io/v1/namespaces";
/// Different in every write: one that says nothing new is still a sign of life, and an API server
/// keeps the revision of an object that did not change.
const WRITE: &str = "foreman.llmkube.dev/write";

/// One `Lease` of the group coordination.k8s.io.
///
/// A Go operator that uses the same name never leads beside ours: both read and write client-go's
/// form, in which an empty holder means that the lease was given back.
pub struct KubeLeases {
    wire: Arc<Wire>,
    entropy: Arc<dyn Entropy>,
    collection: String,
    name: String,
}

impl std::fmt::Debug for KubeLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { collection, name, .. } = self;
        f.debug_struct("KubeLeases")
            .field("collection", collection)
            .field("name", name)
            .finish_non_exhaustive()
    }
}

impl KubeLeases {
    /// The lease `name` of `namespace`, over connections of its own. Call it inside the tokio runtime
    /// that shall do its work.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Self>, ConnectError> {
        let wire = Wire::new(config, clock, entropy.clone(), limits)?;
        let collection = format!("{API}/{}/leases", address::escaped(namespace));
        Ok(Arc::new(Self { wire, entropy, collection, name: name.to_owned() }))
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection, address::escaped(&self.name))
    }

    /// The lease as a patch, or whole, says it.
    fn written(&self, record: &LeaseRecord, revision: Option<&Revision>) -> Value {
        let write = format!("{:016x}", self.entropy.next_u64());
        let mut lease = json!({
            "metadata": {"annotations": {WRITE: write}},
            "spec": {
                "holderIdentity": record.holder.as_deref().unwrap_or_default(),
                "leaseDurationSeconds": record.duration.as_secs(),
                "acquireTime": micro(record.acquired),
                "renewTime": micro(record.renewed),
                "leaseTransitions": record.transitions,
            },
        });
        if let Some(meta) = lease.get_mut("metadata").and_then(Value::as_object_mut) {
            match revision {
                Some(revision) => meta.insert("resourceVersion".to_owned(), json!(revision)),
                None => meta.insert("name".to_owned(), json!(self.name)),
            };
        }
        lease
    }
}

#[async_trait]
impl Leases for KubeLeases {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        match self.wire.ask(&Call::get(self.path(), OBJECT_ANSWER_BYTES_MAX)).await {
            Ok(object) => Ok(Some(read(&object))),
            Err(failure) if failure.is_absence() => Ok(None),
            Err(failure) => Err(failure.of_read()),
        }
    }

    async fn write(
        &self,
        record: LeaseRecord,
        expect: Option<&Revision>,
    ) -> Result<Lease, StoreError> {
        let lease = self.written(&record, expect);
        let written = match expect {
            Some(_) => self.wire.merge(&self.path(), lease, false).await?,
            None => self.wire.create(&self.collection, lease).await?,
        };
        Ok(read(&written))
    }
}

/// The record of a lease's JSON, whoever wrote it.
fn read(object: &Value) -> Lease {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let number =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let time = |pointer: &str| {
        let parsed = text(pointer).and_then(|text| text.parse::<WallTime>().ok());
        parsed.unwrap_or_else(|| WallTime::from_unix_seconds(0))
    };
    let record = LeaseRecord {
        holder: text("/spec/holderIdentity").filter(|holder| !holder.is_empty()).map(str::to_owned),
        duration: Duration::from_secs(number("/spec/leaseDurationSeconds")),
        acquired: time("/spec/acquireTime"),
        renewed: time("/spec/renewTime"),
        transitions: u32::try_from(number("/spec/leaseTransitions")).unwrap_or(u32::MAX),
    };
    let revision = Revision::new(text("/metadata/resourceVersion").unwrap_or_default());
    Lease { record, revision }
}

/// A time with the six digits that a lease wants.
fn micro(time: WallTime) -> String {
    let text = time.to_string();
    text.strip_suffix('Z').map_or_else(|| text.clone(), |seconds| format!("{seconds}.000000Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits() {
        assert_eq!(
            micro(WallTime::from_unix_seconds(1_767_225_600)),
            "2026-01-01T00:00:00.000000Z"
        );
    }

    #[test]
    fn a_lease_of_client_go_is_read() {
        let lease = read(&json!({
            "metadata": {"resourceVersion": "12"},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 15, "leaseTransitions": 2,
                     "acquireTime": "2026-01-01T00:00:00.123456Z",
                     "renewTime": "2026-01-01T00:00:09.999999Z"},
        }));
        let at = |seconds: i64| WallTime::from_unix_seconds(1_767_225_600 + seconds);
        let record = LeaseRecord {
            holder: None,
            duration: Duration::from_secs(15),
            acquired: at(0),
            renewed: at(9),
            transitions: 2,
        };
        assert_eq!(lease, Lease { record, revision: Revision::new("12") });
    }
}
