//! A run with a model: code, review or a free job.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::model::agent::AgentSpec;
use foreman_core::model::agentic_task::{Checkpoint as CheckpointRecord, TaskKind, Usage};
use foreman_core::model::meta::Extra;
use foreman_core::model::outcome::Infrastructure;
use foreman_core::model::wellknown::ANNOTATION_MAX_TURNS;
use foreman_core::model::{AgenticTask, Object};

use super::budgets::{budget_of, spent_elsewhere};
use super::end::{Conclusion, Ending};
use super::hooks::Hooks;
use super::place::NoPlace;
use super::place::Place;
use super::{Attempt, Fault, ModelTarget, spent};
use crate::journal::{Entry, OpenedJournal, Replay};
use crate::limits::OUTPUT_TOKENS_DEFAULT;
use crate::model_client::{ModelError, OpenAiClient, OpenAiSettings, Timeouts};
use crate::observe::RunEvent;
use crate::project::Instructions;
use crate::prompt::{TaskPrompt, system_prompt};
use crate::tool::{SUBMIT_RESULT, SubmitRole, ToolBox};
use crate::turn::{LoopSettings, Opening, RunHooks as _, StuckSettings, TurnLoop};
use crate::workspace::Checkpoint;

/// Turns of a run whose Agent says nothing (the schema's default).
const TURNS_DEFAULT: i32 = 50;

/// Tools that leave the tree as it is.
const LOOKING: &[&str] = &["read_file", "grep", "git_status", "git_diff", SUBMIT_RESULT];

/// All that a model's run works with.
pub(super) struct ModelRun<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) place: Arc<Place>,
    pub(super) agent: AgentSpec,
    pub(super) target: ModelTarget,
    pub(super) before: Replay,
    pub(super) opened: OpenedJournal,
}

impl Attempt<'_> {
    pub(super) async fn model_run(&self) -> Ending {
        let Some(agent) = self.job.agent.as_ref().map(|agent| agent.spec.clone()) else {
            let message = "the task names no Agent, so no model can run it".to_owned();
            return Ending::fault(&Fault::saying(Infrastructure::Error, message).for_good());
        };
        if self.job.task.spec.payload.prompt.as_deref().unwrap_or_default().trim().is_empty()
            && self.job.task.spec.kind.known() != Some(TaskKind::Review)
        {
            return Ending::unsupported("spec.payload without prompt (fetching an issue)");
        }
        if let Some(told) = self.told_before().await {
            return told;
        }
        let place = match self.place().await {
            Ok(place) => Arc::new(place),
            Err(no_place) => return self.no_place(no_place),
        };
        match self.prepare(&place, agent).await {
            Ok(run) => {
                // The run owns its place alone, so that it can tidy it up.
                drop(place);
                Box::pin(run.run()).await
            }
            Err(ending) => *ending,
        }
    }

    /// What this claim has to charge, from what its journal says.
    fn spent(&self, before: &Replay, after: &Replay) -> Usage {
        let status = &self.job.task.status;
        let estimated = status.estimated_on(self.job.fence.node.as_str());
        spent(status.usage.as_ref(), estimated, before, after)
    }

    /// A run that ended in an earlier claim, and whose terminal write did not arrive, is told again.
    async fn told_before(&self) -> Option<Ending> {
        let journals = &self.runner.journals;
        let parent = journals.parent(self.job.fence.uid.as_str()).await.ok()??;
        let key = crate::journal::JournalKey::new(&parent.uid, parent.attempt).ok()?;
        let replay = journals.read(key).await.ok()?;
        let conclusion: Conclusion = serde_json::from_value(replay.outcome.clone()?).ok()?;
        self.notice("this run had ended before; its outcome is told again");
        Some(Ending::concluded(conclusion, self.spent(&replay, &replay)))
    }
}

impl ModelRun<'_> {
    async fn run(mut self) -> Ending {
        let attempt = self.attempt;
        let (client, opening, tools) = match self.ready_to_turn().await {
            Ok(ready) => ready,
            Err(no_place) => return self.never_turned(no_place).await,
        };
        let settings = self.loop_settings();
        let mut hooks = Hooks::new(attempt, self.place.clone(), &self.opened.replay);
        hooks.kept = self.kept();
        let turns = TurnLoop {
            model: &client,
            tools: &tools,
            settings: &settings,
            journal: &mut self.opened.journal,
            state: &mut self.opened.replay,
            hooks: &mut hooks,
        };
        let end = Box::pin(turns.run(&opening, attempt.stop.clone())).await;
        let (judged, fault) = (hooks.judged.take(), hooks.fault.take());
        drop(hooks);
        drop(tools);
        self.conclude(end, judged, fault).await
    }

    /// The tree as the journal knows it, the repository's setup, and what the loop works with.
    async fn ready_to_turn(&mut self) -> Result<(OpenAiClient, Opening, ToolBox), NoPlace> {
        if self.goes_on() {
            self.take_over().await?;
        } else {
            self.restore().await?;
        }
        self.attempt.set_up(&self.place).await?;
        let unavailable = |error| Fault::new(Infrastructure::ModelUnavailable, &error);
        let client = self.client().map_err(unavailable)?;
        let opening = self.opening().await?;
        let tools = self.attempt.toolbox(&self.place, &self.agent);
        let tools = tools.map_err(|message| Fault::saying(Infrastructure::Error, message))?;
        let told = self.opened.replay.header.as_ref();
        let tools = match told.map(|header| header.tools.clone()) {
            Some(specs) => tools.with_snapshot(specs),
            None => tools,
        };
        Ok((client, opening, tools))
    }

    pub(super) fn usage(&self) -> Usage {
        self.attempt.spent(&self.before, &self.opened.replay)
    }

    fn kept(&self) -> Option<Checkpoint> {
        let mark = self.opened.replay.checkpoint.as_ref()?;
        Some(Checkpoint { commit: mark.commit.clone(), tree: mark.reference.clone() })
    }

    /// The tree as the journal knows it: at the last checkpoint, or untouched. When the crash came
    /// after calls of a turn and before its checkpoint, the tree is kept as it stands: the
    /// conversation says that those calls were made, or that their effects may be partial.
    async fn restore(&mut self) -> Result<(), NoPlace> {
        let turns = i64::try_from(self.before.turns.len()).unwrap_or(i64::MAX);
        if self.before.conversation.is_empty() {
            return Ok(());
        }
        self.attempt.tell(RunEvent::Resumed { turns });
        let workspace = &self.place.workspace;
        let untouched =
            || Checkpoint { commit: workspace.parent().to_owned(), tree: String::new() };
        let checkpoint = self.kept().unwrap_or_else(untouched);
        if !self.ended_in_a_turn() {
            workspace.restore(&checkpoint, &self.attempt.cancel).await?;
            return Ok(());
        }
        // Fails when the checkpoint is gone: then this is not the tree of that turn.
        workspace.is_ancestor(workspace.parent(), &checkpoint.commit, &self.attempt.cancel).await?;
        let mut hooks = Hooks::new(self.attempt, self.place.clone(), &self.opened.replay);
        hooks.kept = self.kept();
        let turn = u32::try_from(turns).unwrap_or(u32::MAX);
        let kept = hooks.checkpoint(turn).await.map_err(|message| {
            let fault = hooks.fault.take();
            fault.unwrap_or_else(|| Fault::saying(Infrastructure::GitUnavailable, message))
        })?;
        if let Some(mark) = kept {
            let OpenedJournal { journal, replay } = &mut self.opened;
            let fault = |error| Fault::from(&error);
            Attempt::write(journal, replay, Entry::Checkpoint(mark)).map_err(fault)?;
            journal.sync().await.map_err(fault)?;
        }
        Ok(())
    }

    /// Whether calls that may have changed the tree were made since the last checkpoint.
    fn ended_in_a_turn(&self) -> bool {
        let kept_after = self.before.checkpoint.as_ref().map_or(0, |mark| mark.turn);
        let Some(last) = self.before.turns.last() else {
            return false;
        };
        usize::try_from(kept_after).is_ok_and(|turn| turn < self.before.turns.len())
            && last.calls.iter().any(|call| !LOOKING.contains(&call.name.as_str()))
    }

    fn client(&self) -> Result<OpenAiClient, ModelError> {
        let seconds = |value: Option<i32>, fallback: Duration| {
            let value = value.and_then(|value| u64::try_from(value).ok());
            value.map_or(fallback, Duration::from_secs)
        };
        let defaults = Timeouts::default();
        let mut settings = OpenAiSettings::new(self.target.base_url.clone());
        settings.api_key.clone_from(&self.target.api_key);
        settings.timeouts = Timeouts {
            turn: seconds(self.agent.request_timeout_seconds, defaults.turn),
            header: seconds(self.agent.request_turn_timeout_seconds, defaults.header),
            idle: defaults.idle,
        };
        if let Some(retries) = self.agent.max_retries.and_then(|it| u32::try_from(it).ok()) {
            settings.retries_max = retries;
        }
        settings.redactor = self.attempt.runner.redactor();
        OpenAiClient::new(settings)
    }

    async fn opening(&self) -> Result<Opening, Fault> {
        let (task, place) = (&self.attempt.job.task, &self.place);
        let payload = &task.spec.payload;
        let role = if self.attempt.is_coder() { SubmitRole::Coder } else { SubmitRole::Reviewer };
        if self.goes_on() {
            self.attempt.ready(place, Some(self.target.label.clone()), None);
            return Ok(Opening { system: String::new(), user: self.request()? });
        }
        let found = Instructions::of_base(&place.workspace, &self.attempt.cancel).await;
        let found = found.map_err(|error| Fault::new(Infrastructure::GitUnavailable, &error))?;
        let shown = found.as_ref().map(|found| found.file.to_owned());
        self.attempt.ready(place, Some(self.target.label.clone()), shown);
        let advisories = payload.gate_advisories.iter().filter_map(|it| {
            let detail = it.detail.as_deref().filter(|text| !text.trim().is_empty());
            match (it.check.as_deref().filter(|text| !text.trim().is_empty()), detail) {
                (Some(check), Some(detail)) => Some(format!("{check}: {detail}")),
                (one, other) => one.or(other).map(str::to_owned),
            }
        });
        let prompt = TaskPrompt {
            repo: payload.repo.clone().unwrap_or_default(),
            base_branch: place.workspace.base_branch().unwrap_or("HEAD").to_owned(),
            intent: payload.prompt.clone().unwrap_or_default(),
            prefix: payload.prompt_prefix.clone(),
            issue: None,
            instructions: found.map(|found| (found.file.to_owned(), found.text)),
            gate: place.gate.steps.iter().map(|step| step.command.clone()).collect(),
            author_summary: None,
            advisories: advisories.collect(),
        };
        let own = self.agent.system_prompt.as_deref().filter(|text| !text.trim().is_empty());
        Ok(Opening {
            system: own.unwrap_or_else(|| system_prompt(role)).to_owned(),
            user: prompt.render(role),
        })
    }

    fn loop_settings(&self) -> LoopSettings {
        let (agent, task) = (&self.agent, &self.attempt.job.task);
        let positive = |value: Option<i32>| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0)
        };
        let mut stuck = if self.attempt.is_coder() {
            StuckSettings::coder()
        } else {
            StuckSettings::reviewer()
        };
        if let Some(own) = &agent.stuck_loop_detection {
            let zero =
                |value: Option<i32>| value.and_then(|it| u32::try_from(it).ok()).unwrap_or(0);
            stuck.repeated_calls = zero(own.repeated_tool_threshold);
            stuck.edit_free_turns = zero(own.edit_free_turns_limit);
        }
        let kwargs = agent.chat_template_kwargs.iter();
        LoopSettings {
            model: self.target.model.clone(),
            mode: self.attempt.runner.settings.call_mode,
            temperature: agent.temperature.as_deref().and_then(|text| text.parse().ok()),
            output_tokens_max: positive(agent.max_output_tokens).unwrap_or(OUTPUT_TOKENS_DEFAULT),
            chat_template_kwargs: kwargs
                .map(|(name, value)| (name.clone(), value.0.clone()))
                .collect(),
            turns_max: own_turns(task)
                .or_else(|| positive(agent.max_turns.or(Some(TURNS_DEFAULT))))
                .unwrap_or(1),
            budget: budget_of(task.spec.budget.as_ref(), &task.status),
            elsewhere: spent_elsewhere(
                task.status.usage.as_ref(),
                task.status.estimated_on(self.attempt.job.fence.node.as_str()),
                &self.before,
            ),
            stuck,
        }
    }

    pub(super) fn checkpoint_record(&self) -> Option<CheckpointRecord> {
        let mark = self.opened.replay.checkpoint.as_ref()?;
        Some(CheckpointRecord {
            node: Some(self.attempt.job.fence.node.to_string()),
            attempt: Some(self.attempt.job.fence.attempt),
            turn: Some(i64::from(mark.turn)),
            digest: Some(mark.commit.clone()),
            archived: None,
            extra: Extra::new(),
        })
    }
}

/// The turns that a person gave to this one task, in place of its Agent's limit; what is no number of
/// turns counts as not said.
fn own_turns(task: &Object<AgenticTask>) -> Option<u32> {
    let said = task.meta.annotations.get(ANNOTATION_MAX_TURNS)?;
    said.trim().parse().ok().filter(|turns| *turns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_that_a_person_gave_to_a_task_are_read_or_not_said() {
        let read = |said: Option<&str>| {
            let mut json = serde_json::json!({"metadata": {"name": "a", "uid": "a",
                "resourceVersion": "1"}, "spec": {"kind": "freeform", "payload": {}}});
            if let Some(said) = said {
                json["metadata"]["annotations"] = serde_json::json!({ ANNOTATION_MAX_TURNS: said });
            }
            own_turns(&Object::from_json(&json).expect("a task"))
        };
        let cases = [None, Some("40"), Some(" 7 "), Some("0"), Some("-1"), Some("many")];
        let turns = cases.map(read);
        assert_eq!(turns, [None, Some(40), Some(7), None, None, None]);
    }
}
