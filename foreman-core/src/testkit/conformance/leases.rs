//! The cases that every [`Leases`] must pass.

use std::sync::Arc;
use std::time::Duration;

use crate::model::ids::Revision;
use crate::model::time::WallTime;
use crate::ports::leases::{LeaseRecord, Leases};
use crate::ports::store::StoreError;

/// A record of `holder`, written at that second.
fn record(holder: Option<&str>, second: i64) -> LeaseRecord {
    let at = WallTime::from_unix_seconds(1_767_225_600 + second);
    LeaseRecord {
        holder: holder.map(str::to_owned),
        duration: Duration::from_secs(15),
        acquired: at,
        renewed: at,
        transitions: 3,
    }
}

/// What is written is read, whole, with the revision of the answer.
pub async fn what_is_written_is_read(leases: &dyn Leases) {
    assert_eq!(leases.read().await, Ok(None));
    let written = leases.write(record(Some("a"), 0), None).await.expect("created");
    assert_eq!(written.record, record(Some("a"), 0));
    assert_eq!(leases.read().await, Ok(Some(written.clone())));
    let given_back =
        leases.write(record(None, 3), Some(&written.revision)).await.expect("replaced");
    assert_eq!(given_back.record, record(None, 3));
    assert_eq!(leases.read().await, Ok(Some(given_back)));
}

/// Only the version that was read can be replaced.
pub async fn an_old_version_is_a_conflict(leases: &dyn Leases) {
    let first = leases.write(record(Some("a"), 0), None).await.expect("created");
    let second = leases.write(record(Some("a"), 3), Some(&first.revision)).await.expect("replaced");
    let late = leases.write(record(Some("b"), 4), Some(&first.revision)).await;
    assert_eq!(late, Err(StoreError::Conflict));
    assert_eq!(leases.read().await, Ok(Some(second)));
}

/// A record is made once, and one that is not there cannot be replaced.
pub async fn the_first_makes_it(leases: &dyn Leases) {
    let none = leases.write(record(Some("a"), 0), Some(&Revision::new("1"))).await;
    assert_eq!(none, Err(StoreError::NotFound));
    let made = leases.write(record(Some("a"), 0), None).await.expect("created");
    let again = leases.write(record(Some("b"), 1), None).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
    assert_eq!(leases.read().await, Ok(Some(made)));
}

/// Whoever watches a record sees that its holder is alive, though the record is equal.
pub async fn an_equal_record_is_a_new_version(leases: &dyn Leases) {
    let first = leases.write(record(Some("a"), 0), None).await.expect("created");
    let second = leases.write(record(Some("a"), 0), Some(&first.revision)).await.expect("replaced");
    assert_ne!(first.revision, second.revision);
}

/// Runs every case, each on a port of its own that holds no record.
pub async fn run_all<L: Leases>(make: impl AsyncFn() -> Arc<L>) {
    what_is_written_is_read(&*make().await).await;
    an_old_version_is_a_conflict(&*make().await).await;
    the_first_makes_it(&*make().await).await;
    an_equal_record_is_a_new_version(&*make().await).await;
}
