use serde_json::{Value, json};

use super::*;

fn notes(status: Value) -> Option<StepNotes> {
    of(&serde_json::from_value(status).expect("a status"))
}

#[test]
fn what_a_reviewer_found_is_kept_in_lines() {
    let noted = notes(json!({
    "phase": "Succeeded", "verdict": "NO-GO",
    "result": {"summary": "not yet", "extra": {"outcome": "MODEL-DECIDED", "modelExtra": {
        "findings": [
            {"severity": "blocker", "file": "src/a.rs", "line": 3, "message": "it panics"},
            {"severity": "minor", "file": "b.rs", "message": "a typo"},
            {"message": "no tests"},
            "plain words",
            {"odd": 1},
        ]}}}}));
    assert_eq!(
        noted,
        Some(StepNotes {
            outcome: Some("MODEL-DECIDED".into()),
            summary: Some("not yet".into()),
            findings: vec![
                "blocker src/a.rs:3: it panics".into(),
                "minor b.rs: a typo".into(),
                "finding: no tests".into(),
                "plain words".into(),
                "{\"odd\":1}".into(),
            ],
            ..StepNotes::default()
        })
    );
}

#[test]
fn of_work_on_target_only_advisories_and_the_branch_are_kept() {
    let go = json!({
        "phase": "Succeeded", "verdict": "GO", "branch": "b",
        "result": {"summary": "done", "extra": {"outcome": "MODEL-DECIDED",
            "modelExtra": {"findings": ["x"]},
            "gateAdvisories": [{"check": "lint", "detail": "long line"}, "words"]}}});
    let wanted = StepNotes {
        branch: Some("b".into()),
        advisories: vec![
            GateAdvisory { check: Some("lint".into()), detail: Some("long line".into()) },
            GateAdvisory { check: None, detail: Some("words".into()) },
        ],
        ..StepNotes::default()
    };
    assert_eq!(notes(go), Some(wanted));
    assert_eq!(notes(json!({"phase": "Succeeded", "verdict": "GO"})), None);
    assert_eq!(notes(json!({"phase": "Failed", "result": {"extra": []}})), None);
}

#[test]
fn notes_are_bounded() {
    let many: Vec<_> = (0..1000).map(|n| json!({"message": "é".repeat(n * 10)})).collect();
    let noted = notes(json!({"phase": "Succeeded", "verdict": "NO-GO", "branch": "b".repeat(9999),
        "result": {"summary": "s".repeat(99_999), "extra": {
            "outcome": "o".repeat(9999), "gateAdvisories": many,
            "modelExtra": {"findings": many}}}}))
    .expect("noted");
    assert_eq!(noted.findings.len(), STEP_NOTES_MAX);
    assert_eq!(noted.advisories.len(), STEP_NOTES_MAX);
    let text = serde_json::to_string(&noted).expect("plain");
    assert!(text.chars().count() < 10_000, "{} characters", text.chars().count());
    assert!(noted.summary.is_some_and(|text| text.chars().count() == STEP_SUMMARY_CHARS_MAX));
}
