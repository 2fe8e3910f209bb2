//! Manifests as people write them: any kind, checked by the same rules as the stores.

use serde_json::Value;

use super::agent::Agent;
use super::agent_release::AgentRelease;
use super::agentic_task::AgenticTask;
use super::apiserver::{self, Admitted, Violation};
use super::fleet_node::FleetNode;
use super::model_profile::ModelProfile;
use super::object::{Kind, Names, Scope};
use super::workload::Workload;

/// The six kinds, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnyKind {
    /// `FleetNode`.
    FleetNode,
    /// `AgenticTask`.
    AgenticTask,
    /// `Workload`.
    Workload,
    /// `Agent`.
    Agent,
    /// `AgentRelease`.
    AgentRelease,
    /// `ModelProfile`.
    ModelProfile,
}

impl AnyKind {
    /// All kinds, in the order they are best applied: what others refer to comes first.
    pub const ALL: [Self; 6] = [
        Self::ModelProfile,
        Self::Agent,
        Self::FleetNode,
        Self::AgentRelease,
        Self::Workload,
        Self::AgenticTask,
    ];

    /// What the kind is called.
    pub const fn names(self) -> &'static Names {
        match self {
            Self::FleetNode => &FleetNode::NAMES,
            Self::AgenticTask => &AgenticTask::NAMES,
            Self::Workload => &Workload::NAMES,
            Self::Agent => &Agent::NAMES,
            Self::AgentRelease => &AgentRelease::NAMES,
            Self::ModelProfile => &ModelProfile::NAMES,
        }
    }

    /// The kind that a person means: kind, plural, singular, short name or our own word, in any
    /// case.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            let names = kind.names();
            let plural_alias = format!("{}s", names.alias);
            [names.plural, names.singular, names.short, names.alias, &plural_alias]
                .contains(&word.as_str())
        })
    }

    /// Drops nulls, defaults, prunes and validates a manifest of this kind in place.
    pub fn admit(self, manifest: &mut Value) -> Admitted {
        match self {
            Self::FleetNode => apiserver::admit::<FleetNode>(manifest),
            Self::AgenticTask => apiserver::admit::<AgenticTask>(manifest),
            Self::Workload => apiserver::admit::<Workload>(manifest),
            Self::Agent => apiserver::admit::<Agent>(manifest),
            Self::AgentRelease => apiserver::admit::<AgentRelease>(manifest),
            Self::ModelProfile => apiserver::admit::<ModelProfile>(manifest),
        }
    }

    /// The structural schema of the kind.
    pub fn schema(self) -> &'static Value {
        match self {
            Self::FleetNode => super::schema::of::<FleetNode>(),
            Self::AgenticTask => super::schema::of::<AgenticTask>(),
            Self::Workload => super::schema::of::<Workload>(),
            Self::Agent => super::schema::of::<Agent>(),
            Self::AgentRelease => super::schema::of::<AgentRelease>(),
            Self::ModelProfile => super::schema::of::<ModelProfile>(),
        }
    }
}

/// A manifest that was read: its kind and its JSON after defaulting.
#[derive(Debug)]
pub struct Manifest {
    /// The kind.
    pub kind: AnyKind,
    /// The object, defaulted and pruned.
    pub object: Value,
    /// Paths that the schema does not know.
    pub unknown: Vec<String>,
    /// Rules it breaks.
    pub violations: Vec<Violation>,
}

/// Why a document is no manifest of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAManifest {
    /// Not an object.
    #[error("a manifest is a mapping with apiVersion, kind, metadata and spec")]
    NotAMapping,
    /// No kind, or one that is not a text.
    #[error("kind is required, use one of: {kinds}")]
    NoKind {
        /// The kinds there are.
        kinds: String,
    },
    /// Another kind.
    #[error("kind {found:?} is not one of: {kinds}")]
    UnknownKind {
        /// What was given.
        found: String,
        /// The kinds there are.
        kinds: String,
    },
}

/// Reads one manifest. `namespace` is used where a namespaced kind names none.
///
/// # Errors
/// The value is no manifest of one of our kinds.
pub fn read(mut object: Value, namespace: &str) -> Result<Manifest, NotAManifest> {
    let Some(map) = object.as_object() else {
        return Err(NotAManifest::NotAMapping);
    };
    let kinds = || AnyKind::ALL.map(|kind| kind.names().kind).join(", ");
    let Some(found) = map.get("kind").and_then(Value::as_str) else {
        return Err(NotAManifest::NoKind { kinds: kinds() });
    };
    let kind = AnyKind::ALL
        .into_iter()
        .find(|kind| kind.names().kind == found)
        .ok_or_else(|| NotAManifest::UnknownKind { found: found.to_owned(), kinds: kinds() })?;
    if kind.names().scope == Scope::Namespaced
        && let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        // A template leaves it empty: null is absent, as everywhere.
        if meta.get("namespace").is_none_or(Value::is_null) {
            meta.insert("namespace".to_owned(), Value::String(namespace.to_owned()));
        }
    }
    let Admitted { pruned, violations } = kind.admit(&mut object);
    Ok(Manifest { kind, object, unknown: pruned, violations })
}
