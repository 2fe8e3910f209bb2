//! The resources: one wire form everywhere. Structs here are plain and lenient; rules are strict.

pub mod agent;
pub mod agent_release;
pub mod agentic_task;
pub mod apiserver;
pub mod condition;
pub mod fleet_node;
pub mod ids;
pub mod manifest;
pub mod meta;
pub mod model_profile;
pub mod object;
pub mod open;
pub mod outcome;
pub mod schema;
pub mod shared;
pub mod time;
pub mod wellknown;
pub mod workload;

pub use agent::{Agent, AgentSpec};
pub use agent_release::AgentRelease;
pub use agentic_task::{AgenticTask, AgenticTaskPayload, AgenticTaskSpec, TaskKind, TaskPhase};
pub use fleet_node::{Capability, FleetNode, FleetNodeSpec, NodePhase};
pub use ids::{Attempt, Fence, Key, NodeName, Revision, Session, Uid};
pub use meta::Meta;
pub use model_profile::ModelProfile;
pub use object::{API_VERSION, Kind, NewObject, Object, Scope};
pub use open::Open;
pub use outcome::{Outcome, Verdict};
pub use time::{AwakeTime, BootTime, WallTime};
pub use workload::{Workload, WorkloadPhase, WorkloadSpec};
