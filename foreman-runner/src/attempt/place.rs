//! Where an attempt works: repository, workspace, sandbox, gate.

use std::sync::Arc;

use foreman_core::model::agentic_task::{BranchStrategy, TaskKind};
use foreman_core::model::outcome::Infrastructure;
use foreman_core::model::wellknown::ANNOTATION_PUSH_TO;
use sha2::{Digest, Sha256};

use super::{Attempt, Fault, chain};
use crate::gate::{ExplicitGate, GateError, GatePlan};
use crate::git::{BranchName, Git, GitError, Repository};
use crate::observe::RunEvent;
use crate::sandbox::{Layout, ProcessSandbox, Sandbox, SandboxSettings, Tier, Unconfined};
use crate::workspace::{Start, Workspace, WorkspaceError, WorkspaceRequest, WorkspaceRoots, hex};

/// Hex characters of a repository's cache folder name.
const CACHE_NAME_CHARS: usize = 16;

/// Where an attempt works.
pub(super) struct Place {
    pub(super) workspace: Arc<Workspace>,
    pub(super) target: Repository,
    pub(super) sandbox: Arc<dyn Sandbox>,
    pub(super) layout: Layout,
    pub(super) gate: GatePlan,
}

/// Why there is no place to work.
pub(super) enum NoPlace {
    /// The run was told to stop.
    Stopped,
    /// The machinery failed.
    Fault(Fault),
    /// The gate as it is configured cannot be run: the task cannot be judged.
    Gate(String),
}

impl From<Fault> for NoPlace {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Whether it is no failure but the run's own stop.
pub(super) fn is_stopped(error: &WorkspaceError) -> bool {
    matches!(error, WorkspaceError::Git { source: GitError::Cancelled { .. }, .. })
}

impl From<WorkspaceError> for NoPlace {
    fn from(error: WorkspaceError) -> Self {
        if is_stopped(&error) {
            return Self::Stopped;
        }
        Self::Fault(Fault::from(&error))
    }
}

impl From<GateError> for NoPlace {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Cancelled => Self::Stopped,
            GateError::Workspace(error) => error.into(),
            GateError::Sandbox { .. } => {
                Self::Fault(Fault::new(Infrastructure::SandboxUnavailable, &error))
            }
            GateError::InvalidProfile { .. }
            | GateError::UnknownLanguage { .. }
            | GateError::Project(_)
            | GateError::Setup { .. }
            | GateError::Record { .. } => Self::Gate(chain(&error)),
        }
    }
}

fn wrong(what: impl Into<String>) -> NoPlace {
    NoPlace::Fault(Fault::saying(Infrastructure::Error, what).for_good())
}

impl Attempt<'_> {
    fn branch_name(&self) -> Result<BranchName, NoPlace> {
        let payload = &self.job.task.spec.payload;
        let named = payload.branch.clone().filter(|branch| !branch.is_empty());
        let name = named.unwrap_or_else(|| {
            let prefix = payload.branch_prefix.as_deref().unwrap_or("foreman/");
            format!("{prefix}{}", self.job.task.meta.name)
        });
        BranchName::parse(&name).map_err(|error| wrong(format!("spec.payload.branch: {error}")))
    }

    fn repository(&self, given: &str, field: &str) -> Result<Repository, NoPlace> {
        Repository::parse(given, &self.runner.settings.git_base_url)
            .map_err(|error| wrong(format!("{field}: {error}")))
    }

    fn start(&self, branch: &BranchName) -> Result<Start, NoPlace> {
        let payload = &self.job.task.spec.payload;
        if matches!(self.job.task.spec.kind.known(), Some(TaskKind::Verify | TaskKind::Review)) {
            return Ok(Start::Branch(branch.clone()));
        }
        if let Some(from) = payload.revise_from_branch.as_deref().filter(|name| !name.is_empty()) {
            if payload.branch_strategy.as_ref().is_some_and(|it| it.is(BranchStrategy::Reset)) {
                self.notice("reviseFromBranch wins over branchStrategy: reset");
            }
            let from = BranchName::parse(from)
                .map_err(|error| wrong(format!("spec.payload.reviseFromBranch: {error}")))?;
            return Ok(Start::Branch(from));
        }
        Ok(Start::Base)
    }

    /// Makes (or opens again) everything an attempt needs to work.
    pub(super) async fn place(&self) -> Result<Place, NoPlace> {
        self.moved(|progress| {
            progress.stage = Some(foreman_core::model::fleet_node::RunStage::Cloning);
        });
        let (settings, task) = (&self.runner.settings, &self.job.task);
        let payload = &task.spec.payload;
        let given = payload.repo.as_deref().filter(|repo| !repo.is_empty());
        let given = given.ok_or_else(|| wrong("spec.payload.repo is empty: name a repository"))?;
        let verify = task.spec.kind.known() == Some(TaskKind::Verify);
        let push_to = match task.meta.annotations.get(ANNOTATION_PUSH_TO) {
            Some(given) => Some(self.repository(given, ANNOTATION_PUSH_TO)?),
            None => None,
        };
        let source = self.repository(given, "spec.payload.repo")?;
        let target = push_to.clone().unwrap_or_else(|| source.clone());
        let branch = self.branch_name()?;
        let base = payload.base_branch.as_deref().filter(|name| !name.is_empty());
        let base_branch = base
            .map(BranchName::parse)
            .transpose()
            .map_err(|error| wrong(format!("spec.payload.baseBranch: {error}")))?;
        let request = WorkspaceRequest {
            namespace: task.meta.namespace.clone().unwrap_or_default(),
            task: task.meta.name.clone(),
            uid: task.meta.uid.to_string(),
            repository: source,
            base_branch,
            start: self.start(&branch)?,
            branch,
            push_to,
            continues: self.continues_tree_of().map(str::to_owned),
            // What a gate left behind must not help the next one.
            fresh: verify,
        };
        let roots =
            WorkspaceRoots { data: settings.data_dir.clone(), cache: settings.cache_dir.clone() };
        let git = Git::new(settings.credential.clone()).with_helper(settings.helper.clone());
        let workspace = Workspace::open(git, &roots, &request, &self.cancel).await?;
        let workspace = Arc::new(workspace);
        for warning in workspace.warnings() {
            self.notice(warning.clone());
        }
        let explicit = task.spec.gate_profile.as_ref().map(ExplicitGate::from);
        let gate = GatePlan::settle(explicit.as_ref(), &workspace, &self.cancel).await?;
        let (sandbox, layout) = self.sandbox(&workspace, &target)?;
        Ok(Place { workspace, target, sandbox, layout, gate })
    }

    fn sandbox(
        &self,
        workspace: &Workspace,
        repository: &Repository,
    ) -> Result<(Arc<dyn Sandbox>, Layout), NoPlace> {
        let settings = &self.runner.settings;
        if settings.sandbox_tier < settings.sandbox_required {
            let message = format!(
                "the sandbox of this machine reaches tier {}, {} is required: see foreman \
                 doctor, or accept less by --sandbox {}",
                settings.sandbox_tier, settings.sandbox_required, settings.sandbox_tier
            );
            return Err(Fault::saying(Infrastructure::SandboxUnavailable, message).into());
        }
        let digest = Sha256::digest(repository.url().as_bytes());
        let name: String = hex(&digest).chars().take(CACHE_NAME_CHARS).collect();
        // What a model could write is not what a verification builds with.
        let verify = self.job.task.spec.kind.known() == Some(TaskKind::Verify);
        let trust = if verify { "-verify" } else { "" };
        let layout = Layout {
            tree: workspace.tree().to_owned(),
            private: settings.data_dir.join("private").join(workspace.uid()),
            cache: settings.cache_dir.join("builds").join(format!("{name}{trust}")),
        };
        let mut sandbox = SandboxSettings::new(layout.clone());
        sandbox.helper.clone_from(&settings.helper);
        sandbox.read.clone_from(&settings.sandbox_read);
        sandbox.read.push(workspace.git_dir().to_owned());
        sandbox.read.push(workspace.mirror().to_owned());
        sandbox.hide.clone_from(&settings.sandbox_hide);
        // Beneath whatever the user grants: other runs, and what they said.
        let private = ["journals", "patches"].map(|name| settings.data_dir.join(name));
        sandbox.hide.extend(private);
        sandbox.protect.push(workspace.tree().join(".git"));
        let unavailable =
            |error| NoPlace::Fault(Fault::new(Infrastructure::SandboxUnavailable, &error));
        if settings.sandbox_required == Tier::None {
            let unconfined = Unconfined::new(sandbox).map_err(unavailable)?;
            return Ok((Arc::new(unconfined), layout));
        }
        let confined = ProcessSandbox::new(sandbox, settings.sandbox_tier).map_err(unavailable)?;
        Ok((Arc::new(confined), layout))
    }

    /// Says where the work begins.
    pub(super) fn ready(&self, place: &Place, model: Option<String>, instructions: Option<String>) {
        let base = place.workspace.base().to_owned();
        self.tell(RunEvent::WorkspaceReady { base, model, instructions });
    }
}
