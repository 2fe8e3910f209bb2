//! What `foreman run` writes: the Workload of an intent, and the Agents that do it.

use foreman_core::model::agent::AgentRole;
use foreman_core::model::object::NewObject;
use foreman_core::model::shared::{
    Budget, GateCommands, GateLanguage, GateProfile, LocalObjectReference,
};
use foreman_core::model::wellknown::ANNOTATION_PUSH_TO;
use foreman_core::model::wellknown::AUTO_MODEL;
use foreman_core::model::workload::PipelineStep;
use foreman_core::model::{
    Agent, AgentSpec, AgenticTaskPayload, Key, TaskKind, Workload, WorkloadSpec,
};

/// Who changes the code.
pub(in crate::cli) const CODER: &str = "foreman-coder";
/// Who runs the gate on the pushed commit.
pub(in crate::cli) const VERIFIER: &str = "foreman-verifier";
/// Who judges the change.
pub(in crate::cli) const REVIEWER: &str = "foreman-reviewer";
/// How often a reviewer's findings go back to the coder when nobody says otherwise.
pub(in crate::cli) const FIX_ROUNDS: i32 = 1;
/// Commands that a gate can have from flags: one for each of the profile's.
pub(in crate::cli) const GATE_COMMANDS_MAX: usize = 5;

/// What a person asked for, checked.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Order {
    /// The workload's name.
    pub(in crate::cli) name: String,
    /// The namespace.
    pub(in crate::cli) namespace: String,
    /// What is wanted.
    pub(in crate::cli) intent: String,
    /// The repository, as a task names it.
    pub(in crate::cli) repo: String,
    /// The branch to start from; absent = the repository's HEAD.
    pub(in crate::cli) base: Option<String>,
    /// The branch to make.
    pub(in crate::cli) branch: String,
    /// Where the branch is pushed, if not into the repository.
    pub(in crate::cli) push_to: Option<String>,
    /// The gate's commands; empty = what the repository says.
    pub(in crate::cli) gate: Vec<String>,
    /// Whether a reviewer judges the change.
    pub(in crate::cli) review: bool,
    /// How often what the reviewer found goes back to the coder.
    pub(in crate::cli) fix_rounds: i32,
    /// How long a step may run, in seconds.
    pub(in crate::cli) timeout_seconds: Option<i32>,
    /// What the whole may spend.
    pub(in crate::cli) budget: Option<Budget>,
}

impl Order {
    /// The workload: code, verify, and review unless it is not wanted.
    pub(in crate::cli) fn workload(&self) -> NewObject<Workload> {
        let mut pipeline = vec![
            self.step("code", TaskKind::IssueFix, CODER, None),
            self.step("verify", TaskKind::Verify, VERIFIER, Some("code")),
        ];
        if self.review {
            pipeline.push(self.step("review", TaskKind::Review, REVIEWER, Some("verify")));
        }
        let spec = WorkloadSpec {
            intent: self.intent.clone(),
            budget: self.budget.clone(),
            gate_profile: gate_profile(&self.gate),
            // A pipeline gets fix rounds only where it asks for them.
            max_review_iterations: self.review.then_some(self.fix_rounds),
            pipeline,
            // Steps name their repository themselves; this one is for people who list workloads.
            repo: Some(self.repo.clone()),
            ..WorkloadSpec::default()
        };
        let key = Key::namespaced(self.namespace.as_str(), self.name.as_str());
        let mut new = NewObject::new(key, spec);
        if let Some(push_to) = &self.push_to {
            new.annotations.insert(ANNOTATION_PUSH_TO.to_owned(), push_to.clone());
        }
        new
    }

    fn step(&self, name: &str, kind: TaskKind, agent: &str, after: Option<&str>) -> PipelineStep {
        let payload = AgenticTaskPayload {
            repo: Some(self.repo.clone()),
            base_branch: self.base.clone(),
            branch: Some(self.branch.clone()),
            prompt: Some(self.intent.clone()),
            ..AgenticTaskPayload::default()
        };
        PipelineStep {
            name: name.to_owned(),
            kind: kind.into(),
            agent_ref: LocalObjectReference::to(agent),
            payload,
            depends_on: after.map(ToOwned::to_owned).into_iter().collect(),
            timeout_seconds: self.timeout_seconds,
            priority: None,
            gate_profile: None,
        }
    }
}

/// The commands in the slots of a profile, in the order in which it runs them.
fn gate_profile(commands: &[String]) -> Option<GateProfile> {
    let mut slots = GateCommands::default();
    let command = |at: usize| commands.get(at).cloned();
    match commands.len() {
        0 => return None,
        1 => slots.test = command(0),
        2 => (slots.build, slots.test) = (command(0), command(1)),
        3 => (slots.lint, slots.build, slots.test) = (command(0), command(1), command(2)),
        _ => {
            (slots.format, slots.lint, slots.build) = (command(0), command(1), command(2));
            (slots.test, slots.codegen_check) = (command(3), command(4));
        }
    }
    Some(GateProfile {
        commands: Some(slots),
        // Its preset has no commands, so that exactly the given ones run.
        language: Some(GateLanguage::Generic.into()),
        ..GateProfile::default()
    })
}

/// The Agents that `foreman run` needs. Those that are there already are left as they are: people
/// tune them.
pub(in crate::cli) fn agents(namespace: &str) -> Vec<NewObject<Agent>> {
    let tools = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let with_model = |role, names: &[&str]| {
        let mut spec = AgentSpec::new(role, tools(names));
        spec.inference_service_ref = Some(LocalObjectReference::to(AUTO_MODEL));
        spec
    };
    let coder = with_model(
        AgentRole::Coder,
        &[
            "read_file",
            "grep",
            "str_replace",
            "write_file",
            "bash",
            "git_status",
            "git_diff",
            "submit_result",
        ],
    );
    let verifier = AgentSpec::new(AgentRole::Verifier, tools(&["run_gate_job"]));
    let reviewer =
        with_model(AgentRole::Reviewer, &["read_file", "grep", "git_diff", "submit_result"]);
    [(CODER, coder), (VERIFIER, verifier), (REVIEWER, reviewer)]
        .into_iter()
        .map(|(name, spec)| NewObject::new(Key::namespaced(namespace, name), spec))
        .collect()
}

#[cfg(test)]
mod tests {
    use foreman_core::model::manifest;

    use super::*;

    fn order() -> Order {
        Order {
            name: "fix-login-7f3a".into(),
            namespace: "default".into(),
            intent: "fix login".into(),
            repo: "/src/shop".into(),
            branch: "foreman/fix-login-7f3a".into(),
            push_to: Some("/src/other.git".into()),
            gate: vec!["make lint".into(), "make test".into()],
            review: true,
            fix_rounds: FIX_ROUNDS,
            timeout_seconds: Some(60),
            ..Order::default()
        }
    }

    #[test]
    fn an_order_is_a_valid_workload_of_three_steps_in_a_row() {
        let new = order().workload();
        let read = manifest::read(new.to_json(), "default").expect("a manifest");
        assert_eq!(read.violations, []);
        let steps: Vec<_> = new
            .spec
            .pipeline
            .iter()
            .map(|step| (step.name.as_str(), step.kind.to_string(), step.depends_on.join(",")))
            .collect();
        assert_eq!(
            steps,
            [
                ("code", "issue-fix".to_owned(), String::new()),
                ("verify", "verify".to_owned(), "code".to_owned()),
                ("review", "review".to_owned(), "verify".to_owned()),
            ]
        );
        assert_eq!(new.annotations[ANNOTATION_PUSH_TO], "/src/other.git");
        assert!(new.spec.pipeline.iter().all(|step| {
            step.payload.branch.as_deref() == Some("foreman/fix-login-7f3a")
                && step.timeout_seconds == Some(60)
        }));
        assert_eq!(new.spec.max_review_iterations, Some(1));
        let without = Order { review: false, ..order() }.workload();
        assert_eq!(without.spec.pipeline.len(), 2);
        assert_eq!(without.spec.max_review_iterations, None, "nobody could reject it");
    }

    #[test]
    fn gate_commands_run_in_the_order_in_which_they_were_given() {
        for count in 1..=GATE_COMMANDS_MAX {
            let given: Vec<String> = (0..count).map(|at| format!("c{at}")).collect();
            let profile = gate_profile(&given).expect("a profile");
            let slots = profile.commands.expect("commands");
            // The runner's order.
            let order = [slots.format, slots.lint, slots.build, slots.test, slots.codegen_check];
            let run: Vec<String> = order.into_iter().flatten().collect();
            assert_eq!(run, given);
        }
        assert_eq!(gate_profile(&[]), None);
    }

    #[test]
    fn the_agents_are_valid_and_only_the_verifier_has_no_model() {
        for agent in agents("default") {
            let read = manifest::read(agent.to_json(), "default").expect("a manifest");
            assert_eq!(read.violations, [], "{}", agent.key);
            let has_model = agent.spec.inference_service_ref.is_some();
            assert_eq!(has_model, agent.key.name != VERIFIER);
        }
    }
}
