//! What a task needs of a node: parsed once from the task and its Agent.

use std::collections::BTreeMap;

use super::columns::{Asks, Atom};
use super::fit::Refusal;
use crate::model::agent::AgentSpec;
use crate::model::agentic_task::AgenticTask;
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::shared::{RequiredAccelerator, RequiredCapability};
use crate::model::wellknown::AUTO_MODEL;
use crate::model::{NodeName, Uid};

/// What a task needs of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The task, so that its own reservation does not count against it.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: String,
    /// The accelerator, exactly; absent = any. A value that this version does not know is kept as
    /// text and matches only a node that says the same.
    pub accelerator: Option<String>,
    /// Memory, in GiB; 0 = any. Not counted when a model must be installed.
    pub ram_gb: i32,
    /// Context, in tokens; 0 = any.
    pub context_tokens: i32,
    /// The model that the Agent names; absent when it takes whatever the node serves.
    pub model: Option<String>,
    /// Whether that model must be installed.
    pub model_installed: bool,
    /// Labels that the node must carry.
    pub labels: BTreeMap<String, String>,
    /// Roles that the node must have.
    pub roles: Vec<String>,
    /// The node that holds the run's journal, if one does.
    pub journal: Option<NodeName>,
    /// The only node it may go to: where its run can be resumed.
    pub only: Option<NodeName>,
    /// The node that failed the task so often that it is the last resort, although it holds the run's
    /// journal. While it is also the only one, the run waits and does not go there.
    pub last_resort: Option<NodeName>,
}

/// Memory that a run takes, in GiB: none of its own when the model is installed already.
fn ram_gb(required: &RequiredCapability) -> i32 {
    let installed = required.requires_model_installed == Some(true);
    if installed { 0 } else { required.min_ram_gb.unwrap_or(0) }
}

impl Need {
    /// The memory alone of what `task` needs.
    pub fn ram_gb_of(task: &Object<AgenticTask>, agent: Option<&AgentSpec>) -> i32 {
        let required = match agent {
            Some(agent) => agent.required_capability.as_ref(),
            None => task.spec.required_capability.as_ref(),
        };
        required.map_or(0, ram_gb)
    }

    /// What `task` needs. With an Agent, only the Agent's required capability counts.
    pub fn of(task: &Object<AgenticTask>, agent: Option<&AgentSpec>) -> Self {
        let required = match agent {
            Some(agent) => agent.required_capability.clone(),
            None => task.spec.required_capability.clone(),
        };
        let required = required.unwrap_or_default();
        let ram_gb = ram_gb(&required);
        let accelerator = match required.accelerator {
            None | Some(Open::Known(RequiredAccelerator::Any)) => None,
            Some(other) => Some(other.to_string()).filter(|text| !text.is_empty()),
        };
        let model_installed = required.requires_model_installed == Some(true);
        let journal = task
            .status
            .checkpoint
            .as_ref()
            .and_then(|checkpoint| checkpoint.node.as_deref())
            .and_then(|node| NodeName::parse(node).ok());
        Self {
            ram_gb,
            uid: task.meta.uid.clone(),
            namespace: task.meta.namespace.clone().unwrap_or_default(),
            accelerator,
            context_tokens: required.min_context_tokens.unwrap_or(0),
            model: agent
                .and_then(AgentSpec::model_identity)
                .filter(|model| *model != AUTO_MODEL)
                .map(ToOwned::to_owned),
            model_installed,
            labels: required.node_selector,
            roles: required.roles,
            journal,
            only: None,
            last_resort: None,
        }
    }

    /// What it asks of a node in words, each with the refusal of a node that lacks it; absent =
    /// lacking it is no reason to refuse.
    pub(super) fn atoms(&self) -> impl Iterator<Item = (Atom<'_>, Option<Refusal>)> {
        let roles = self.roles.iter().map(|role| (Atom::new(Asks::Role, role), Refusal::Role));
        let labels = self
            .labels
            .iter()
            .map(|(word, value)| (Atom { asks: Asks::Label, word, value }, Refusal::Label));
        let namespace = (Atom::new(Asks::Namespace, &self.namespace), Refusal::Namespace);
        let accelerator = self.accelerator.as_deref();
        let accelerator =
            accelerator.map(|kind| (Atom::new(Asks::Accelerator, kind), Refusal::Accelerator));
        // A need that wants its model installed and names none fits nowhere.
        let installed = self.model_installed.then(|| {
            (Atom::new(Asks::Installed, self.model.as_deref().unwrap_or("")), Refusal::Model)
        });
        let loaded = self.model.as_deref().map(|model| (Atom::new(Asks::Loaded, model), None));
        roles
            .chain(labels)
            .chain([namespace])
            .chain(accelerator)
            .chain(installed)
            .map(|(atom, refusal)| (atom, Some(refusal)))
            .chain(loaded)
    }

    /// The need in words, for `explain`.
    pub fn in_words(&self) -> String {
        let mut words = Vec::new();
        if let Some(accelerator) = &self.accelerator {
            words.push(format!("accelerator {accelerator}"));
        }
        if self.ram_gb > 0 {
            words.push(format!("{} GB free", self.ram_gb));
        }
        if self.context_tokens > 0 {
            words.push(format!("context >= {}", self.context_tokens));
        }
        if self.model_installed {
            let model = self.model.as_deref().unwrap_or("(the Agent names none)");
            words.push(format!("model {model} installed"));
        }
        words.extend(self.roles.iter().map(|role| format!("role {role}")));
        words.extend(self.labels.iter().map(|(name, value)| format!("label {name}={value}")));
        if words.is_empty() { "any node".to_owned() } else { words.join(", ") }
    }
}
