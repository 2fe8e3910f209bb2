//! Giving back the disk that journals of ended tasks take.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use super::JournalError;
use super::store::{JournalKey, JournalStore, JournalSummary, blocking, io, parent_in};
use crate::limits::{JOURNAL_KEEP_BYTES, JOURNAL_KEEP_SECONDS, JOURNAL_RECORD_BYTES_MAX};

/// What a reap removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Uids whose journals are gone.
    pub uids: Vec<String>,
    /// Bytes given back.
    pub bytes: u64,
}

impl JournalStore {
    /// Removes the journals of tasks that are not in `live` and were not written for 7 days; then the
    /// oldest of the others, until all that are not live take at most 5 GiB. A journal that a live one
    /// goes on with counts as live.
    ///
    /// # Errors
    /// The disk.
    pub async fn reap(
        &self,
        live: BTreeSet<String>,
        now: SystemTime,
    ) -> Result<Reaped, JournalError> {
        let this = self.clone();
        blocking(move || {
            this.reap_now(live, now, Duration::from_secs(JOURNAL_KEEP_SECONDS), JOURNAL_KEEP_BYTES)
        })
        .await
    }

    pub(super) fn reap_now(
        &self,
        mut live: BTreeSet<String>,
        now: SystemTime,
        keep: Duration,
        bytes_max: u64,
    ) -> Result<Reaped, JournalError> {
        let all = self.list_now()?;
        self.protect_parents(&all, &mut live);
        let mut tasks: BTreeMap<&str, (SystemTime, u64)> = BTreeMap::new();
        for one in all.iter().filter(|one| !live.contains(one.key.uid())) {
            let task = tasks.entry(one.key.uid()).or_insert((one.modified, 0));
            task.0 = task.0.max(one.modified);
            task.1 += one.bytes;
        }
        let mut by_age: Vec<(&str, SystemTime, u64)> =
            tasks.into_iter().map(|(uid, (at, bytes))| (uid, at, bytes)).collect();
        by_age.sort_by_key(|(uid, at, _)| (*at, *uid));
        let mut total: u64 = by_age.iter().map(|(_, _, bytes)| bytes).sum();
        let mut reaped = Reaped::default();
        for (uid, modified, bytes) in by_age {
            let old = now.duration_since(modified).is_ok_and(|age| age > keep);
            if !old && total <= bytes_max {
                break;
            }
            let dir = self.dir.join(uid);
            fs::remove_dir_all(&dir).map_err(|e| io("remove", &dir, &e))?;
            total -= bytes;
            reaped.bytes += bytes;
            reaped.uids.push(uid.to_owned());
        }
        Ok(reaped)
    }

    fn protect_parents(&self, all: &[JournalSummary], live: &mut BTreeSet<String>) {
        loop {
            let parents: Vec<String> = all
                .iter()
                .filter(|one| live.contains(one.key.uid()))
                .filter_map(|one| self.parent_uid(&one.key))
                .filter(|uid| !live.contains(uid))
                .collect();
            if parents.is_empty() {
                return;
            }
            live.extend(parents);
        }
    }

    fn parent_uid(&self, key: &JournalKey) -> Option<String> {
        let (records, _) = self.read_file(key, JOURNAL_RECORD_BYTES_MAX as u64 + 8).ok()?;
        parent_in(&records).map(|parent| parent.uid.clone())
    }
}
