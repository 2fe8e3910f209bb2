use super::*;
use crate::model::workload::PipelineStep;

fn step(name: &str, depends_on: &[&str]) -> PipelineStep {
    PipelineStep {
        name: name.to_owned(),
        kind: TaskKind::Freeform.into(),
        agent_ref: LocalObjectReference::to("a"),
        payload: AgenticTaskPayload::default(),
        depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
        timeout_seconds: None,
        priority: None,
        gate_profile: None,
    }
}

fn spec(pipeline: Vec<PipelineStep>) -> WorkloadSpec {
    WorkloadSpec { intent: "x".into(), pipeline, ..WorkloadSpec::default() }
}

#[test]
fn a_pipeline_is_taken_as_it_is_with_the_workloads_defaults() {
    let gate = GateProfile { image: Some("i".into()), ..GateProfile::default() };
    let mut spec = spec(vec![step("code", &[]), step("verify", &["code"])]);
    spec.gate_profile = Some(gate.clone());
    let steps = desired(&spec).expect("a plan");
    assert_eq!(steps.len(), 2);
    assert_eq!(steps[1].depends_on, ["code"]);
    assert_eq!(steps[0].gate_profile, Some(gate));
}

#[test]
fn faults_of_a_pipeline_are_named() {
    let cases = [
        (spec(vec![]), "NoPlannerOrPipeline"),
        (spec(vec![step("a", &[]), step("a", &[])]), "InvalidPipeline"),
        (spec(vec![step("a", &["b"])]), "InvalidPipeline"),
        (spec(vec![step("a", &["b"]), step("b", &["a"]), step("c", &[])]), "InvalidPipeline"),
        (spec(vec![step("a", &["a"])]), "InvalidPipeline"),
    ];
    for (spec, reason) in cases {
        let error = desired(&spec).expect_err("no plan");
        assert_eq!(error.reason(), reason, "{error}");
    }
    let mut cut = spec(vec![step("b", &["a"]), step("a", &[]), step("c", &[])]);
    cut.max_tasks = Some(1);
    let error = desired(&cut).expect_err("b could never start");
    assert_eq!(error.to_string(), "step \"b\" depends on \"a\", which spec.maxTasks 1 cuts off");
    cut.max_tasks = Some(2);
    assert_eq!(desired(&cut).expect("a plan").len(), 2);
    let error = desired(&spec(vec![step("a", &["b"]), step("b", &["a"]), step("c", &[])]));
    assert_eq!(error, Err(PlanError::Cycle { steps: vec!["a".into(), "b".into()] }));
}
