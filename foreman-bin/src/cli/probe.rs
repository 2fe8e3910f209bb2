//! `foreman probe`: what this machine can do, how we know, and why parts are missing.

use std::fmt::Write as _;
use std::sync::Arc;

use foreman_core::fleet::CompositeProbe;
use foreman_core::model::Capability;
use foreman_core::ports::CapabilityProbe as _;
use foreman_probe::sys::go_arch;
use foreman_probe::{DeclaredProbe, Discoverer, PartReport, PartState, Sys, machine_parts};
use foreman_runner::sandbox_probe::{self, SandboxReport};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::output::{self, FormatArgs, Paint, Table, paint};
use crate::parts::node_name;
use crate::settings::{ModelFlags, NodeFlags, Origin, Settings};

/// Flags of `foreman probe`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show what this machine offers as a node: memory, processors, disk, accelerators, models, the sandbox; for \
each how we know, and why it is missing where it is. Node options override what is probed, here as in foreman up. Nothing \
is written.",
    after_long_help = "Examples:\n  foreman probe\n  foreman probe --total-ram-gb 48 --accelerator cuda -o json"
)]
pub struct ProbeArgs {
    /// The form of the answer.
    #[command(flatten)]
    pub format: FormatArgs,
    /// The model server.
    #[command(flatten)]
    pub model: ModelFlags,
    /// This machine as a node.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// What was found.
struct Findings {
    node: String,
    os: String,
    arch: String,
    capability: Capability,
    parts: Vec<PartReport>,
    sandbox: SandboxReport,
}

/// Probes this machine.
///
/// # Errors
/// A setting that cannot be used; a part that does not answer is no error.
pub async fn probe(args: &ProbeArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let findings = look(settings).await?;
    match args.format.machine(&report(&findings, settings))? {
        Some(text) => output::print(&text)?,
        None => output::print(&text(&findings, settings))?,
    }
    Ok(Exit::OnTarget)
}

async fn look(settings: &Settings) -> anyhow::Result<Findings> {
    let sys = Sys::this_machine();
    let discoverer = Discoverer::new(settings.discovery()?)?;
    let machine = machine_parts(&sys, settings.paths.data_dir.clone(), Some(discoverer));
    let all = Arc::new(CompositeProbe::new(machine.probes()));
    let declared = DeclaredProbe::new(all, settings.node.declared.clone());
    let scratch = tempfile::tempdir()?;
    let helper = std::env::current_exe().ok();
    let (capability, sandbox) =
        futures::join!(declared.probe(), sandbox_probe::probe(helper, scratch.path()));
    Ok(Findings {
        node: node_name(&settings.node)?.to_string(),
        os: sys.os.go_name().to_owned(),
        arch: go_arch(&sys.arch).to_owned(),
        capability: capability?,
        parts: machine.reports(),
        sandbox,
    })
}

/// How the value of a flag is known: declared where somebody said it, else probed.
fn how(settings: &Settings, flag: &str) -> String {
    match settings.origins.get(flag) {
        Some(origin @ (Origin::Flag | Origin::Environment | Origin::File)) => {
            format!("declared ({origin})")
        }
        Some(Origin::Default) | None => "probed".to_owned(),
    }
}

fn text(findings: &Findings, settings: &Settings) -> String {
    let capability = &findings.capability;
    let mut table = Table::new(["WHAT", "VALUE", "HOW WE KNOW"]);
    let mut row = |what: &str, value: Option<String>, how: String| {
        if let Some(value) = value {
            table.row([what.to_owned(), value, how]);
        }
    };
    let probed = || "probed".to_owned();
    row("node", Some(findings.node.clone()), how_named(settings));
    row("system", Some(format!("{}/{}", findings.os, findings.arch)), probed());
    let cores = capability.cpu.as_ref().and_then(|cpu| cpu.cores);
    row("processors", cores.map(|cores| format!("{cores} cores")), probed());
    let memory = match (capability.available_ram_gb, capability.total_ram_gb) {
        (Some(free), Some(total)) => Some(format!("{free} of {total} GB free")),
        (None, Some(total)) => Some(format!("{total} GB")),
        (Some(free), None) => Some(format!("{free} GB free")),
        (None, None) => None,
    };
    row("memory", memory, how(settings, "total-ram-gb"));
    let free = capability.disk.as_ref().and_then(|disk| disk.free_gb);
    row("disk", free.map(|free| format!("{free} GB free")), probed());
    let accelerator = capability.accelerator.as_ref();
    row("accelerator", accelerator.map(ToString::to_string), how(settings, "accelerator"));
    for device in &capability.accelerators {
        let name = device.name.as_deref().unwrap_or("unnamed");
        let memory = device.memory_gb.map_or_else(String::new, |memory| format!(", {memory} GB"));
        let free =
            device.free_memory_gb.map_or_else(String::new, |free| format!(", {free} GB free"));
        row("device", Some(format!("{name}{memory}{free}")), probed());
    }
    let context = capability.max_context_tokens;
    row(
        "context",
        context.map(|tokens| format!("{tokens} tokens")),
        how(settings, "max-context-tokens"),
    );
    for model in &capability.models {
        let name = model.name.as_deref().unwrap_or("unnamed");
        let server = model.server.as_deref().unwrap_or("unknown");
        let loaded = if model.loaded == Some(true) { ", loaded" } else { "" };
        let context =
            model.context_tokens.map_or_else(String::new, |tokens| format!(", ctx {tokens}"));
        let evidence = model.evidence.as_ref().map_or_else(probed, ToString::to_string);
        row("model", Some(format!("{name} @ {server}{loaded}{context}")), evidence);
    }
    row("sandbox", Some(findings.sandbox.tier.to_string()), "measured (self-test)".to_owned());
    if !settings.node.roles.is_empty() {
        row("roles", Some(settings.node.roles.join(", ")), how(settings, "roles"));
    }
    let mut text = table.render(true);
    let missing = missing(findings);
    if !missing.is_empty() {
        let heading = paint(Paint::Strong, "Missing");
        let _infallible = writeln!(text, "\n{heading}\n  {}", missing.join("\n  "));
    }
    text
}

fn how_named(settings: &Settings) -> String {
    match how(settings, "fleet-node-name") {
        probed if probed == "probed" => "from the host name".to_owned(),
        declared => declared,
    }
}

/// What is not there, or not as it should be, and why.
fn missing(findings: &Findings) -> Vec<String> {
    let mut lines: Vec<String> = findings
        .parts
        .iter()
        .filter(|report| !matches!(report.state, PartState::Fresh { note: None }))
        .map(|report| crate::untrusted::Untrusted::line(&report.to_string()).to_string())
        .collect();
    let next = findings.sandbox.why_not_more.as_ref();
    lines.extend(next.map(|why| {
        let why = crate::untrusted::Untrusted::line(why).to_string();
        format!("sandbox: not more than {}, because {why}", findings.sandbox.tier)
    }));
    lines
}

fn report(findings: &Findings, settings: &Settings) -> Value {
    let parts: Vec<Value> = findings
        .parts
        .iter()
        .map(|part| {
            let (state, reason) = match &part.state {
                PartState::NotAsked => ("notAsked", None),
                PartState::Fresh { note } => ("ok", note.clone()),
                PartState::Absent { reason } => ("none", Some(reason.clone())),
                PartState::Kept { reason, .. } => ("kept", Some(reason.clone())),
                PartState::Missing { reason } => ("unknown", Some(reason.clone())),
            };
            json!({ "part": part.part, "state": state, "reason": reason })
        })
        .collect();
    let attempts: Vec<Value> = findings
        .sandbox
        .findings
        .iter()
        .map(|one| {
            json!({
                "tier": one.tier.as_str(),
                "attempt": one.attempt,
                "held": one.held,
                "detail": one.detail,
            })
        })
        .collect();
    let declared: Vec<&str> = settings
        .origins
        .iter()
        .filter(|(flag, origin)| DECLARED.contains(flag) && **origin != Origin::Default)
        .map(|(flag, _)| *flag)
        .collect();
    json!({
        "node": findings.node,
        "os": findings.os,
        "arch": findings.arch,
        "roles": settings.node.roles,
        "capability": findings.capability,
        "declared": declared,
        "parts": parts,
        "sandbox": {
            "tier": findings.sandbox.tier.as_str(),
            "whyNotMore": findings.sandbox.why_not_more,
            "attempts": attempts,
        },
    })
}

/// The flags that stand in place of something probed.
const DECLARED: [&str; 5] =
    ["accelerator", "total-ram-gb", "max-context-tokens", "tokens-per-second", "installed-models"];
