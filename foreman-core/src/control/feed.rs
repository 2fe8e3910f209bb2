//! A watch that never ends: opened again, after a pause, whenever it breaks.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};

use crate::model::object::Kind;
use crate::model::time::AwakeTime;
use crate::ports::clock::Clock;
use crate::ports::store::{Query, Store, StoreError, StoreEvent};
use crate::timing::{STORE_RETRY_MAX, STORE_RETRY_MIN};

type Events<K> = BoxStream<'static, Result<StoreEvent<K>, StoreError>>;

struct Feed<K: Kind, S: Store<K> + ?Sized> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    query: Query,
    open: Option<Events<K>>,
    opened: AwakeTime,
    failures: u32,
    /// How long the next watch waits.
    pause: Option<Duration>,
}

/// The events of a query, for ever. A broken watch is reported in the log and opened again; the new
/// one begins with a full reading, so nothing is missed.
pub(crate) fn feed<K: Kind, S: Store<K> + ?Sized + 'static>(
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    query: Query,
) -> BoxStream<'static, StoreEvent<K>> {
    feed_or_break(store, clock, query).filter_map(std::future::ready).boxed()
}

/// The same, and `None` at the moment when a watch breaks: for whoever takes silence for a sign.
pub(crate) fn feed_or_break<K: Kind, S: Store<K> + ?Sized + 'static>(
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    query: Query,
) -> BoxStream<'static, Option<StoreEvent<K>>> {
    let opened = clock.awake();
    let feed = Feed { store, clock, query, open: None, opened, failures: 0, pause: None };
    stream::unfold(feed, |mut feed| async move {
        if let Some(pause) = feed.pause.take() {
            feed.clock.sleep(pause).await;
        }
        let mut events = if let Some(events) = feed.open.take() {
            events
        } else {
            feed.opened = feed.clock.awake();
            feed.store.watch(feed.query.clone())
        };
        match events.next().await {
            Some(Ok(event)) => {
                // A watch that reads everything and breaks again each time is not healthy.
                if feed.clock.awake().since(feed.opened) >= STORE_RETRY_MAX {
                    feed.failures = 0;
                }
                feed.open = Some(events);
                return Some((Some(event), feed));
            }
            Some(Err(error)) => {
                tracing::warn!(kind = K::NAMES.kind, %error, "a watch broke");
            }
            None => tracing::debug!(kind = K::NAMES.kind, "a watch ended"),
        }
        feed.failures += 1;
        let pause = STORE_RETRY_MIN * 2_u32.saturating_pow(feed.failures.min(16) - 1);
        feed.pause = Some(pause.min(STORE_RETRY_MAX));
        Some((None, feed))
    })
    .boxed()
}
