//! A watch that never ends: opened again, after a pause, whenever it breaks.

use std::sync::Arc;

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
}

/// The events of a query, for ever. A broken watch is reported in the log and opened again; the new
/// one begins with a full reading, so nothing is missed.
pub(crate) fn feed<K: Kind, S: Store<K> + ?Sized + 'static>(
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    query: Query,
) -> BoxStream<'static, StoreEvent<K>> {
    let opened = clock.awake();
    let feed = Feed { store, clock, query, open: None, opened, failures: 0 };
    stream::unfold(feed, |mut feed| async move {
        loop {
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
                    return Some((event, feed));
                }
                Some(Err(error)) => {
                    tracing::warn!(kind = K::NAMES.kind, %error, "a watch broke");
                }
                None => tracing::debug!(kind = K::NAMES.kind, "a watch ended"),
            }
            feed.failures += 1;
            let pause = STORE_RETRY_MIN * 2_u32.saturating_pow(feed.failures.min(16) - 1);
            feed.clock.sleep(pause.min(STORE_RETRY_MAX)).await;
        }
    })
    .boxed()
}
