//! Processors that may be used, and their architecture.

use std::time::Duration;

use async_trait::async_trait;

use super::cgroup;
use crate::limits::SYSTEM_CALL_LIMIT;
use crate::part::{Answer, Part};
use crate::sys::{Aside, Sys};
use crate::wire;

/// Cores (affinity and control group quotas respected) and architecture.
pub struct CpuPart {
    sys: Sys,
    aside: Aside,
}

impl CpuPart {
    /// The processors of `sys`.
    pub fn new(sys: Sys) -> Self {
        Self { sys, aside: Aside::default() }
    }
}

#[async_trait]
impl Part for CpuPart {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn limit(&self) -> Duration {
        SYSTEM_CALL_LIMIT
    }

    async fn ask(&self) -> Answer {
        let sys = self.sys.clone();
        let look = move || (sys.hardware.cores(), cgroup::cpu_quota(&sys));
        match self.aside.run("cpu", look).await {
            Ok((Ok(cores), quota)) => {
                let cores = quota.map_or(cores, |quota| quota.min(cores));
                Answer::found(wire::cpu(Some(cores), &self.sys.arch))
            }
            Ok((Err(error), quota)) => Answer::Found {
                capability: Box::new(wire::cpu(quota, &self.sys.arch)),
                note: Some(format!("the number of processors cannot be read: {error}")),
            },
            Err(reason) => Answer::unknown(reason),
        }
    }
}
