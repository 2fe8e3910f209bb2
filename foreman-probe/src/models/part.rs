//! The model servers as a part of what this machine can do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::answer::Tried;
use super::discover::{Discoverer, Discovery, Source};
use super::{FoundModel, TriedAnswer};
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
        Self {
            discoverer,
            last: Mutex::new(None),
            servers: Mutex::new(BTreeMap::new()),
        }
    }

    /// What the last look found, tried and chose; absent before the first one ended.
    pub fn last(&self) -> Option<Arc<Discovery>> {
        lock(&self.last).clone()
    }

    /// The models now, and a remark for each server whose models are from before.
    fn settle(&self, discovery: &Discovery) -> (Vec<FoundModel>, Option<String>) {
        let mut servers = lock(&self.servers);
        let mut models = Vec::new();
        let mut remarks = Vec::new();
        for tried in &discovery.tried {
            let key = (tried.source, tried.url.clone());
            if !tried.answer.is_uncertain() {
                let found = models_of(discovery, tried);
                models.extend(found.clone());
                servers.insert(
                    key,
                    Remembered {
                        at: Instant::now(),
                        models: found,
                    },
                );
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

/// The models of one server in a discovery.
fn models_of(discovery: &Discovery, tried: &Tried) -> Vec<FoundModel> {
    let there = |model: &&FoundModel| {
        let host_and_port = Some(model.url.host_and_port());
        model.source == tried.source && host_and_port == tried.host_and_port
    };
    discovery.found.iter().filter(there).cloned().collect()
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
            return Answer::Found {
                capability: Box::new(wire::models(&models)),
                note,
            };
        }
        let uncertain = |tried: &Tried| tried.answer.is_uncertain();
        let serves = |tried: &Tried| matches!(tried.answer, TriedAnswer::Models { .. });
        let line = discovery.tried_line();
        if discovery.tried.iter().any(serves) || !discovery.tried.iter().any(uncertain) {
            return Answer::absent(format!("no model is served: {line}"));
        }
        Answer::unknown(format!("no model server answered: {line}"))
    }
}
