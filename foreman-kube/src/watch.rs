//! One open watch: a full reading in pages, then every change, over any number of connections.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use foreman_core::model::{AwakeTime, Kind, Revision};
use foreman_core::ports::watching::View;
use foreman_core::ports::{Query, StoreError, StoreEvent};
use futures::future::{self, Either};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, pin_mut};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use crate::address;
use crate::answer::keyed;
use crate::call::{Call, Wire};
use crate::failure::{Failure, Refusal};
use crate::limits::{OBJECT_ANSWER_BYTES_MAX, WATCH_HEALTHY};

/// Events of a watch, or why there are none for now.
type Events<K> = Vec<Result<StoreEvent<K>, StoreError>>;

/// Where a watcher is.
enum Stage {
    /// Before a page of a full reading: the first, or the one that this asks for.
    Reading { next: Option<String> },
    /// Everything up to this revision is told; the changes after it are to be asked for.
    Between { revision: Revision },
    /// Changes come in.
    Open { revision: Revision, lines: Lines, since: AwakeTime },
}

struct Watcher<K> {
    wire: Arc<Wire>,
    view: View,
    stage: Stage,
    /// Failures since something was last told.
    failures: u32,
    kind: PhantomData<K>,
}

/// The stream of a watch.
pub(crate) fn stream<K: Kind>(
    wire: Arc<Wire>,
    query: Query,
) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>> {
    let watcher = Watcher {
        wire,
        view: View::new(query),
        stage: Stage::Reading { next: None },
        failures: 0,
        kind: PhantomData::<K>,
    };
    stream::unfold((watcher, VecDeque::new()), |(mut watcher, mut ready)| async move {
        while ready.is_empty() {
            ready.extend(watcher.step().await);
        }
        ready.pop_front().map(|event| (event, (watcher, ready)))
    })
    .boxed()
}

impl<K: Kind> Watcher<K> {
    /// The next events, if this step brought any.
    async fn step(&mut self) -> Events<K> {
        let first = Stage::Reading { next: None };
        match std::mem::replace(&mut self.stage, first) {
            Stage::Reading { next } => self.read_page(next).await,
            Stage::Between { revision } => self.open(revision).await,
            Stage::Open { revision, lines, since } => self.hear(revision, lines, since).await,
        }
    }

    async fn read_page(&mut self, next: Option<String>) -> Events<K> {
        self.pause().await;
        let page = match self.wire.page::<K>(self.view.query(), next.as_deref()).await {
            Ok(page) => page,
            Err(failure) => return self.broke(failure),
        };
        let mut events = Vec::new();
        if next.is_none() {
            events.push(Ok(self.view.begin()));
        }
        let view = &mut self.view;
        events
            .extend(page.objects.iter().filter_map(|(key, object)| view.seen(key, object)).map(Ok));
        self.failures = 0;
        self.stage = if page.next.is_some() {
            Stage::Reading { next: page.next }
        } else {
            events.push(Ok(StoreEvent::SyncEnd));
            Stage::Between { revision: page.revision }
        };
        events
    }

    /// Asks for the changes after a revision.
    async fn open(&mut self, revision: Revision) -> Events<K> {
        self.pause().await;
        let query = self.view.query();
        let mut parameters = address::selectors::<K>(query);
        parameters.extend([
            ("watch", "1".to_owned()),
            ("allowWatchBookmarks", "1".to_owned()),
            ("resourceVersion", revision.to_string()),
            ("timeoutSeconds", self.wire.limits.watch.as_secs().max(1).to_string()),
        ]);
        let path = address::collection::<K>(query.namespace.as_deref());
        let call = Call::get(address::with(&path, &parameters), OBJECT_ANSWER_BYTES_MAX);
        match self.wire.open(&call).await {
            Ok(body) => {
                let since = self.wire.clock.awake();
                self.stage = Stage::Open { revision, lines: Lines::of(body), since };
                Vec::new()
            }
            // Read everything again.
            Err(failure) if failure.is_expired() => Vec::new(),
            Err(failure) => self.broke(failure),
        }
    }

    /// Waits for the next line of an open watch.
    async fn hear(&mut self, revision: Revision, mut lines: Lines, since: AwakeTime) -> Events<K> {
        let line = {
            let silence = self.wire.clock.sleep(self.wire.limits.watch_silence);
            let line = lines.next();
            pin_mut!(line, silence);
            match future::select(line, silence).await {
                Either::Left((line, _)) => line,
                Either::Right(_) => Err("it is silent".to_owned()),
            }
        };
        let change = match line {
            Ok(Some(change)) => change,
            ended => {
                if let Err(reason) = &ended {
                    tracing::debug!(kind = K::NAMES.kind, reason, "a watch is opened again");
                }
                // The server ends it from time to time; one that ends at once asks for a pause.
                let healthy = self.wire.clock.awake().since(since) >= WATCH_HEALTHY;
                self.failures = if healthy { 0 } else { self.failures + 1 };
                self.stage = Stage::Between { revision };
                return Vec::new();
            }
        };
        self.take(revision, lines, since, change)
    }

    /// What one change tells.
    fn take(
        &mut self,
        revision: Revision,
        lines: Lines,
        since: AwakeTime,
        mut change: Value,
    ) -> Events<K> {
        let object = change.get_mut("object").map(Value::take).unwrap_or_default();
        let told = change.get("type").and_then(Value::as_str).unwrap_or_default();
        if !matches!(told, "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK") {
            let code = object.get("code").and_then(Value::as_u64).unwrap_or_default();
            let refusal = Refusal::of(u16::try_from(code).unwrap_or_default(), &object);
            let failure = Failure::Refused(Box::new(refusal));
            // A revision that the server no longer knows: read everything again.
            return if failure.is_expired() { Vec::new() } else { self.broke(failure) };
        }
        self.failures = 0;
        let now = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let now = now.map_or(revision, Revision::new);
        self.stage = Stage::Open { revision: now, lines, since };
        if told == "BOOKMARK" {
            return Vec::new();
        }
        let (key, object) = keyed(object);
        let there = (told != "DELETED").then_some(&object);
        self.view.change(&key, there).into_iter().map(Ok).collect()
    }

    /// The watch is broken: whoever hears that may go on listening, and is told everything again.
    fn broke(&mut self, failure: Failure) -> Events<K> {
        self.failures += 1;
        self.stage = Stage::Reading { next: None };
        vec![Err(failure.of_read())]
    }

    // By a unique reference: an answer that goes on may be sent to another thread, but not shared.
    async fn pause(&mut self) {
        if self.failures > 0 {
            self.wire.clock.sleep(self.wire.pause(self.failures)).await;
        }
    }
}

/// The lines of an answer that goes on.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are known to hold no end of a line.
    searched: usize,
}

impl Lines {
    fn of(body: Body) -> Self {
        Self { body, buffer: Vec::new(), searched: 0 }
    }

    /// The JSON of the next line; `None` when the answer ended.
    async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            let ahead = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = ahead.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| format!("a line of it is no JSON: {error}"));
            }
            self.searched = self.buffer.len();
            if self.searched > OBJECT_ANSWER_BYTES_MAX {
                return Err("a line of it has no end".to_owned());
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.buffer.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => return Err(format!("it broke off: {error}")),
            }
        }
    }
}
