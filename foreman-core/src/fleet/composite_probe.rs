//! Several probes as one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::join_all;

use crate::model::Capability;
use crate::ports::probe::{CapabilityProbe, ProbeError};

/// Asks several probes at once and merges what they say: for each field the last probe that says
/// something wins, so flags come last. A part that fails costs its own fields only.
pub struct CompositeProbe {
    parts: Vec<Arc<dyn CapabilityProbe>>,
    complained: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for CompositeProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompositeProbe").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl CompositeProbe {
    /// A probe of these parts, in rising precedence.
    pub fn new(parts: Vec<Arc<dyn CapabilityProbe>>) -> Self {
        Self { parts, complained: Mutex::default() }
    }

    /// Logs a failure once, until its text changes.
    fn complain(&self, error: &ProbeError) {
        let text = error.to_string();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.insert(text) {
            tracing::warn!(part = error.part, reason = error.reason, "a probe failed");
        }
    }
}

#[async_trait]
impl CapabilityProbe for CompositeProbe {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        let answers = join_all(self.parts.iter().map(|part| part.probe())).await;
        let mut merged = Capability::default();
        for answer in answers {
            match answer {
                Ok(capability) => overlay(&mut merged, capability),
                Err(error) => self.complain(&error),
            }
        }
        if let (Some(total), Some(available)) = (merged.total_ram_gb, merged.available_ram_gb) {
            merged.available_ram_gb = Some(available.min(total));
        }
        Ok(merged)
    }
}

fn overlay(below: &mut Capability, above: Capability) {
    fn option<T>(below: &mut Option<T>, above: Option<T>) {
        if above.is_some() {
            *below = above;
        }
    }
    fn list<T>(below: &mut Vec<T>, above: Vec<T>) {
        if !above.is_empty() {
            *below = above;
        }
    }
    let Capability {
        accelerator,
        accelerators,
        available_ram_gb,
        cpu,
        disk,
        installed_models,
        max_context_tokens,
        models,
        namespaces,
        sandbox,
        tokens_per_second,
        total_ram_gb,
        extra,
    } = above;
    option(&mut below.accelerator, accelerator);
    list(&mut below.accelerators, accelerators);
    option(&mut below.available_ram_gb, available_ram_gb);
    option(&mut below.cpu, cpu);
    option(&mut below.disk, disk);
    list(&mut below.installed_models, installed_models);
    option(&mut below.max_context_tokens, max_context_tokens);
    list(&mut below.models, models);
    list(&mut below.namespaces, namespaces);
    option(&mut below.sandbox, sandbox);
    option(&mut below.tokens_per_second, tokens_per_second);
    option(&mut below.total_ram_gb, total_ram_gb);
    below.extra.extend(extra);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Result<Capability, ProbeError>);

    #[async_trait]
    impl CapabilityProbe for Says {
        async fn probe(&self) -> Result<Capability, ProbeError> {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn later_parts_win_and_a_failed_part_costs_only_itself() {
        let host = Capability {
            total_ram_gb: Some(64),
            available_ram_gb: Some(60),
            installed_models: vec!["a".into()],
            ..Capability::default()
        };
        let flags = Capability { total_ram_gb: Some(32), ..Capability::default() };
        let broken = ProbeError { part: "nvidia".into(), reason: "timed out".into() };
        let probe = CompositeProbe::new(vec![
            Arc::new(Says(Ok(host))),
            Arc::new(Says(Err(broken))),
            Arc::new(Says(Ok(flags))),
        ]);
        let seen = probe.probe().await.expect("never fails as a whole");
        assert_eq!((seen.total_ram_gb, seen.available_ram_gb), (Some(32), Some(32)));
        assert_eq!(seen.installed_models, ["a"]);
    }
}
