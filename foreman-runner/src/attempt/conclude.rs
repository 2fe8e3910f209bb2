//! From how the loop of turns ended to what the task came to.

use std::sync::Arc;

use foreman_core::model::outcome::{
    Decision, FailureReason, Infrastructure, OutcomeReason, Verdict, Verification,
};
use foreman_core::ports::executor::ReleaseWhy;
use serde_json::{Map, Value, json};

use super::Fault;
use super::end::{Conclusion, Ending};
use super::judge::{gate_json, gate_line};
use super::model_run::ModelRun;
use super::publishing::{NotPublished, Words, push_json, reap};
use crate::gate::{GateOutcome, GateReport};
use crate::journal::{Entry, OpenedJournal};
use crate::model_client::ModelError;
use crate::tool::{Submission, SubmittedVerdict};
use crate::turn::{LoopEnd, LoopFault};

impl ModelRun<'_> {
    pub(super) async fn conclude(
        mut self,
        end: LoopEnd,
        judged: Option<GateReport>,
        fault: Option<Fault>,
    ) -> Ending {
        let conclusion = match end {
            LoopEnd::Submitted(submission) if self.attempt.is_coder() => {
                match self.coded(&submission, judged).await {
                    Ok(conclusion) => conclusion,
                    Err(ending) => return *ending,
                }
            }
            LoopEnd::Submitted(submission) => reviewed(&submission),
            LoopEnd::TurnLimit { turns } => incomplete(
                FailureReason::MaxTurnsExhausted,
                OutcomeReason::TurnLimit,
                format!("all {turns} turns are used"),
            ),
            LoopEnd::Stuck { why } => incomplete(
                FailureReason::ConstraintViolated,
                OutcomeReason::StuckLoop,
                why,
            ),
            LoopEnd::Misunderstood { why } => incomplete(
                FailureReason::ModelMisunderstood,
                OutcomeReason::StuckLoop,
                why,
            ),
            LoopEnd::ContextFull { message } => incomplete(
                FailureReason::MaxTurnsExhausted,
                OutcomeReason::TurnLimit,
                message,
            ),
            LoopEnd::BudgetPaused(exhausted) => {
                let why = ReleaseWhy::BudgetExhausted {
                    message: exhausted.to_string(),
                };
                return Ending::Paused {
                    checkpoint: self.checkpoint_record(),
                    usage: self.usage(),
                    why,
                };
            }
            LoopEnd::Stopped(_) => return self.stopped().await,
            LoopEnd::Infrastructure(error) => {
                Conclusion::fault(&fault.unwrap_or_else(|| loop_fault(&error)))
            }
        };
        self.end_with(conclusion).await
    }

    async fn stopped(self) -> Ending {
        let kept = self.attempt.keep_patch(&self.place).await;
        Ending::Stopped {
            checkpoint: self.checkpoint_record(),
            usage: self.usage(),
            kept,
        }
    }

    /// Writes the end into the journal, keeps the work, tidies up.
    async fn end_with(mut self, mut conclusion: Conclusion) -> Ending {
        let pushed = conclusion.branch.is_some() && conclusion.commit.is_some();
        if self.attempt.is_coder() && !pushed {
            conclusion.checkpoint = self.checkpoint_record();
            if let Some(patch) = self.attempt.keep_patch(&self.place).await {
                conclusion.message = format!("{}; the work is kept in {patch}", conclusion.message);
                conclusion.extra.insert("patch".to_owned(), json!(patch));
            }
        }
        let turns = self.opened.replay.turns.len();
        conclusion
            .extra
            .insert("turnCount".to_owned(), json!(turns));
        conclusion
            .extra
            .insert("model".to_owned(), json!(self.target.label));
        let outcome = serde_json::to_value(&conclusion).unwrap_or(Value::Null);
        let OpenedJournal { journal, replay } = &mut self.opened;
        let written = self
            .attempt
            .write(journal, replay, Entry::Outcome { outcome });
        let synced = match written {
            Ok(()) => journal.sync().await,
            Err(error) => Err(error),
        };
        if let Err(error) = synced {
            tracing::warn!(%error, "the end of a run is not in its journal");
        }
        let usage = self.usage();
        let Self { place, attempt, .. } = self;
        if (pushed || !attempt.is_coder())
            && let Ok(place) = Arc::try_unwrap(place)
        {
            reap(place, attempt);
        }
        Ending::concluded(conclusion, usage)
    }

    /// What a coder's accepted submission comes to.
    async fn coded(
        &mut self,
        submission: &Submission,
        judged: Option<GateReport>,
    ) -> Result<Conclusion, Box<Ending>> {
        let said = |conclusion: Conclusion| Conclusion {
            summary: submission.summary.clone(),
            extra: extra_of(submission, judged.as_ref()),
            ..conclusion
        };
        match submission.verdict {
            SubmittedVerdict::Go => {}
            SubmittedVerdict::NoGo => {
                let declined =
                    Conclusion::new(Verdict::NoGo, Decision::NoGo, Verification::NotApplicable);
                return Ok(said(
                    declined
                        .because(OutcomeReason::Declined)
                        .saying("the model declined"),
                ));
            }
            SubmittedVerdict::Error => {
                let gave_up = Conclusion::new(
                    Verdict::Incomplete,
                    Decision::Incomplete,
                    Verification::NotVerified,
                );
                let gave_up = gave_up.failed_as(FailureReason::ModelReportedError);
                return Ok(said(gave_up.saying("the model could not finish")));
            }
        }
        let outcome = judged
            .as_ref()
            .map_or(GateOutcome::NotConfigured, |report| report.outcome);
        let line = judged.as_ref().map_or_else(String::new, gate_line);
        let (verification, problem) = match outcome {
            GateOutcome::Passed => (Verification::Passed, None),
            GateOutcome::NotConfigured => (Verification::NotVerified, None),
            GateOutcome::Failed => (Verification::Failed, Some(FailureReason::GateFailed)),
            GateOutcome::Error => (Verification::Error, Some(FailureReason::GateError)),
        };
        if let Some(reason) = problem {
            let unproven = Conclusion::new(Verdict::Incomplete, Decision::Go, verification);
            let unproven = match reason {
                FailureReason::GateFailed => unproven.because(OutcomeReason::GateFailed),
                _ => unproven,
            };
            return Ok(said(unproven.failed_as(reason).saying(line)));
        }
        let words = self.words(submission);
        let OpenedJournal { journal, replay } = &mut self.opened;
        let published = self
            .attempt
            .publish(&self.place, &words, journal, replay)
            .await;
        match published {
            Ok(commit) => {
                let branch = self.place.workspace.branch().map(|it| it.to_string());
                let branch = branch.unwrap_or_default();
                let mut done = said(Conclusion::new(Verdict::Go, Decision::Go, verification));
                done.extra
                    .insert("push".to_owned(), push_json(&commit, &branch));
                done.message = if line.is_empty() {
                    "not verified".to_owned()
                } else {
                    line
                };
                done.branch = Some(branch);
                done.commit = Some(commit.sha);
                Ok(done)
            }
            Err(NotPublished::NoChanges) => {
                let nothing =
                    Conclusion::new(Verdict::NoGo, Decision::NoGo, Verification::NotApplicable);
                Ok(said(
                    nothing
                        .because(OutcomeReason::NoChanges)
                        .saying("nothing was changed"),
                ))
            }
            Err(NotPublished::Fault(fault)) => Ok(Conclusion {
                decision: Decision::Go,
                verification,
                ..said(Conclusion::fault(&fault))
            }),
            Err(NotPublished::Stopped) => Err(Box::new(Ending::Stopped {
                checkpoint: self.checkpoint_record(),
                usage: self.usage(),
                kept: None,
            })),
        }
    }

    fn words(&self, submission: &Submission) -> Words {
        let own = submission
            .commit_message
            .clone()
            .filter(|text| !text.trim().is_empty());
        let message = own.unwrap_or_else(|| {
            let prompt = self
                .attempt
                .job
                .task
                .spec
                .payload
                .prompt
                .as_deref()
                .unwrap_or_default();
            let title: String = prompt
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(72)
                .collect();
            if title.trim().is_empty() {
                "Change by Foreman".to_owned()
            } else {
                title
            }
        });
        Words {
            message,
            assisted_by: Some(format!("Foreman:{}", self.target.model)),
        }
    }
}

fn incomplete(reason: FailureReason, why: OutcomeReason, message: String) -> Conclusion {
    Conclusion::new(
        Verdict::Incomplete,
        Decision::Incomplete,
        Verification::NotVerified,
    )
    .failed_as(reason)
    .because(why)
    .saying(message)
}

fn reviewed(submission: &Submission) -> Conclusion {
    let conclusion = match submission.verdict {
        SubmittedVerdict::Go => {
            Conclusion::new(Verdict::Go, Decision::Go, Verification::NotApplicable)
                .saying("the reviewer approves")
        }
        SubmittedVerdict::NoGo => {
            Conclusion::new(Verdict::NoGo, Decision::NoGo, Verification::NotApplicable)
                .because(OutcomeReason::Rejected)
                .saying("the reviewer rejects")
        }
        SubmittedVerdict::Error => Conclusion::new(
            Verdict::Incomplete,
            Decision::Incomplete,
            Verification::NotApplicable,
        )
        .failed_as(FailureReason::ModelReportedError)
        .saying("the reviewer could not finish"),
    };
    Conclusion {
        summary: submission.summary.clone(),
        extra: extra_of(submission, None),
        ..conclusion
    }
}

fn extra_of(submission: &Submission, judged: Option<&GateReport>) -> Map<String, Value> {
    let mut extra = Map::new();
    let mut model = submission.extra.clone();
    if !submission.findings.is_empty() {
        model.insert("findings".to_owned(), json!(submission.findings));
    }
    if !model.is_empty() {
        extra.insert("modelExtra".to_owned(), Value::Object(model));
    }
    if let Some(report) = judged {
        extra.insert("gate".to_owned(), gate_json(report));
    }
    extra
}

fn loop_fault(error: &LoopFault) -> Fault {
    let kind = match error {
        LoopFault::Model(ModelError::ContextTruncated { .. }) => {
            Infrastructure::ModelContextTruncated
        }
        LoopFault::Model(_) => Infrastructure::ModelUnavailable,
        LoopFault::Sandbox { .. } => Infrastructure::SandboxUnavailable,
        LoopFault::Checkpoint { .. } => Infrastructure::GitUnavailable,
        LoopFault::Journal(_) | LoopFault::Judgement { .. } => Infrastructure::Error,
    };
    Fault::new(kind, error)
}
