//! The lease record as one process reaches it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::FutureExt;

use super::net::{Actor, Net, Verb, unavailable};
use crate::memory::MemoryLeases;
use crate::model::ids::Revision;
use crate::ports::leases::{Lease, LeaseRecord, Leases};
use crate::ports::store::StoreError;

/// One lease record, over the wires of one process.
pub(crate) struct SimLeases {
    pub(crate) net: Arc<Net>,
    pub(crate) actor: Actor,
    pub(crate) record: Arc<MemoryLeases>,
}

#[async_trait]
impl Leases for SimLeases {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        let record = self.record.clone();
        let serve = move |_: &_| record.read().now_or_never().unwrap_or(Err(unavailable()));
        self.net.call(&self.actor, Verb::Get, || "lease".to_owned(), serve).await
    }

    async fn write(
        &self,
        record: LeaseRecord,
        expect: Option<&Revision>,
    ) -> Result<Lease, StoreError> {
        let about = format!("lease for {}", record.holder.as_deref().unwrap_or("nobody"));
        let (held, expect) = (self.record.clone(), expect.cloned());
        let (truth, process) = (self.net.truth.clone(), self.actor.process);
        let held_by = record.holder.is_some().then_some(process);
        let serve = move |_: &_| {
            let write = held.write(record, expect.as_ref()).now_or_never();
            let written = write.unwrap_or(Err(unavailable()));
            if written.is_ok() {
                truth.leads(held_by);
            }
            written
        };
        self.net.call(&self.actor, Verb::Patch, || about, serve).await
    }
}
