//! The store: its handle, its threads, and the port.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use foreman_core::model::apiserver::{self, Patched};
use foreman_core::model::{Key, Kind, NewObject, Object, Revision, Uid};
use foreman_core::ports::{
    Change, Clock, Entropy, Expect, Listing, Query, Store, StoreError, StoreEvent,
};
use futures::stream::BoxStream;
use serde_json::Value;

use crate::failure::{Failure, Site};
use crate::hub::Hub;
use crate::limits::{READER_THREADS, Tuning};
use crate::open::{self, OpenError};
use crate::readers::{self, Readers};
use crate::rows::{self, Stored, Tx};
use crate::watch;
use crate::writer::{Statistics, Writer};

/// Objects of every kind in one `SQLite` file.
///
/// Any number of processes may have the file open at once. What a write acknowledged is on the disk.
/// Dropping the last handle writes what still waits, ends every watch and joins the threads: at most
/// the time of one transaction.
pub struct SqliteStore {
    /// Absent only while the store is dropped.
    writer: Option<Writer>,
    pub(crate) readers: Arc<Readers>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store in the file `path`, which is made if absent (mode 0600, a new directory 0700)
    /// and taken to this program's version if older, after a copy `<path>.v<N>.backup` was made.
    /// `clock` dates what is created, `entropy` makes the uids. Blocks for the time of a few small
    /// reads and fsyncs, or of the migration.
    pub fn open(
        path: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_tuned(path.as_ref(), clock, entropy, Tuning::default())
    }

    pub(crate) fn open_tuned(
        path: &Path,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        tuning: Tuning,
    ) -> Result<Arc<Self>, OpenError> {
        let connection = open::writer(path, tuning)?;
        let head = rows::last_revision(&connection)
            .map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
        let connections =
            (0..READER_THREADS).map(|_| open::reader(path)).collect::<Result<Vec<_>, _>>()?;
        let site = Site::new(path);
        let hub = Hub::new(head, tuning.log_entries_max);
        let (writer, body) =
            Writer::new(connection, clock.clone(), hub.clone(), site.clone(), tuning);
        let (readers, inbox) = Readers::new(site);
        // From here on a drop ends whatever was started.
        let store = Arc::new(Self {
            writer: Some(writer),
            readers,
            hub,
            clock,
            entropy,
            threads: Mutex::default(),
        });
        store.spawn(path, "sqlite-writer", move || body.run())?;
        for connection in connections {
            let inbox = inbox.clone();
            store.spawn(path, "sqlite-reader", move || {
                readers::run(&inbox, &connection);
            })?;
        }
        Ok(store)
    }

    fn spawn(
        &self,
        path: &Path,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), OpenError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|source| OpenError::Thread { path: path.to_owned(), source })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        match &self.writer {
            Some(writer) => writer.write(work).await,
            // Only `drop` takes the writer, and nobody can call then.
            None => Err(StoreError::Unavailable {
                reason: "the store is closed".to_owned(),
                retry_after: None,
            }),
        }
    }

    /// How much the writer did, and in how many transactions.
    pub fn statistics(&self) -> Statistics {
        let nothing = Statistics { transactions: 0, changes: 0 };
        self.writer.as_ref().map_or(nothing, Writer::statistics)
    }

    /// What SQLite's own check of the whole file finds wrong; empty when it is sound. Reads the file
    /// once: some seconds a gigabyte.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        self.readers
            .read(|connection| {
                let mut check = connection.prepare("PRAGMA integrity_check")?;
                let lines = check.query_map([], |row| row.get::<_, String>(0))?;
                let lines: Vec<String> = lines.collect::<rusqlite::Result<_>>()?;
                Ok(lines.into_iter().filter(|line| line != "ok").collect())
            })
            .await
    }

    /// Puts raw JSON under a key, unchecked, as another version might have written it.
    #[cfg(feature = "testkit")]
    pub async fn put_raw(
        &self,
        kind: &'static str,
        key: &Key,
        object: Value,
    ) -> Result<(), StoreError> {
        let key = key.clone();
        self.write(move |tx| {
            match tx.find(kind, &key)? {
                Some(stored) => {
                    tx.update(kind, &key, &stored, &rows::parse(&stored.json), object)?;
                }
                None => {
                    tx.insert(kind, &key, object)?;
                }
            }
            Ok(())
        })
        .await
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.readers.close();
        drop(self.writer.take());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        // A writer that panicked did not do this itself.
        self.hub.close();
    }
}

fn typed<K: Kind>(key: &Key, object: &Value) -> Result<Object<K>, StoreError> {
    Object::read_under(key, object).map_err(|reason| StoreError::Unreadable { reason })
}

fn read<K: Kind>(key: &Key, json: &str) -> Result<Object<K>, String> {
    let object: Object<K> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    object.held_under(key)
}

fn current(tx: &Tx<'_>, kind: &'static str, key: &Key, expect: &Expect) -> Result<Stored, Failure> {
    let stored = tx.find(kind, key)?.ok_or(StoreError::NotFound)?;
    match expect {
        Expect::At(revision) if revision.as_str() != stored.revision.to_string() => {
            Err(StoreError::Conflict.into())
        }
        Expect::At(_) | Expect::Any => Ok(stored),
    }
}

#[async_trait]
impl<K: Kind> Store<K> for SqliteStore {
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError> {
        let wanted = key.clone();
        let json = self
            .readers
            .read(move |connection| rows::find_json(connection, K::NAMES.kind, &wanted))
            .await?;
        json.map(|json| read(key, &json))
            .transpose()
            .map_err(|reason| StoreError::Unreadable { reason })
    }

    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError> {
        let query = query.clone();
        self.readers
            .read(move |connection| {
                let revision = Revision::new(rows::last_revision(connection)?.to_string());
                let mut listing = Listing { objects: Vec::new(), unreadable: Vec::new(), revision };
                rows::select(connection, K::NAMES.kind, &query, |key, json| {
                    match read(&key, &json) {
                        Ok(object) => listing.objects.push(object),
                        Err(reason) => listing.unreadable.push((key, reason)),
                    }
                })?;
                Ok(listing)
            })
            .await
    }

    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError> {
        let uid = Uid::new(self.entropy.uuid());
        let key = new.key.clone();
        let created = self.write(move |tx| {
            if let Some(there) = tx.find(K::NAMES.kind, &new.key)? {
                return Err(StoreError::AlreadyExists { uid: Some(there.uid) }.into());
            }
            let object = apiserver::create(&new, &uid, tx.now())?;
            Ok(tx.insert(K::NAMES.kind, &new.key, object)?)
        });
        typed(&key, &*created.await?)
    }

    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError> {
        let (key, own) = (key.clone(), key);
        let patched = self.write(move |tx| {
            let stored = current(tx, K::NAMES.kind, &key, &expect)?;
            let before: Value = serde_json::from_str(&stored.json)
                .map_err(|error| StoreError::Unreadable { reason: error.to_string() })?;
            match apiserver::patch(&before, &change)? {
                Patched::Same => Ok(Arc::new(before)),
                Patched::Changed(object) => {
                    // An answer that is an error must mean that nothing was written.
                    typed::<K>(&key, &object)?;
                    Ok(tx.update(K::NAMES.kind, &key, &stored, &before, object)?)
                }
            }
        });
        typed(own, &*patched.await?)
    }

    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError> {
        let (key, uid) = (key.clone(), uid.clone());
        self.write(move |tx| {
            let stored = current(tx, K::NAMES.kind, &key, &expect)?;
            if stored.uid != uid {
                return Err(StoreError::Conflict.into());
            }
            Ok(tx.delete(K::NAMES.kind, &key, &stored)?)
        })
        .await
    }

    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
        let listener = self.hub.listen();
        if let Some(writer) = &self.writer {
            writer.wake();
        }
        watch::stream(listener, self.readers.clone(), self.clock.clone(), query)
    }
}
