//! Memory of the machine, under the limits of its control groups (not macOS: see `darwin`).

use std::time::Duration;

use async_trait::async_trait;

use super::cgroup;
use crate::limits::SYSTEM_CALL_LIMIT;
use crate::part::{Answer, Part};
use crate::sys::{Aside, Sys};
use crate::wire;

/// Total and available memory.
pub struct MemoryPart {
    sys: Sys,
    aside: Aside,
}

impl MemoryPart {
    /// The memory of `sys`.
    pub fn new(sys: Sys) -> Self {
        Self { sys, aside: Aside::default() }
    }
}

#[async_trait]
impl Part for MemoryPart {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn limit(&self) -> Duration {
        SYSTEM_CALL_LIMIT
    }

    async fn ask(&self) -> Answer {
        let sys = self.sys.clone();
        let look = move || sys.hardware.memory().map(|memory| cgroup::limit_memory(&sys, memory));
        match self.aside.run("memory", look).await {
            Ok(Ok(memory)) => Answer::found(wire::memory(memory)),
            Ok(Err(error)) => Answer::unknown(format!("the memory cannot be read: {error}")),
            Err(reason) => Answer::unknown(reason),
        }
    }
}
