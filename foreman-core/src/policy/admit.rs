//! Whether work may go where it would go: the one place that knows cloud from local. Expansion asks it
//! for reviewers, the scheduler for each task before it is placed, and whoever executes a run before
//! its first model call.

// Addresses as plain values: `core::net` knows no sockets.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::agent::{Agent, AgentSpec, Provider};
use crate::model::agentic_task::AgenticTask;
use crate::model::object::Object;
use crate::model::wellknown::ANNOTATION_LOCAL_ONLY;

/// What this installation allows. The default allows everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether work may be sent to models in the cloud.
    pub allow_cloud: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { allow_cloud: true }
    }
}

/// Where the words of a run go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// They stay on this machine or in networks that are not public.
    Local,
    /// They leave the house.
    Cloud,
}

/// Who forbids the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The operator of this installation.
    Operator,
    /// Whoever asked for the work: `allowCloudReviewers: false` of its Workload, or the task's own
    /// annotation `foreman.llmkube.dev/local-only`.
    Asker,
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Operator => "the operator allows no models in the cloud",
            Self::Asker => "this work must not leave for the cloud",
        })
    }
}

/// Work may not go where it would go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is in the cloud, and {gate}")]
pub struct Forbidden {
    /// What is in the cloud: an Agent or an address.
    pub what: String,
    /// Who forbids it.
    pub gate: Gate,
}

/// Where an Agent's model is. A provider that this version does not know is taken to be the cloud:
/// a word that was not understood must not open a door.
pub fn egress(agent: &AgentSpec) -> Egress {
    let named = match &agent.provider {
        None => Egress::Local,
        Some(provider) if provider.is(Provider::Local) => Egress::Local,
        Some(_) => Egress::Cloud,
    };
    let address = agent.provider_config.as_ref().and_then(|config| config.base_url.as_deref());
    let address = address.map_or(Egress::Local, egress_of_address);
    if named == Egress::Cloud || address == Egress::Cloud { Egress::Cloud } else { Egress::Local }
}

/// Who forbids the cloud for a task, if anybody.
pub fn gate(policy: Policy, task: &Object<AgenticTask>) -> Option<Gate> {
    let asked = task.meta.annotations.get(ANNOTATION_LOCAL_ONLY);
    if !policy.allow_cloud {
        Some(Gate::Operator)
    } else if asked.is_some_and(|value| value != "false") {
        Some(Gate::Asker)
    } else {
        None
    }
}

/// Whether a task may be done by its Agent. A task without one, or whose Agent is not known, goes to
/// no model that could be in the cloud.
///
/// # Errors
/// What is in the cloud, and who forbids it: the message of `waiting.reason: PolicyForbids`.
pub fn admit(
    policy: Policy,
    task: &Object<AgenticTask>,
    agent: Option<&Object<Agent>>,
) -> Result<(), Forbidden> {
    match (agent, gate(policy, task)) {
        (Some(agent), Some(gate)) if egress(&agent.spec) == Egress::Cloud => {
            Err(Forbidden { what: format!("the model of Agent {}", agent.meta.name), gate })
        }
        (_, _) => Ok(()),
    }
}

/// Whether a task may be sent to the model at `address` (a URL): asked by whoever executes it before
/// the first model call, when the address is known at last.
///
/// # Errors
/// The address is in the cloud, and who forbids it.
pub fn admit_address(
    policy: Policy,
    task: &Object<AgenticTask>,
    address: &str,
) -> Result<(), Forbidden> {
    match gate(policy, task) {
        Some(gate) if egress_of_address(address) == Egress::Cloud => {
            let host = host_of(address).unwrap_or("an address that cannot be read");
            Err(Forbidden { what: format!("the model at {host}"), gate })
        }
        Some(_) | None => Ok(()),
    }
}

/// Where a URL leads, by its host: loopback, private and link-local addresses, names without a dot
/// (a machine of this network) and names below domains that are never public are local; the rest is
/// the cloud, and so is what cannot be read.
pub fn egress_of_address(address: &str) -> Egress {
    let Some(host) = host_of(address) else { return Egress::Cloud };
    let local = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => is_local_v4(ip),
        Ok(IpAddr::V6(ip)) => is_local_v6(ip),
        Err(_) => is_local_name(host),
    };
    if local { Egress::Local } else { Egress::Cloud }
}

/// The host of a URL, without user, port and brackets.
fn host_of(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

fn is_local_v4(ip: Ipv4Addr) -> bool {
    // 100.64.0.0/10 is shared address space: carriers, and overlay networks such as Tailscale.
    let [first, second, _, _] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
}

fn is_local_v6(ip: Ipv6Addr) -> bool {
    let mapped = ip.to_ipv4_mapped().is_some_and(is_local_v4);
    ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || mapped
}

/// Domains that are not in the public DNS, or only for the machines of one owner.
const LOCAL_DOMAINS: [&str; 9] = [
    ".localhost",
    ".local",
    ".internal",
    ".lan",
    ".home",
    ".home.arpa",
    ".svc",
    ".cluster.local",
    ".ts.net",
];

fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let word = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    // A bare number is an address in disguise (`http://134744072/` is 8.8.8.8).
    let number = host.bytes().next().is_none_or(|byte| byte.is_ascii_digit())
        && !host.contains('-')
        && host.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'x' || byte == b'.');
    word && !number
        && (!host.contains('.') || LOCAL_DOMAINS.iter().any(|domain| host.ends_with(domain)))
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
