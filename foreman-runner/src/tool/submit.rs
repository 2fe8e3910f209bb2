//! `submit_result`: how a model says that it is done. The loop takes it; nothing runs here.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ToolSpec;
use crate::limits::{COMMIT_MESSAGE_BYTES_MAX, EXTRA_BYTES_MAX, FINDINGS_MAX, SUMMARY_BYTES_MAX};
use crate::text::clip;

/// The name of the tool.
pub const SUBMIT_RESULT: &str = "submit_result";

/// For whom the tool is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmitRole {
    /// Changes the tree: verdict, summary, commit message.
    Coder,
    /// Judges a change: verdict, summary, findings.
    Reviewer,
}

/// What the model decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubmittedVerdict {
    /// Done, or approved.
    #[serde(rename = "GO")]
    Go,
    /// Declined, or rejected.
    #[serde(rename = "NO-GO")]
    NoGo,
    /// It could not do its work.
    #[serde(rename = "ERROR")]
    Error,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A matter of taste.
    Minor,
    /// Wrong, but not dangerous.
    Major,
    /// Must not be merged.
    Blocker,
}

impl Severity {
    /// Reads a severity and its usual synonyms.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.trim().to_ascii_lowercase().as_str() {
            "blocker" | "blocking" | "critical" | "fatal" | "severe" => Self::Blocker,
            "major" | "high" | "error" | "important" | "medium" | "moderate" | "warning" => {
                Self::Major
            }
            "minor" | "low" | "nit" | "nitpick" | "info" | "style" | "suggestion" | "trivial" => {
                Self::Minor
            }
            _ => return None,
        })
    }
}

/// Something a reviewer found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What kind (correctness, tests, security, …), in the reviewer's word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub area: String,
    /// In which file, if in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// In which line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
}

/// What a model submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    /// Its decision.
    pub verdict: SubmittedVerdict,
    /// In its words, at most [`SUMMARY_BYTES_MAX`] bytes.
    pub summary: String,
    /// For the commit; absent if it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_message: Option<String>,
    /// Of a reviewer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Free facts (`outcome`, `evidence`, …), at most [`EXTRA_BYTES_MAX`] bytes as JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// What the model is told about the tool.
pub fn submit_spec(role: SubmitRole) -> ToolSpec {
    let verdict = |description: &str| json!({"type": "string", "enum": ["GO", "NO-GO", "ERROR"], "description": description});
    let summary = json!({"type": "string", "minLength": 1, "description": "What you did or found and how you know, in a few sentences"});
    let (description, parameters) = match role {
        SubmitRole::Coder => (
            "Ends your work. Call it alone, after the last change was made and checked.",
            json!({
                "type": "object",
                "properties": {
                    "verdict": verdict("GO: the work is done. NO-GO: it should not be done, or is done already. ERROR: you could not do it"),
                    "summary": summary,
                    "commit_message": {"type": "string", "description": "First line at most 72 characters, then why; needed with GO"},
                    "extra": {"type": "object", "additionalProperties": true, "description": "With NO-GO: {\"outcome\": \"ALREADY-RESOLVED\"} or {\"outcome\": \"NEEDS-VERIFICATION\"} where it is so"},
                },
                "required": ["verdict", "summary"],
            }),
        ),
        SubmitRole::Reviewer => (
            "Ends your review. Call it alone, after you have read the whole diff.",
            json!({
                "type": "object",
                "properties": {
                    "verdict": verdict("GO: may be merged. NO-GO: must be changed; needs a blocker or major finding. ERROR: you could not review it"),
                    "summary": summary,
                    "findings": {
                        "type": "array",
                        "maxItems": FINDINGS_MAX,
                        "items": {
                            "type": "object",
                            "properties": {
                                "severity": {"type": "string", "description": "blocker, major or minor"},
                                "area": {"type": "string", "description": "correctness, tests, security, scope, style, …"},
                                "file": {"type": "string"},
                                "line": {"type": "integer", "minimum": 0},
                                "message": {"type": "string", "minLength": 1},
                            },
                            "required": ["severity", "message"],
                        },
                    },
                    "extra": {"type": "object", "additionalProperties": true},
                },
                "required": ["verdict", "summary"],
            }),
        ),
    };
    ToolSpec { name: SUBMIT_RESULT.into(), description: description.into(), parameters }
}

/// Reads checked arguments of the tool.
///
/// # Errors
/// What contradicts itself, in words for the model.
pub fn parse_submission(
    role: SubmitRole,
    arguments: &Map<String, Value>,
) -> Result<Submission, String> {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or("").trim();
    let verdict = match text("verdict") {
        "GO" => SubmittedVerdict::Go,
        "NO-GO" => SubmittedVerdict::NoGo,
        "ERROR" => SubmittedVerdict::Error,
        other => {
            return Err(format!("the verdict {:?} is none of GO, NO-GO, ERROR", clip(other, 40)));
        }
    };
    let given = arguments.get("findings").and_then(Value::as_array);
    let findings = given
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, value)| finding(at, value))
        .collect::<Result<Vec<_>, _>>()?;
    let worst = findings.iter().map(|finding| finding.severity).max();
    if verdict == SubmittedVerdict::Go && worst == Some(Severity::Blocker) {
        return Err("verdict GO contradicts your blocker finding: submit NO-GO, or lower the severity if it need not be fixed".into());
    }
    if role == SubmitRole::Reviewer
        && verdict == SubmittedVerdict::NoGo
        && worst.is_none_or(|worst| worst < Severity::Major)
    {
        return Err("verdict NO-GO needs at least one blocker or major finding that says what must be changed; else submit GO".into());
    }
    let mut extra = arguments.get("extra").and_then(Value::as_object).cloned().unwrap_or_default();
    if Value::Object(extra.clone()).to_string().len() > EXTRA_BYTES_MAX {
        extra = Map::new();
        extra.insert(
            "dropped".into(),
            Value::String(format!("extra was larger than {EXTRA_BYTES_MAX} bytes")),
        );
    }
    let message = text("commit_message");
    Ok(Submission {
        verdict,
        summary: clip(text("summary"), SUMMARY_BYTES_MAX),
        commit_message: (!message.is_empty()).then(|| clip(message, COMMIT_MESSAGE_BYTES_MAX)),
        findings,
        extra,
    })
}

fn finding(at: usize, value: &Value) -> Result<Finding, String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").trim();
    let Some(severity) = Severity::parse(text("severity")) else {
        return Err(format!(
            "findings[{at}].severity {:?} is none of blocker, major, minor",
            clip(text("severity"), 40)
        ));
    };
    let file = text("file");
    Ok(Finding {
        severity,
        area: clip(text("area"), 60),
        file: (!file.is_empty()).then(|| clip(file, 1_000)),
        line: value
            .get("line")
            .and_then(Value::as_u64)
            .and_then(|line| u32::try_from(line).ok())
            .filter(|line| *line > 0),
        message: clip(text("message"), 4_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::check_arguments;

    fn submit(role: SubmitRole, arguments: &Value) -> Result<Submission, String> {
        let mut map = arguments.as_object().cloned().expect("an object");
        check_arguments(&submit_spec(role).parameters, &mut map)?;
        parse_submission(role, &map)
    }

    #[test]
    fn a_coder_submits() {
        let got = submit(
            SubmitRole::Coder,
            &json!({"verdict": "go", "summary": "done", "commit_message": " Fix it ", "extra": {"outcome": "X"}}),
        );
        let got = got.expect("accepted");
        assert_eq!(
            (got.verdict, got.commit_message.as_deref()),
            (SubmittedVerdict::Go, Some("Fix it"))
        );
        assert_eq!(got.extra.get("outcome"), Some(&json!("X")));
        let declined = submit(
            SubmitRole::Coder,
            &json!({"verdict": "NO-GO", "summary": "already there", "commit_message": ""}),
        );
        assert_eq!(declined.expect("accepted").commit_message, None);
    }

    #[test]
    fn a_reviewer_submits_findings_and_contradictions_come_back() {
        let finding = |severity: &str| json!([{"severity": severity, "message": "m", "file": "a.rs", "line": "3"}]);
        let got = submit(
            SubmitRole::Reviewer,
            &json!({"verdict": "NO-GO", "summary": "s", "findings": finding("Critical")}),
        )
        .expect("accepted");
        assert_eq!(
            got.findings.first().map(|f| (f.severity, f.line)),
            Some((Severity::Blocker, Some(3)))
        );
        for (arguments, why) in [
            (
                json!({"verdict": "GO", "summary": "s", "findings": finding("blocker")}),
                "contradicts",
            ),
            (
                json!({"verdict": "NO-GO", "summary": "s", "findings": finding("nit")}),
                "needs at least one",
            ),
            (json!({"verdict": "NO-GO", "summary": "s"}), "needs at least one"),
            (
                json!({"verdict": "NO-GO", "summary": "s", "findings": finding("meh")}),
                "findings[0].severity \"meh\"",
            ),
            (json!({"verdict": "LGTM", "summary": "s"}), "must be one of"),
            (json!({"verdict": "GO"}), "summary is missing"),
        ] {
            let got = submit(SubmitRole::Reviewer, &arguments).expect_err("refused");
            assert!(got.contains(why), "{arguments}: {got}");
        }
    }
}
