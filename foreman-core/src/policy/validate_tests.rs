use serde_json::{Value, json};

use super::*;

fn found(kind: AnyKind, spec: &Value) -> Vec<(Severity, String, String)> {
    let manifest = json!({"metadata": {"name": "me"}, "spec": spec});
    let findings = validate(kind, &manifest);
    findings.into_iter().map(|one| (one.severity, one.field, one.rule)).collect()
}

/// One case: what is wrong with `spec`, as severity, field and a part of the rule.
fn check_case(kind: AnyKind, spec: &Value, wanted: &[(Severity, &str, &str)]) {
    let found = found(kind, spec);
    let fields: Vec<_> = found.iter().map(|(s, field, _)| (*s, field.as_str())).collect();
    let want: Vec<_> = wanted.iter().map(|(s, field, _)| (*s, *field)).collect();
    assert_eq!(fields, want, "{spec} {found:?}");
    for ((_, _, rule), (_, _, part)) in found.iter().zip(wanted) {
        assert!(rule.contains(part), "{rule:?} does not say {part:?}");
    }
}

const E: Severity = Severity::Error;
const W: Severity = Severity::Warning;

fn step(name: &str, after: &[&str]) -> Value {
    json!({"name": name, "kind": "freeform", "agentRef": {"name": "a"}, "payload": {},
        "dependsOn": after})
}

#[test]
fn workloads() {
    let w = AnyKind::Workload;
    let of = |pipeline: Value| json!({"intent": "x", "pipeline": pipeline});
    check_case(w, &of(json!([step("a", &[]), step("b", &["a"])])), &[]);
    check_case(
        w,
        &of(json!([step("a", &[]), step("a", &[])])),
        &[(E, "spec.pipeline", "two steps named \"a\"")],
    );
    check_case(
        w,
        &of(json!([step("a", &["z"])])),
        &[(E, "spec.pipeline", "\"z\", which is no step")],
    );
    check_case(
        w,
        &of(json!([step("a", &["b"]), step("b", &["a"])])),
        &[(E, "spec.pipeline", "wait for each other: a, b")],
    );
    check_case(w, &json!({"intent": "x"}), &[(W, "spec.pipeline", "no planner")]);
    check_case(w, &json!({"intent": "x", "planner": {}}), &[(W, "spec.planner", "not supported")]);
    check_case(
        w,
        &json!({"intent": "x", "issues": [1], "repo": "o/n"}),
        &[(W, "spec.coderAgentRef", "who fixes")],
    );
    check_case(
        w,
        &json!({"intent": "x", "issues": [1], "coderAgentRef": {"name": "c"}, "repo": "nope"}),
        &[(E, "spec.repo", "no slug")],
    );
    let mut cut = of(json!([step("b", &["a"]), step("a", &[])]));
    cut["maxTasks"] = json!(1);
    check_case(w, &cut, &[(E, "spec.maxTasks", "cuts off")]);
    let mut odd = step("a", &[]);
    odd["kind"] = json!("integrate");
    odd["agentRef"] = json!({"name": ""});
    odd["payload"] = json!({"branch": "-x", "images": ["a.png"]});
    check_case(
        w,
        &of(json!([odd])),
        &[
            (E, "spec.pipeline[0].agentRef.name", "who does"),
            (W, "spec.pipeline[0].kind", "not supported"),
            (E, "spec.pipeline[0].payload.branch", "option"),
            (W, "spec.pipeline[0].payload.images", "not supported"),
        ],
    );
    let mut limits = of(json!([step("a", &[])]));
    limits["budget"] = json!({"tokens": 0, "wallSeconds": 7200});
    limits["pipeline"][0]["timeoutSeconds"] = json!(60);
    check_case(
        w,
        &limits,
        &[
            (W, "spec.pipeline[0].timeoutSeconds", "before budget.wallSeconds 7200"),
            (W, "spec.budget.tokens", "0 pauses"),
        ],
    );
}

#[test]
fn tasks() {
    let t = AnyKind::AgenticTask;
    check_case(t, &json!({"kind": "freeform", "payload": {"repo": "/srv/r"}}), &[]);
    check_case(t, &json!({"kind": "issue-fix", "payload": {"issue": 7}}), &[]);
    check_case(
        t,
        &json!({"kind": "issue-fix", "payload": {"prompt": " "}}),
        &[(W, "spec.payload", "neither issue nor prompt")],
    );
    check_case(
        t,
        &json!({"kind": "reconcile", "payload": {}, "dependsOn": ["me", "a", "a"], "timeoutSeconds": 1,
            "retry": {"maxAttempts": 2, "backoffSeconds": 5}, "resumeWaitSeconds": 3}),
        &[
            (W, "spec.kind", "not supported"),
            (E, "spec.dependsOn[0]", "itself"),
            (W, "spec.dependsOn[2]", "second time"),
            (W, "spec.timeoutSeconds", "too short"),
            (W, "spec.retry.backoffSeconds", "not supported"),
            (W, "spec.resumeWaitSeconds", "not supported"),
        ],
    );
    check_case(
        t,
        &json!({"kind": "freeform", "payload": {"repo": "https://u:p@h/a", "baseBranch": "a..b",
            "reviseFromBranch": "HEAD", "branchPrefix": "/x"}}),
        &[
            (E, "spec.payload.baseBranch", ".."),
            (E, "spec.payload.reviseFromBranch", "keeps for itself"),
            (E, "spec.payload.branchPrefix", "begins with"),
            (E, "spec.payload.repo", "credentials"),
        ],
    );
    check_case(t, &json!({"kind": "freeform", "payload": {"branchPrefix": "foreman/"}}), &[]);
}

#[test]
fn agents_as_the_existing_webhook_does_but_for_prompts_and_tools_that_we_bring() {
    let a = AnyKind::Agent;
    let model = json!({"role": "coder", "tools": ["bash", "submit_result"], "systemPrompt": "s",
        "inferenceServiceRef": {"name": "m"}});
    check_case(a, &model, &[]);
    check_case(a, &json!({"role": "verifier", "tools": ["run_gate_job"]}), &[]);
    check_case(
        a,
        &json!({"role": "coder", "tools": ["shell"], "systemPrompt": " ",
            "inferenceServiceRef": {"name": "m"}}),
        &[(E, "spec.tools[0]", "\"shell\" is no tool")],
    );
    check_case(
        a,
        &json!({"role": "verifier", "tools": ["submit_result"], "systemPrompt": "s"}),
        &[(E, "spec.systemPrompt", "must be empty"), (E, "spec.tools", "other than submit_result")],
    );
    check_case(
        a,
        &json!({"role": "coder", "tools": ["bash"], "provider": "cloud-proxy"}),
        &[(W, "spec.providerConfig.baseURL", "needed to reach")],
    );
    check_case(
        a,
        &json!({"role": "reviewer", "tools": ["read_file"], "inferenceServiceRef": {"name": "m"}}),
        &[],
    );
}

#[test]
fn agents_beyond_the_webhook() {
    let spec = json!({"role": "planner", "tools": ["bash", "bash", "run_integrate"],
        "systemPrompt": "s", "provider": "cloud-proxy",
        "providerConfig": {"baseURL": "https://key@host/v1"},
        "execution": {"mode": "Job"}, "mcp": {"enabled": true}, "vision": {"enabled": true},
        "contextWindowTokens": 4096, "requestTurnTimeoutSeconds": 9, "requestTimeoutSeconds": 8,
        "temperature": "2.5", "stuckLoopDetection": {"contextSoftCap": 2, "contextHardCap": 1}});
    check_case(
        AnyKind::Agent,
        &spec,
        &[
            (W, "spec.tools[1]", "second time"),
            (W, "spec.tools[2]", "not supported"),
            (E, "spec.providerConfig.baseURL", "credentials"),
            (W, "spec.role", "not supported"),
            (W, "spec.execution.mode", "not supported"),
            (W, "spec.mcp.enabled", "not supported"),
            (W, "spec.vision.enabled", "not supported"),
            (W, "spec.maxOutputTokens", "8192 tokens leaves no room for a prompt in 4096"),
            (W, "spec.requestTurnTimeoutSeconds", "more than"),
            (W, "spec.temperature", "above 2"),
            (W, "spec.stuckLoopDetection.contextSoftCap", "above contextHardCap"),
        ],
    );
}

#[test]
fn nodes_releases_and_profiles() {
    check_case(AnyKind::FleetNode, &json!({"nodeName": "n", "slots": 2}), &[]);
    check_case(
        AnyKind::FleetNode,
        &json!({"nodeName": "n", "slots": 0, "drain": {}}),
        &[(W, "spec.slots", "nothing ever runs")],
    );
    let artifact = json!({"os": "linux", "arch": "amd64", "url": "http://h/a", "sha256": "0"});
    check_case(
        AnyKind::AgentRelease,
        &json!({"agentKind": "foreman-agent", "version": "1", "artifacts": [artifact, artifact]}),
        &[
            (W, "kind", "nothing acts"),
            (W, "spec.artifacts[0].url", "not https"),
            (E, "spec.artifacts[1]", "linux/amd64"),
            (W, "spec.artifacts[1].url", "not https"),
        ],
    );
    check_case(
        AnyKind::ModelProfile,
        &json!({"stuckLoopDetection": {"contextSoftCap": 9, "contextHardCap": 0}}),
        &[],
    );
}

#[test]
fn a_spec_that_does_not_fit_is_left_to_the_schema() {
    assert_eq!(validate(AnyKind::Agent, &json!({"spec": {"role": 7}})), []);
    assert_eq!(validate(AnyKind::Workload, &json!({})), []);
}
