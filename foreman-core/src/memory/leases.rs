//! A lease record in memory.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::model::ids::Revision;
use crate::ports::leases::{Lease, LeaseRecord, Leases};
use crate::ports::store::StoreError;

/// Holds one lease record for the control loops of one process or test.
#[derive(Debug, Default)]
pub struct MemoryLeases(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    writes: u64,
    lease: Option<Lease>,
}

impl MemoryLeases {
    /// No record yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }
}

#[async_trait]
impl Leases for MemoryLeases {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).lease.clone())
    }

    async fn write(
        &self,
        record: LeaseRecord,
        expect: Option<&Revision>,
    ) -> Result<Lease, StoreError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&held.lease, expect) {
            (None, None) => {}
            (Some(lease), Some(revision)) if lease.revision == *revision => {}
            (Some(_), Some(_)) => return Err(StoreError::Conflict),
            (None, Some(_)) => return Err(StoreError::NotFound),
            (Some(_), None) => return Err(StoreError::AlreadyExists { uid: None }),
        }
        held.writes += 1;
        let lease = Lease { record, revision: Revision::new(held.writes.to_string()) };
        held.lease = Some(lease.clone());
        Ok(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_a_lease_port() {
        crate::testkit::conformance::leases::run_all(async || MemoryLeases::new()).await;
    }
}
