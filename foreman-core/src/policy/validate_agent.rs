//! What the schema cannot say of an Agent: the rules of the existing admission webhook, but for those
//! that a runner with prompts of its own has no need of.

use super::validate::{Findings, stuck_loop};
use crate::model::agent::{AgentRole, AgentSpec, ExecutionMode, Provider};
use crate::model::shared::LocalObjectReference;

/// The tool that ends a run.
const SUBMIT_RESULT: &str = "submit_result";
/// Names of tools: those of the existing system, in its order, then ours.
const TOOLS: [&str; 13] = [
    "bash",
    "fetch_issue",
    "fetch_pull_request",
    "grep",
    "read_file",
    "run_gate_job",
    "run_integrate",
    "run_reconcile",
    "str_replace",
    SUBMIT_RESULT,
    "write_file",
    "git_diff",
    "git_status",
];
/// Tools that a manifest may name and nothing provides yet.
const TOOLS_LATER: [&str; 2] = ["run_integrate", "run_reconcile"];
/// The context of an Agent that names none, in tokens.
const CONTEXT_TOKENS: i32 = 32_768;
/// The longest answer of an Agent that names none, in tokens.
const OUTPUT_TOKENS: i32 = 8_192;

pub(super) fn agent(spec: &AgentSpec, out: &mut Findings) {
    tools(spec, out);
    prompt(spec, out);
    provider(spec, out);
    if spec.role.is(AgentRole::Planner) {
        out.unsupported("spec.role");
    }
    let job = spec.execution.as_ref().and_then(|execution| execution.mode.as_ref());
    if job.is_some_and(|mode| !mode.is(ExecutionMode::InProcess)) {
        out.unsupported("spec.execution.mode");
    }
    if spec.mcp.as_ref().is_some_and(|mcp| mcp.enabled == Some(true)) {
        out.unsupported("spec.mcp.enabled");
    }
    if spec.vision.as_ref().is_some_and(|vision| vision.enabled == Some(true)) {
        out.unsupported("spec.vision.enabled");
    }
    limits(spec, out);
    stuck_loop(spec.stuck_loop_detection.as_ref(), out);
}

fn tools(spec: &AgentSpec, out: &mut Findings) {
    for (index, tool) in spec.tools.iter().enumerate() {
        let field = format!("spec.tools[{index}]");
        if !TOOLS.contains(&tool.as_str()) {
            out.error(field, format!("{tool:?} is no tool, use: {}", TOOLS.join(", ")));
        } else if TOOLS_LATER.contains(&tool.as_str()) {
            out.unsupported(field);
        } else if spec.tools.iter().take(index).any(|other| other == tool) {
            out.warning(field, format!("names {tool:?} a second time"));
        }
    }
}

/// An Agent without a model: its first tool is called, and that is all.
fn is_deterministic(spec: &AgentSpec) -> bool {
    let local = spec.provider.as_ref().is_none_or(|provider| provider.is(Provider::Local));
    let served = spec.inference_service_ref.as_ref().and_then(LocalObjectReference::named);
    local && served.is_none()
}

fn prompt(spec: &AgentSpec, out: &mut Findings) {
    let text = spec.system_prompt.as_deref().unwrap_or_default();
    if !is_deterministic(spec) {
        // An absent one is no fault: the runner has a prompt for each role.
        return;
    }
    if !text.is_empty() {
        out.error(
            "spec.systemPrompt",
            "must be empty: without spec.inferenceServiceRef no model would read it",
        );
    }
    if spec.tools.iter().all(|tool| tool == SUBMIT_RESULT) {
        out.error(
            "spec.tools",
            "must name a tool other than submit_result: without spec.inferenceServiceRef that tool \
             is all that the Agent does",
        );
    }
}

fn provider(spec: &AgentSpec, out: &mut Findings) {
    let cloud = spec.provider.as_ref().is_some_and(|provider| !provider.is(Provider::Local));
    let config = spec.provider_config.as_ref();
    if cloud && config.and_then(|config| config.base_url.as_ref()).is_none() {
        out.warning("spec.providerConfig.baseURL", "is needed to reach the provider");
    }
    if let Some(url) = config.and_then(|config| config.base_url.as_deref()) {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        match rest {
            None => out.warning("spec.providerConfig.baseURL", "is no http or https URL"),
            Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => {
                out.error(
                    "spec.providerConfig.baseURL",
                    "holds credentials: put them into a Secret (apiKeySecretRef)",
                );
            }
            Some(_) => {}
        }
    }
}

fn limits(spec: &AgentSpec, out: &mut Findings) {
    let or = |value: Option<i32>, default| value.filter(|value| *value > 0).unwrap_or(default);
    let context = or(spec.context_window_tokens, CONTEXT_TOKENS);
    let output = or(spec.max_output_tokens, OUTPUT_TOKENS);
    if output >= context {
        out.warning(
            "spec.maxOutputTokens",
            format!("an answer of {output} tokens leaves no room for a prompt in {context} tokens"),
        );
    }
    if let (Some(turn), Some(all)) =
        (spec.request_turn_timeout_seconds, spec.request_timeout_seconds)
        && turn > all
    {
        out.warning(
            "spec.requestTurnTimeoutSeconds",
            format!("{turn} s is more than requestTimeoutSeconds {all}, which ends the run first"),
        );
    }
    let hot = spec.temperature.as_deref().and_then(|text| text.parse::<f64>().ok());
    if hot.is_some_and(|temperature| temperature > 2.0) {
        out.warning("spec.temperature", "is above 2, which model servers refuse");
    }
}
