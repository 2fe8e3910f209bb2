//! The model servers as a part of what this machine can do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::FoundModel;
use super::discover::{Discoverer, Discovery, Source};
use crate::limits::{LAST_GOOD_KEPT_MAX, PART_GRACE};
use crate::part::{Answer, Part};
use crate::text::lock;
use crate::wire;

/// What a server had when it last answered.
struct Remembered {
    at: Instant,
    models: Vec<FoundModel>,
}

/// The models that servers serve here. A server that does not get round to answering, which is
/// when it works hardest, keeps its models for [`LAST_GOOD_KEPT_MAX`]; one that refuses has none.
pub struct ModelServersPart {
    discoverer: Discoverer,
    last: Mutex<Option<Arc<Discovery>>>,
    servers: Mutex<BTreeMap<(Source, String), Remembered>>,
}

impl ModelServersPart {
    /// The servers that `discoverer` finds.
    pub fn new(discoverer: Discoverer) -> Self {
        Self { discoverer, last: Mutex::new(None), servers: Mutex::new(BTreeMap::new()) }
    }

    /// What the last look found, tried and chose; absent before the first one ended.
    pub fn last(&self) -> Option<Arc<Discovery>> {
        lock(&self.last).clone()
    }

    /// Whether some server has ever had models.
    fn has_known_models(&self) -> bool {
        lock(&self.servers).values().any(|server| !server.models.is_empty())
    }

    /// The models now, and a remark for each server whose models are from before.
    fn settle(&self, discovery: &Discovery) -> (Vec<FoundModel>, Option<String>) {
        let mut servers = lock(&self.servers);
        let mut rest = discovery.found.as_slice();
        let mut models = Vec::new();
        let mut remarks = Vec::new();
        for tried in &discovery.tried {
            // What was found is in the order of what was tried.
            let (found, after) = rest.split_at_checked(tried.models).unwrap_or((rest, &[]));
            rest = after;
            let key = (tried.source, tried.url.clone());
            if !tried.answer.is_uncertain() {
                models.extend_from_slice(found);
                let remembered = Remembered { at: Instant::now(), models: found.to_vec() };
                servers.insert(key, remembered);
                continue;
            }
            let before = servers.get(&key).filter(|before| !before.models.is_empty());
            let Some(before) = before.filter(|before| before.at.elapsed() <= LAST_GOOD_KEPT_MAX)
            else {
                continue;
            };
            models.extend(before.models.clone());
            remarks.push(format!("{tried}, so its models are those from before"));
        }
        let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        (models, remark)
    }
}

#[async_trait]
impl Part for ModelServersPart {
    fn name(&self) -> &'static str {
        "model-servers"
    }

    fn limit(&self) -> Duration {
        self.discoverer.limit() + PART_GRACE
    }

    async fn ask(&self) -> Answer {
        let discovery = Arc::new(self.discoverer.discover().await);
        *lock(&self.last) = Some(Arc::clone(&discovery));
        let (models, note) = self.settle(&discovery);
        if !models.is_empty() {
            return Answer::Found { capability: Box::new(wire::models(&models)), note };
        }
        let line = discovery.tried_line();
        if discovery.tried.iter().any(|tried| tried.answer.is_uncertain()) {
            // What a server had is kept above for as long as it may be; after that it is void, and
            // must not be kept once more by whoever keeps this part's values.
            if self.has_known_models() {
                return Answer::absent(format!("no model server answers any more: {line}"));
            }
            return Answer::unknown(format!("no model server answered: {line}"));
        }
        Answer::absent(format!("no model is served: {line}"))
    }
}
