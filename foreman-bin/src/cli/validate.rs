//! `foreman validate`: manifests, checked without a store.

use std::path::PathBuf;

use foreman_core::policy::{Severity, validate as validate_beyond_schema};
use serde::Serialize;

use crate::exit::Exit;
use crate::manifest_file::{self, Problem};
use crate::output::{self, FormatArgs, Paint, paint};
use crate::settings::Settings;
use crate::untrusted::Untrusted;

/// Flags of `foreman validate`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Check manifests by the rules of the stores, without a store and without a network: types, required \
fields, bounds, patterns, unknown fields, pipelines that wait for themselves. All problems of all files are named, each \
with file, line, document, field and rule. Exit code 2 when there is one; what is not supported yet is a warning.",
    after_long_help = "Examples:\n  foreman validate -f workload.yaml\n  foreman validate -f manifests/ -o json\n  \
cat workload.yaml | foreman validate -f -"
)]
pub struct ValidateArgs {
    /// Manifests: files, directories, or - for stdin
    #[arg(short, long, value_name = "FILE", required = true, num_args = 1..)]
    pub filename: Vec<PathBuf>,
    /// The form of the answer.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// One thing that was found.
#[derive(Debug, Serialize)]
struct Finding {
    severity: &'static str,
    file: String,
    line: usize,
    document: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    rule: String,
}

impl Finding {
    fn of(severity: &'static str, problem: Problem) -> Self {
        Self {
            severity,
            file: problem.place.file,
            line: problem.place.line,
            document: problem.place.document,
            field: problem.field,
            rule: problem.rule,
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    valid: bool,
    manifests: Vec<String>,
    findings: Vec<Finding>,
}

/// Checks manifests.
///
/// # Errors
/// The output cannot be written.
pub fn validate(args: &ValidateArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let mut stdin = std::io::stdin().lock();
    let report = check(&args.filename, &mut stdin, &settings.namespace);
    if let Some(text) = args.format.machine(&report)? {
        output::print(&text)?;
    } else {
        for name in &report.manifests {
            output::line(format!("{} {}", Untrusted::line(name), paint(Paint::Good, "ok")))?;
        }
        for finding in &report.findings {
            let (word, color) = match finding.severity {
                "error" => ("error", Paint::Bad),
                _ => ("warning", Paint::Warn),
            };
            output::note(format!("{}: {}", paint(color, word), Untrusted::line(&place(finding))));
        }
        if !report.valid {
            let count = report.findings.iter().filter(|one| one.severity == "error").count();
            let problems = if count == 1 { "problem" } else { "problems" };
            output::note(format!("{count} {problems}; nothing was changed"));
        }
    }
    Ok(if report.valid { Exit::OnTarget } else { Exit::Usage })
}

fn place(finding: &Finding) -> String {
    let place = manifest_file::Place {
        file: finding.file.clone(),
        line: finding.line,
        document: finding.document,
    };
    Problem { place, field: finding.field.clone(), rule: finding.rule.clone() }.to_string()
}

fn check(files: &[PathBuf], stdin: &mut dyn std::io::Read, namespace: &str) -> Report {
    let mut findings = Vec::new();
    let mut manifests = Vec::new();
    match manifest_file::read(files, stdin, namespace) {
        Err(problems) => {
            findings.extend(problems.0.into_iter().map(|problem| Finding::of("error", problem)));
        }
        Ok(read) => {
            for located in &read {
                let object = &located.value.object;
                let name = object.pointer("/metadata/name").and_then(|name| name.as_str());
                manifests.push(format!(
                    "{}:{}: {}/{}",
                    located.place.file,
                    located.place.line,
                    located.value.kind.names().alias,
                    name.unwrap_or_default()
                ));
                let remarks = validate_beyond_schema(located.value.kind, object);
                findings.extend(remarks.into_iter().map(|remark| {
                    let severity = match remark.severity {
                        Severity::Error => "error",
                        Severity::Warning => "warning",
                    };
                    let place = located.place.clone();
                    Finding::of(severity, Problem { place, field: remark.field, rule: remark.rule })
                }));
            }
        }
    }
    let valid = findings.iter().all(|finding| finding.severity != "error");
    Report { valid, manifests, findings }
}
