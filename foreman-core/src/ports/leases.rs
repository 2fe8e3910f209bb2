//! The record by which one of several control loops leads.

use std::time::Duration;

use async_trait::async_trait;

use super::store::StoreError;
use crate::model::ids::Revision;
use crate::model::time::WallTime;

/// Who leads, in the form that Kubernetes' own controllers use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; absent (or empty on the wire) = it was given back.
    pub holder: Option<String>,
    /// How long everybody else leaves the record alone after it changed; whole seconds.
    pub duration: Duration,
    /// When this holder got it, for people.
    pub acquired: WallTime,
    /// When it was last renewed, for people: nobody decides by it.
    pub renewed: WallTime,
    /// How often the holder changed.
    pub transitions: u32,
}

/// A record as it was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it says.
    pub record: LeaseRecord,
    /// Which version of it.
    pub revision: Revision,
}

/// Holds one lease record.
#[async_trait]
pub trait Leases: Send + Sync {
    /// The record as it is now (linearizable); absent when there never was one.
    ///
    /// # Errors
    /// It could not be read.
    async fn read(&self) -> Result<Option<Lease>, StoreError>;

    /// Puts `record` in the place of the version `expect`; `None` = there must be none yet. Every
    /// write makes a new revision, even of an equal record.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another version is there, [`StoreError::NotFound`] when none
    /// is, [`StoreError::AlreadyExists`] when one is where none should be;
    /// [`StoreError::Uncertain`] when no answer came.
    async fn write(
        &self,
        record: LeaseRecord,
        expect: Option<&Revision>,
    ) -> Result<Lease, StoreError>;
}
