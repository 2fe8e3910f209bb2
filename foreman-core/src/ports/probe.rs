//! What this machine can do.

use async_trait::async_trait;

use crate::model::Capability;

/// Why a part of a machine could not be probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {reason}")]
pub struct ProbeError {
    /// The part, e.g. `nvidia`.
    pub part: String,
    /// What was tried and what came back.
    pub reason: String,
}

/// Asks a machine, or one part of it, what it can do. Fields that the probe knows nothing of stay
/// absent; `fleet::CompositeProbe` merges several probes.
#[async_trait]
pub trait CapabilityProbe: Send + Sync {
    /// What the machine can do now. Each implementation bounds its own time.
    async fn probe(&self) -> Result<Capability, ProbeError>;
}
