use serde_json::{Value, json};

use super::*;

fn status(json: Value) -> AgenticTaskStatus {
    serde_json::from_value(json).expect("a status")
}

/// decision, verification, infrastructure, reason
fn words(json: Value) -> String {
    let outcome = Outcome::of(&status(json));
    let reason = outcome.reason.map_or("-", OutcomeReason::as_str);
    format!("{} {} {} {reason}", outcome.decision, outcome.verification, outcome.infrastructure)
}

#[test]
fn what_we_write_is_read_back_as_it_is() {
    for decision in Decision::ALL {
        for verification in Verification::ALL {
            for infrastructure in Infrastructure::ALL {
                let outcome = Outcome {
                    decision: *decision,
                    verification: *verification,
                    infrastructure: *infrastructure,
                    reason: Some(OutcomeReason::Declined),
                };
                let status = AgenticTaskStatus {
                    outcome: Some(outcome.record()),
                    verdict: Some(Verdict::Incomplete.into()),
                    ..AgenticTaskStatus::default()
                };
                assert_eq!(Outcome::of(&status), outcome);
            }
        }
    }
}

#[test]
fn objects_of_other_agents_are_derived() {
    let envelope = |word: &str| json!({"extra": {"outcome": word}});
    let nested = |word: &str| json!({"extra": {"outcome": "MODEL-DECIDED", "modelExtra": {"outcome": word}}});
    let cases = [
        (json!({"phase": "Succeeded", "verdict": "GO"}), "Go NotVerified Ok -"),
        (json!({"phase": "Succeeded", "verdict": "NO-GO"}), "NoGo NotApplicable Ok -"),
        (
            json!({"phase": "Succeeded", "verdict": "NO-GO", "result": envelope("ALREADY-RESOLVED")}),
            "NoGo NotApplicable Ok AlreadyResolved",
        ),
        (
            json!({"phase": "Succeeded", "verdict": "NO-GO", "result": nested("NEEDS-VERIFICATION")}),
            "NoGo NotApplicable Ok NeedsVerification",
        ),
        (
            json!({"phase": "Succeeded", "verdict": "NO-GO", "result": envelope("NO-CHANGES")}),
            "NoGo NotApplicable Ok NoChanges",
        ),
        (
            json!({"phase": "Succeeded", "verdict": "INCOMPLETE", "failureReason": "GateFailed"}),
            "Go Failed Ok GateFailed",
        ),
        (
            json!({"phase": "Succeeded", "verdict": "INCOMPLETE",
                "result": nested("CODER-GATE-FAILED")}),
            "Go Failed Ok GateFailed",
        ),
        (
            json!({"phase": "Succeeded", "verdict": "INCOMPLETE",
                "failureReason": "MaxTurnsExhausted"}),
            "Incomplete NotVerified Ok TurnLimit",
        ),
        (
            json!({"phase": "Succeeded", "verdict": "INCOMPLETE",
                "failureReason": "ConstraintViolated"}),
            "Incomplete NotVerified Ok StuckLoop",
        ),
        (json!({"phase": "Succeeded", "verdict": "GATE-PASS"}), "None Passed Ok -"),
        (json!({"phase": "Succeeded", "verdict": "GATE-FAIL"}), "None Failed Ok -"),
        (json!({"phase": "Succeeded", "verdict": "GATE-ERROR"}), "None Error Ok -"),
        (json!({"phase": "Succeeded", "verdict": "Skipped"}), "None NotApplicable Ok -"),
        (
            json!({"phase": "Failed", "verdict": "INCOMPLETE", "failureReason": "InfrastructureError"}),
            "Incomplete NotVerified Error -",
        ),
        (
            json!({"phase": "Failed", "verdict": "INCOMPLETE", "failureReason": "InfrastructureError",
                "result": envelope("PUSH-FAILED")}),
            "Incomplete NotVerified PushRefused -",
        ),
        (
            json!({"phase": "Failed", "verdict": "INCOMPLETE", "failureReason": "Timeout"}),
            "Incomplete NotVerified TimedOut -",
        ),
        (
            json!({"phase": "Failed", "failureReason": "InferenceServiceUnavailable"}),
            "None NotApplicable ModelUnavailable -",
        ),
        (
            json!({"phase": "Failed", "failureReason": "CloneFailed"}),
            "None NotApplicable GitUnavailable -",
        ),
        (json!({"phase": "Failed"}), "None NotApplicable Error -"),
        (json!({}), "None NotApplicable Ok -"),
    ];
    for (json, wanted) in cases {
        assert_eq!(words(json.clone()), wanted, "{json}");
    }
}

#[test]
fn what_we_do_not_know_is_never_read_as_verified() {
    let unknown = json!({"phase": "Succeeded", "verdict": "GO", "outcome": {
        "decision": "Perhaps", "verification": "PassedTwice", "infrastructure": "Fine",
        "reason": "Whim"}});
    assert_eq!(words(unknown), "None NotVerified Error -");
    assert_eq!(
        words(json!({"phase": "Succeeded", "verdict": "GATE-PASS!"})),
        "None NotApplicable Ok -"
    );
    let partly = json!({"phase": "Succeeded", "verdict": "GATE-PASS",
        "outcome": {"verification": "Skipped"}});
    assert_eq!(words(partly), "None NotVerified Ok -");
    for verdict in ["GO!", "go", ""] {
        assert!(
            !on_target(&status(json!({"phase": "Succeeded", "verdict": verdict}))),
            "{verdict}"
        );
    }
    assert!(!on_target(&status(json!({"phase": "Failed", "verdict": "GO"}))));
    assert!(on_target(&status(json!({"phase": "Succeeded", "verdict": "GATE-PASS"}))));
}
