//! Running a gate in the sandbox.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    GateError, GateOutcome, GatePlan, GateReport, GateStep, OUTPUT_TAIL_BYTES_MAX, StepReport,
};
use crate::sandbox::{CommandOutput, Exit, Layout, Sandbox, SandboxCommand};
use crate::workspace::{Workspace, hex};

/// How often the gate is run when it changes the tree that it judges: the first
/// run may write a lockfile, the second must leave everything as it is.
const ROUNDS_MAX: u32 = 2;
/// Files by which the need for a new setup is known.
const LOCKFILES: &[&str] = &[
    "Cargo.lock",
    "go.sum",
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "uv.lock",
    "poetry.lock",
    "requirements.txt",
    "Gemfile.lock",
    "composer.lock",
    "flake.lock",
    "mix.lock",
];
/// Size of a lockfile, in bytes.
const LOCKFILE_BYTES_MAX: usize = 64 << 20;

/// Signs in the output that a command could not judge. Lower case.
const CANNOT_JUDGE: &[&str] = &[
    "command not found",
    "bad interpreter",
    "no such command",
    "no module named pytest",
    "could not resolve host",
    "temporary failure in name resolution",
    "name or service not known",
    "failed to lookup address",
    "getaddrinfo",
    "enotfound",
    "eai_again",
    "dial tcp: lookup",
    "module lookup disabled by goproxy=off",
    "enotcached",
    "you may need to run with the network",
    "attempting to make an http request, but --offline was specified",
    "no matching package named",
    "unable to update registry",
    "failed to download",
];

/// Runs every command of the plan on the tree as it is.
///
/// # Errors
/// `Cancelled`; `Workspace` when the tree cannot be hashed.
pub async fn run_gate(
    plan: &GatePlan,
    sandbox: &dyn Sandbox,
    workspace: &Workspace,
    cancel: &CancellationToken,
) -> Result<GateReport, GateError> {
    let mut tree = workspace.tree_hash(cancel).await?;
    let report = |outcome, tree: &str, steps| GateReport {
        outcome,
        source: plan.source.clone(),
        tree: tree.to_owned(),
        steps,
    };
    if plan.steps.is_empty() {
        return Ok(report(GateOutcome::NotConfigured, &tree, Vec::new()));
    }
    let mut steps = Vec::new();
    for _ in 0..ROUNDS_MAX {
        steps.clear();
        for step in &plan.steps {
            steps.push(run_step(step, plan.timeout, sandbox, workspace, cancel).await?);
        }
        let after = workspace.tree_hash(cancel).await?;
        let outcome = sum(&steps);
        if after == tree || outcome != GateOutcome::Passed {
            return Ok(report(outcome, &tree, steps));
        }
        // What passed is not what is there now: judge that.
        tree = after;
    }
    if let Some(last) = steps.last_mut() {
        last.outcome = GateOutcome::Error;
        last.reason = Some("the gate changes files of the tree each time it runs".to_owned());
    }
    Ok(report(GateOutcome::Error, &tree, steps))
}

/// One error is an error, else one failure is a failure.
fn sum(steps: &[StepReport]) -> GateOutcome {
    let any = |outcome| steps.iter().any(|step| step.outcome == outcome);
    match () {
        () if steps.is_empty() => GateOutcome::NotConfigured,
        () if any(GateOutcome::Error) => GateOutcome::Error,
        () if any(GateOutcome::Failed) => GateOutcome::Failed,
        () => GateOutcome::Passed,
    }
}

async fn run_step(
    step: &GateStep,
    timeout: Duration,
    sandbox: &dyn Sandbox,
    workspace: &Workspace,
    cancel: &CancellationToken,
) -> Result<StepReport, GateError> {
    let command = shell(&step.command, workspace.tree(), timeout, false);
    let step = step.clone();
    match sandbox.run(command, cancel).await {
        Ok(output) => {
            if output.exit == Exit::Cancelled {
                return Err(GateError::Cancelled);
            }
            let (outcome, reason) = judged(&output, timeout);
            let (exit, duration) = (Some(output.exit), output.duration);
            Ok(StepReport { step, exit, duration, output: tail(&output.output), outcome, reason })
        }
        Err(error) => Ok(StepReport {
            step,
            exit: None,
            duration: Duration::ZERO,
            output: String::new(),
            outcome: GateOutcome::Error,
            reason: Some(match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }),
    }
}

/// What a command's end says about the tree.
fn judged(output: &CommandOutput, timeout: Duration) -> (GateOutcome, Option<String>) {
    let error = |reason: String| (GateOutcome::Error, Some(reason));
    match output.exit {
        Exit::Code(0) => (GateOutcome::Passed, None),
        Exit::Code(127) => error("a program was not found (exit 127)".to_owned()),
        Exit::Code(126) => error("a program cannot be executed (exit 126)".to_owned()),
        Exit::Code(_) => {
            let lower = output.output.to_lowercase();
            match CANNOT_JUDGE.iter().find(|sign| lower.contains(*sign)) {
                Some(sign) => error(format!("its output says {sign:?}")),
                None => (GateOutcome::Failed, None),
            }
        }
        Exit::Signal(9) => error("it was killed (signal 9); was memory short?".to_owned()),
        Exit::Signal(_) => (GateOutcome::Failed, None),
        Exit::TimedOut => error(format!("it ran longer than {} s", timeout.as_secs())),
        Exit::Cancelled => error("it was stopped".to_owned()),
    }
}

fn shell(line: &str, tree: &Path, timeout: Duration, network: bool) -> SandboxCommand {
    SandboxCommand {
        argv: ["sh", "-c", line].map(str::to_owned).to_vec(),
        dir: tree.to_owned(),
        timeout,
        // The signs of an error may stand at the head of the output.
        output_bytes_max: OUTPUT_TAIL_BYTES_MAX * 8,
        network,
        env: BTreeMap::new(),
    }
}

/// The last bytes of an output, from the start of a line if there is one.
fn tail(output: &str) -> String {
    if output.len() <= OUTPUT_TAIL_BYTES_MAX {
        return output.to_owned();
    }
    let from = output.ceil_char_boundary(output.len() - OUTPUT_TAIL_BYTES_MAX);
    let rest = output.get(from..).unwrap_or_default();
    rest.split_once('\n').map_or(rest, |(_, whole)| whole).to_owned()
}

/// Runs the plan's setup with the network, unless it succeeded before with these
/// very lockfiles of the base commit and this very command. Returns a warning
/// when one that is not required failed.
///
/// # Errors
/// `Setup` or `Sandbox` when a required one failed; `Cancelled`.
pub async fn run_setup(
    plan: &GatePlan,
    sandbox: &dyn Sandbox,
    workspace: &Workspace,
    layout: &Layout,
    cancel: &CancellationToken,
) -> Result<Option<String>, GateError> {
    let Some(setup) = &plan.setup else {
        return Ok(None);
    };
    let mark = layout.setup_marks().join(setup_hash(&setup.command, workspace, cancel).await?);
    // What a setup leaves in the tree is gone with the tree: once per workspace,
    // and once per lockfile for the cache.
    let here = workspace.git_dir().join("foreman-setup-done");
    if mark.exists() && here.exists() {
        return Ok(None);
    }
    let command = shell(&setup.command, workspace.tree(), plan.timeout, true);
    let (reason, source) = match sandbox.run(command, cancel).await {
        Ok(output) => match output.exit {
            Exit::Code(0) => {
                record(&mark)?;
                record(&here)?;
                return Ok(None);
            }
            Exit::Cancelled => return Err(GateError::Cancelled),
            exit @ (Exit::Code(_) | Exit::Signal(_) | Exit::TimedOut) => {
                (format!("{exit:?}: {}", tail(&output.output).trim()), None)
            }
        },
        Err(error) => (error.to_string(), Some(error)),
    };
    let command = setup.command.clone();
    match (setup.required, source) {
        (true, None) => Err(GateError::Setup { command, reason }),
        (true, Some(source)) => Err(GateError::Sandbox { command, source }),
        (false, _) => Ok(Some(format!(
            "setup `{command}` failed, the gate uses what is on this machine: {reason}"
        ))),
    }
}

fn record(path: &Path) -> Result<(), GateError> {
    let folder = path.parent().unwrap_or(path);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, ""));
    written.map_err(|source| GateError::Record { path: path.display().to_string(), source })
}

async fn setup_hash(
    command: &str,
    workspace: &Workspace,
    cancel: &CancellationToken,
) -> Result<String, GateError> {
    let mut hash = Sha256::new();
    hash.update(command.as_bytes());
    for name in LOCKFILES {
        if let Some(bytes) = workspace.base_file(name, LOCKFILE_BYTES_MAX, cancel).await? {
            hash.update([0]);
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(&bytes);
        }
    }
    Ok(hex(&hash.finalize()))
}
