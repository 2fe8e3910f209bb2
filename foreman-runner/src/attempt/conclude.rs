//! From how the loop of turns ended to what the task came to.

use std::sync::Arc;

use foreman_core::model::outcome::{
    Decision, FailureReason, Infrastructure, OutcomeReason, Verdict, Verification,
};
use foreman_core::ports::executor::{ReleaseWhy, Stop};
use serde_json::{Value, json};

use super::end::{Conclusion, Ending, Stopped};
use super::judge::{gate_json, gate_line};
use super::model_run::ModelRun;
use super::place::NoPlace;
use super::publishing::{Kept, NotPublished, PushRecord, Wanted, Words, push_json, reap};
use super::{Attempt, Fault, chain};
use crate::gate::{GateOutcome, GateReport};
use crate::journal::{EffectState, Entry, OpenedJournal};
use crate::tool::{Submission, SubmittedVerdict};
use crate::turn::LoopEnd;

/// Why a submission of a coder came to nothing yet.
enum NotCoded {
    /// The run must stop; with what it found out by itself, if it did.
    Stopped(Option<Stop>),
    /// The machinery failed; with the end of the task, should it end by it.
    Broken(Fault, Box<Conclusion>),
}

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
                    Err(NotCoded::Stopped(found)) => return self.stopped(found).await,
                    Err(NotCoded::Broken(fault, conclusion)) => {
                        return self.broken(&fault, *conclusion).await;
                    }
                }
            }
            LoopEnd::Submitted(submission) => reviewed(&submission),
            LoopEnd::TurnLimit { turns } => incomplete(
                FailureReason::MaxTurnsExhausted,
                OutcomeReason::TurnLimit,
                format!("all {turns} turns are used"),
            ),
            LoopEnd::Stuck { why } => {
                incomplete(FailureReason::ConstraintViolated, OutcomeReason::StuckLoop, why)
            }
            LoopEnd::Misunderstood { why } => {
                incomplete(FailureReason::ModelMisunderstood, OutcomeReason::StuckLoop, why)
            }
            LoopEnd::ContextFull { message } => {
                incomplete(FailureReason::MaxTurnsExhausted, OutcomeReason::TurnLimit, message)
            }
            LoopEnd::BudgetPaused(exhausted) => {
                let why = ReleaseWhy::BudgetExhausted { message: exhausted.to_string() };
                return Ending::Paused {
                    checkpoint: self.checkpoint_record(),
                    usage: self.usage(),
                    why,
                };
            }
            LoopEnd::Stopped(_) => return self.stopped(None).await,
            LoopEnd::Infrastructure(error) => {
                let fault = match fault {
                    // In the loop's words: they name the turn.
                    Some(fault) => Fault { message: chain(&error), ..fault },
                    None => Fault::from(&error),
                };
                return self.broken(&fault, Conclusion::fault(&fault)).await;
            }
        };
        self.end_with(conclusion).await
    }

    /// The end of a run that could not begin to turn; what earlier claims did is kept and named.
    pub(super) async fn never_turned(self, no_place: NoPlace) -> Ending {
        let conclusion = match no_place {
            NoPlace::Stopped => return self.stopped(None).await,
            NoPlace::Fault(_) if self.attempt.cancel.is_cancelled() => {
                return self.stopped(None).await;
            }
            NoPlace::Fault(fault) => return self.broken(&fault, Conclusion::fault(&fault)).await,
            NoPlace::Gate(message) => self.attempt.unjudgeable(message),
        };
        self.end_with(conclusion).await
    }

    /// The end of a run that the machinery failed. What another try may mend gives the claim back, with
    /// the journal as it is: that try goes on where this one stood.
    async fn broken(self, fault: &Fault, conclusion: Conclusion) -> Ending {
        let Some(why) = fault.given_back(&conclusion) else {
            return self.end_with(conclusion).await;
        };
        let why = match (self.attempt.keep_patch(&self.place).await, why) {
            // Should it be the last try, a person finds the work by this.
            (Kept::Patch(patch), ReleaseWhy::Infrastructure { outcome, message }) => {
                let message = format!("{message}; the work is kept in {patch}");
                ReleaseWhy::Infrastructure { outcome, message }
            }
            (_, why) => why,
        };
        Ending::Paused { checkpoint: self.checkpoint_record(), usage: self.usage(), why }
    }

    /// The end of a run that was told to stop, or `found` out by itself that it must.
    async fn stopped(self, found: Option<Stop>) -> Ending {
        Ending::Stopped(Box::new(Stopped {
            checkpoint: self.checkpoint_record(),
            usage: self.usage(),
            kept: match self.attempt.keep_patch(&self.place).await {
                Kept::Patch(path) => Some(path),
                Kept::Nothing | Kept::InTheTree => None,
            },
            found,
        }))
    }

    /// Writes the end into the journal, keeps the work, tidies up.
    async fn end_with(mut self, mut conclusion: Conclusion) -> Ending {
        let pushed = conclusion.branch.is_some() && conclusion.commit.is_some();
        let mut done_with = pushed || !self.attempt.is_coder();
        if !done_with {
            conclusion.checkpoint = self.checkpoint_record();
            match self.attempt.keep_patch(&self.place).await {
                Kept::Patch(patch) => {
                    conclusion.message =
                        format!("{}; the work is kept in {patch}", conclusion.message);
                    conclusion.extra.insert("patch".to_owned(), json!(patch));
                }
                Kept::Nothing => done_with = conclusion.checkpoint.is_none(),
                Kept::InTheTree => {
                    let tree = self.place.workspace.tree().display().to_string();
                    conclusion.message =
                        format!("{}; the work is kept in {tree}", conclusion.message);
                    conclusion.extra.insert("tree".to_owned(), json!(tree));
                }
            }
        }
        let turns = self.opened.replay.turns.len();
        conclusion.extra.insert("turnCount".to_owned(), json!(turns));
        conclusion.extra.insert("model".to_owned(), json!(self.target.label));
        let outcome = serde_json::to_value(&conclusion).unwrap_or(Value::Null);
        let OpenedJournal { journal, replay } = &mut self.opened;
        let written = Attempt::write(journal, replay, Entry::Outcome { outcome });
        let synced = match written {
            Ok(()) => journal.sync().await,
            Err(error) => Err(error),
        };
        let usage = self.usage();
        let Self { place, attempt, .. } = self;
        match synced {
            // Not before: without the end in the journal the next claim goes on in this tree.
            Ok(()) if done_with => {
                if let Ok(place) = Arc::try_unwrap(place) {
                    reap(place, attempt).await;
                }
            }
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "the end of a run is not in its journal"),
        }
        Ending::concluded(conclusion, usage)
    }

    /// What a coder's accepted submission comes to.
    async fn coded(
        &mut self,
        submission: &Submission,
        judged: Option<GateReport>,
    ) -> Result<Conclusion, NotCoded> {
        if let Some(conclusion) = not_go(submission) {
            return Ok(said(submission, conclusion, judged.as_ref().map(gate_json)));
        }
        // An earlier claim that began to push had passed the gate: its word stands.
        let begun = match self.push_record() {
            Ok(begun) => begun,
            Err(fault) => return Ok(Conclusion::fault(&fault)),
        };
        let gate = match &begun {
            Some(begun) => begun.gate.clone(),
            None => judged.as_ref().map(gate_json),
        };
        let verification = match &begun {
            Some(begun) => begun.verification,
            None => match proven(judged.as_ref()) {
                Ok(verification) => verification,
                Err(unproven) => return Ok(said(submission, *unproven, gate)),
            },
        };
        let wanted = Wanted {
            words: self.words(submission),
            verification,
            gate: gate.clone(),
            line: judged.as_ref().map_or_else(String::new, gate_line),
            judged_tree: judged.map(|report| report.tree),
        };
        let OpenedJournal { journal, replay } = &mut self.opened;
        let published = self.attempt.publish(&self.place, wanted, begun, journal, replay).await;
        let conclusion = match published {
            Ok(record) => self.pushed(record),
            Err(NotPublished::NoChanges) => self.unchanged(),
            Err(NotPublished::Fault(fault)) => {
                let end = Conclusion {
                    decision: Decision::Go,
                    verification,
                    ..Conclusion::fault(&fault)
                };
                let end = said(submission, end, gate);
                return Err(NotCoded::Broken(fault, Box::new(end)));
            }
            Err(NotPublished::Stopped) => return Err(NotCoded::Stopped(None)),
            Err(NotPublished::MustNot(stop)) => return Err(NotCoded::Stopped(Some(stop))),
        };
        Ok(said(submission, conclusion, gate))
    }

    fn pushed(&self, record: PushRecord) -> Conclusion {
        let PushRecord { commit, verification, line, .. } = record;
        let branch = self.place.workspace.branch().map(|it| it.to_string());
        let branch = branch.unwrap_or_default();
        let mut done = Conclusion::new(Verdict::Go, Decision::Go, verification);
        done.extra.insert("push".to_owned(), push_json(&commit, &branch));
        if verification == Verification::NotVerified {
            done.extra.insert("gateAdvisories".to_owned(), not_gated());
        }
        done.message = if line.is_empty() { "not verified".to_owned() } else { line };
        done.branch = Some(branch);
        done.commit = Some(commit.sha);
        done
    }

    /// A GO without a change: a free job may be done by it, a fix is not.
    fn unchanged(&self) -> Conclusion {
        if self.attempt.is_freeform() {
            return Conclusion::new(Verdict::Go, Decision::Go, Verification::NotApplicable)
                .saying("done without a change");
        }
        Conclusion::new(Verdict::NoGo, Decision::NoGo, Verification::NotApplicable)
            .because(OutcomeReason::NoChanges)
            .saying("nothing was changed")
    }

    /// The push that an earlier claim of this task began, or had done.
    fn push_record(&self) -> Result<Option<PushRecord>, Fault> {
        let value = match self.opened.replay.effects.get(&self.attempt.push_key()) {
            None => return Ok(None),
            Some(EffectState::Done { result }) => result,
            Some(EffectState::Intended { detail }) => detail,
        };
        let record = serde_json::from_value(value.clone());
        record.map(Some).map_err(|error| {
            let message = format!("the journal's record of the push cannot be read: {error}");
            Fault::saying(Infrastructure::Error, message).for_good()
        })
    }

    fn words(&self, submission: &Submission) -> Words {
        let own = submission.commit_message.clone().filter(|text| !text.trim().is_empty());
        let message = own.unwrap_or_else(|| {
            let prompt = self.attempt.job.task.spec.payload.prompt.as_deref().unwrap_or_default();
            let title: String =
                prompt.lines().next().unwrap_or_default().chars().take(72).collect();
            if title.trim().is_empty() { "Change by Foreman".to_owned() } else { title }
        });
        Words { message, assisted_by: Some(format!("Foreman:{}", self.target.model)) }
    }
}

/// What a gate has to say that blocks nothing, for the reviewer; in the form that
/// `payload.gateAdvisories` takes.
fn not_gated() -> Value {
    json!([{
        "check": "gate",
        "detail": "no gate is configured: nothing was built or tested but by the author",
    }])
}

fn incomplete(reason: FailureReason, why: OutcomeReason, message: String) -> Conclusion {
    Conclusion::new(Verdict::Incomplete, Decision::Incomplete, Verification::NotVerified)
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
        SubmittedVerdict::Error => {
            Conclusion::new(Verdict::Incomplete, Decision::Incomplete, Verification::NotApplicable)
                .failed_as(FailureReason::ModelReportedError)
                .saying("the reviewer could not finish")
        }
    };
    said(submission, conclusion, None)
}

/// With the model's own words and what the gate found.
fn said(submission: &Submission, mut conclusion: Conclusion, gate: Option<Value>) -> Conclusion {
    let mut model = submission.extra.clone();
    if !submission.findings.is_empty() {
        model.insert("findings".to_owned(), json!(submission.findings));
    }
    let extra = &mut conclusion.extra;
    if !model.is_empty() {
        extra.insert("modelExtra".to_owned(), Value::Object(model));
    }
    if let Some(gate) = gate {
        extra.insert("gate".to_owned(), gate);
    }
    conclusion.summary.clone_from(&submission.summary);
    conclusion
}

/// What a coder's verdict other than GO comes to.
fn not_go(submission: &Submission) -> Option<Conclusion> {
    match submission.verdict {
        SubmittedVerdict::Go => None,
        SubmittedVerdict::NoGo => Some(
            Conclusion::new(Verdict::NoGo, Decision::NoGo, Verification::NotApplicable)
                .because(OutcomeReason::Declined)
                .saying("the model declined"),
        ),
        SubmittedVerdict::Error => Some(
            Conclusion::new(Verdict::Incomplete, Decision::Incomplete, Verification::NotVerified)
                .failed_as(FailureReason::ModelReportedError)
                .saying("the model could not finish"),
        ),
    }
}

/// What the gate found of a GO: a tree that may be pushed, or the end of the run.
fn proven(judged: Option<&GateReport>) -> Result<Verification, Box<Conclusion>> {
    let Some(report) = judged else {
        return Ok(Verification::NotVerified);
    };
    let unproven = |verification, reason| {
        Conclusion::new(Verdict::Incomplete, Decision::Go, verification)
            .failed_as(reason)
            .saying(gate_line(report))
    };
    match report.outcome {
        GateOutcome::Passed => Ok(Verification::Passed),
        GateOutcome::NotConfigured => Ok(Verification::NotVerified),
        GateOutcome::Failed => Err(Box::new(
            unproven(Verification::Failed, FailureReason::GateFailed)
                .because(OutcomeReason::GateFailed),
        )),
        GateOutcome::Error => {
            Err(Box::new(unproven(Verification::Error, FailureReason::GateError)))
        }
    }
}
