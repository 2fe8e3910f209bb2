//! What a model's run needs before its first turn: model, tools, journal, the right to push.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::model::agent::AgentSpec;
use foreman_core::model::agentic_task::TaskKind;
use foreman_core::model::outcome::Infrastructure;
use foreman_core::policy::admit_address;
use serde_json::{Value, json};

use super::end::Ending;
use super::fault::refused_or_broken;
use super::model_run::ModelRun;
use super::place::Place;
use super::view::WorkspaceView;
use super::{Attempt, Fault};
use crate::journal::{Header, JOURNAL_SCHEMA, JournalFence};
use crate::tool::{
    Bash, BashSettings, GitDiff, GitStatus, Grep, ReadFile, Root, StrReplace, SubmitRole, Tool,
    ToolBox, WriteFile,
};

impl Attempt<'_> {
    pub(super) async fn prepare<'a>(
        &'a self,
        place: &Arc<Place>,
        agent: AgentSpec,
    ) -> Result<ModelRun<'a>, Box<Ending>> {
        let fault =
            |kind, error: &dyn std::error::Error| Box::new(Ending::fault(&Fault::new(kind, error)));
        let target = self.runner.endpoints.resolve(&agent).await;
        let target = target.map_err(|error| fault(Infrastructure::ModelUnavailable, &error))?;
        // The last look, with the address that the words really go to.
        admit_address(self.runner.settings.policy, &self.job.task, target.base_url.as_str())
            .map_err(|forbidden| {
                let message = format!("policy forbids this run: {forbidden}");
                Box::new(Ending::fault(&Fault::saying(Infrastructure::Error, message).for_good()))
            })?;
        let parent = self.runner.journals.parent(self.job.fence.uid.as_str()).await;
        let broken = |error| Box::new(Ending::fault(&Fault::from(&error)));
        let parent = parent.map_err(broken)?;
        if parent.is_none() && self.is_coder() {
            self.check_push_right(place).await?;
        }
        let continued = match &parent {
            Some(_) => None,
            None => self.continued().await.map(|found| found.parent),
        };
        let tools = self.toolbox(place, &agent).map_err(|reason| {
            Box::new(Ending::fault(&Fault::saying(Infrastructure::Error, reason)))
        })?;
        let earlier = match parent.as_ref().or(continued.as_ref()) {
            Some(earlier) => self.snapshot(earlier).await,
            None => None,
        };
        let (snapshot, specs) = match earlier {
            // Another task has limits of its own; the tools stand before the conversation, so they stay.
            Some((_, specs)) if continued.is_some() => (json!(agent), specs),
            Some(earlier) => earlier,
            None => (json!(agent), tools.specs().to_vec()),
        };
        let agent: AgentSpec = serde_json::from_value(snapshot.clone()).unwrap_or(agent);
        let fence = &self.job.fence;
        let header = Header {
            schema: JOURNAL_SCHEMA,
            fence: JournalFence {
                uid: fence.uid.to_string(),
                attempt: u32::try_from(fence.attempt).unwrap_or(u32::MAX),
                session: fence.session.to_string(),
                node: fence.node.to_string(),
                claimed_at: fence.claimed_at.to_string(),
            },
            parent: parent.or(continued),
            base_commit: place.workspace.base().to_owned(),
            agent: snapshot,
            tools: specs,
        };
        let redactor = match &target.api_key {
            Some(key) => self.runner.redactor().and(key),
            None => self.runner.redactor(),
        };
        let opened = self.runner.journals.create(header, redactor).await;
        let opened = opened.map_err(broken)?;
        let before = opened.replay.clone();
        Ok(ModelRun { attempt: self, place: place.clone(), agent, target, before, opened })
    }

    /// Agent and tools as the first attempt knew them.
    async fn snapshot(
        &self,
        parent: &crate::journal::ParentRef,
    ) -> Option<(Value, Vec<crate::tool::ToolSpec>)> {
        let key = crate::journal::JournalKey::new(&parent.uid, parent.attempt).ok()?;
        let header = self.runner.journals.read(key).await.ok()?.header?;
        Some((header.agent, header.tools))
    }

    pub(super) fn is_coder(&self) -> bool {
        self.job.task.spec.kind.known() != Some(TaskKind::Review)
    }

    pub(super) fn is_freeform(&self) -> bool {
        self.job.task.spec.kind.known() == Some(TaskKind::Freeform)
    }

    /// Missing rights are found before a model works for an hour.
    async fn check_push_right(&self, place: &Place) -> Result<(), Box<Ending>> {
        let checked =
            crate::publish::check_push_right(&place.workspace, &place.target, &self.cancel).await;
        match checked {
            Ok(()) => Ok(()),
            Err(crate::git::GitError::Cancelled { .. }) => Err(Box::new(Ending::stopped())),
            Err(error) => {
                let fault = Fault::new(refused_or_broken(&error), &error);
                Err(Box::new(self.no_place(fault.into())))
            }
        }
    }

    pub(super) fn toolbox(&self, place: &Arc<Place>, agent: &AgentSpec) -> Result<ToolBox, String> {
        let root = Root::open(place.workspace.tree())
            .map_err(|error| format!("the tree cannot be opened: {error}"))?;
        let view = Arc::new(WorkspaceView {
            workspace: place.workspace.clone(),
            against_base: !self.is_coder(),
            cancel: self.cancel.clone(),
        });
        let mut bash = BashSettings::new(place.workspace.tree().to_owned());
        if let Some(seconds) = agent.bash_timeout_seconds.and_then(|it| u64::try_from(it).ok()) {
            bash.timeout = Duration::from_secs(seconds);
        }
        let mut available: Vec<Arc<dyn Tool>> = vec![
            Arc::new(ReadFile::new(root.clone())),
            Arc::new(Grep::new(root.clone())),
            Arc::new(Bash::new(place.sandbox.clone(), bash)),
            Arc::new(GitStatus::new(view.clone())),
            Arc::new(GitDiff::new(view)),
        ];
        let role = if self.is_coder() { SubmitRole::Coder } else { SubmitRole::Reviewer };
        if self.is_coder() {
            available.push(Arc::new(StrReplace::new(root.clone())));
            available.push(Arc::new(WriteFile::new(root)));
        }
        let (tools, missing) = ToolBox::select(available, &agent.tools, role);
        if !missing.is_empty() {
            self.notice(format!("these tools are not available here: {}", missing.join(", ")));
        }
        Ok(tools)
    }
}
