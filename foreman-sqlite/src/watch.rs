//! One open watch.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use foreman_core::model::Kind;
use foreman_core::ports::watching::View;
use foreman_core::ports::{Clock, Query, StoreError, StoreEvent};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::hub::{Listener, Taken};
use crate::limits::RESYNC_PAUSE;
use crate::readers::Readers;
use crate::rows;

/// Events of a watch, or why there are none for now.
type Events<K> = Vec<Result<StoreEvent<K>, StoreError>>;

struct Watcher<K> {
    listener: Listener,
    readers: Arc<Readers>,
    clock: Arc<dyn Clock>,
    query: Query,
    /// What it has seen, and up to which revision; absent before the first reading.
    seen: Option<(View, i64)>,
    failed: bool,
    kind: PhantomData<K>,
}

/// The stream of a watch.
pub(crate) fn stream<K: Kind>(
    listener: Listener,
    readers: Arc<Readers>,
    clock: Arc<dyn Clock>,
    query: Query,
) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
    let kind = PhantomData::<K>;
    let watcher = Watcher { listener, readers, clock, query, seen: None, failed: false, kind };
    stream::unfold((watcher, VecDeque::new()), |(mut watcher, mut ready)| async move {
        while ready.is_empty() {
            ready.extend(watcher.next().await?);
        }
        ready.pop_front().map(|event| (event, (watcher, ready)))
    })
    .boxed()
}

impl<K: Kind> Watcher<K> {
    /// The next events, or `None` when the store is closed.
    async fn next(&mut self) -> Option<Events<K>> {
        loop {
            self.listener.changed.borrow_and_update();
            let Some((view, cursor)) = &mut self.seen else {
                return self.read_everything().await;
            };
            match self.listener.hub.take(*cursor, K::NAMES.kind) {
                Taken::Closed => return None,
                Taken::Behind => self.seen = None,
                Taken::Changes(entries, now) => {
                    // More may wait than was taken: look again before waiting.
                    let advanced = now > *cursor;
                    *cursor = now;
                    let events: Events<K> = entries
                        .iter()
                        .flat_map(|entry| view.change(&entry.key, entry.object.as_deref()))
                        .map(Ok)
                        .collect();
                    if !events.is_empty() {
                        return Some(events);
                    }
                    if !advanced {
                        // The hub outlives this watcher's listener, so the sender is there.
                        self.listener.changed.changed().await.ok()?;
                    }
                }
            }
        }
    }

    async fn read_everything(&mut self) -> Option<Events<K>> {
        if self.failed {
            self.clock.sleep(RESYNC_PAUSE).await;
        }
        if self.listener.hub.is_closed() {
            return None;
        }
        let query = self.query.clone();
        let read = self.readers.read(move |connection| {
            let revision = rows::last_revision(connection)?;
            let mut objects = Vec::new();
            rows::select(connection, K::NAMES.kind, &query, |key, json| {
                objects.push((key, rows::parse(&json)));
            })?;
            let mut view = View::new(query);
            let events = view.sync::<K>(objects.iter().map(|(key, object)| (key, object)));
            Ok((view, revision, events))
        });
        match read.await {
            Ok((view, revision, events)) => {
                self.failed = false;
                self.seen = Some((view, revision));
                Some(events.into_iter().map(Ok).collect())
            }
            Err(_) if self.listener.hub.is_closed() => None,
            Err(error) => {
                self.failed = true;
                Some(vec![Err(error)])
            }
        }
    }
}
