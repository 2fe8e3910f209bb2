//! What a workload came to so far, from what happened: for the last lines, the `result` and the exit
//! code.

use std::collections::{BTreeMap, BTreeSet};

use foreman_core::model::outcome::Verification;
use foreman_runner::observe::RunEvent;

use super::fact::{Ended, Fact, What};
use super::rounds::superseded_by;
use crate::events::UsageTotal;
use crate::exit::Exit;

/// A command of the gate that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRun {
    /// The command.
    pub command: String,
    /// Its exit code, if it ended by itself.
    pub exit: Option<i32>,
    /// The hash of the tree it ran on.
    pub tree: String,
    /// The end of its output.
    pub output: String,
}

/// What a workload came to so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Its tasks, in the order of its steps: how each ended, if it did.
    tasks: Vec<(String, Option<Ended>)>,
    /// Why a task waits that only a person can set going.
    needs_person: BTreeMap<String, String>,
    /// Turns after which tasks go on that were given back.
    kept: BTreeMap<String, i64>,
    /// The gate's commands of the last run that had one.
    gate: Vec<GateRun>,
    gate_of: Option<(String, Option<i64>)>,
    /// The commit of the start.
    base: Option<String>,
    finished: Option<String>,
    /// Tasks whose place others took in a fix round.
    superseded: BTreeSet<String>,
}

impl Tally {
    /// Takes what happened into account.
    pub fn apply(&mut self, fact: &Fact) {
        let task = fact.task.as_deref();
        match &fact.what {
            What::Planned { steps } => {
                let names = || steps.iter().map(|step| step.name.as_str());
                for step in steps {
                    self.entry(&step.task);
                    if superseded_by(&step.name, names()).is_some() {
                        self.superseded.insert(step.task.clone());
                    }
                }
            }
            What::Waiting { reason, message } => self.waits(task, reason, message),
            What::Placed { .. } | What::Started => {
                if let Some(task) = task {
                    self.needs_person.remove(task);
                    self.entry(task);
                }
            }
            What::Released { turn, .. } => {
                if let (Some(task), Some(turn)) = (task, turn) {
                    self.kept.insert(task.to_owned(), *turn);
                }
            }
            What::Ended(ended) => {
                if let Some(task) = task {
                    self.needs_person.remove(task);
                    self.kept.remove(task);
                    *self.entry(task) = Some(ended.clone());
                }
            }
            What::Run(event) => self.run(fact, event),
            What::Finished { reason, .. } => self.finished = Some(reason.clone()),
            What::Begun(begun) => self.base.clone_from(&begun.base),
            What::Moved { .. } | What::Notice { .. } => {}
        }
    }

    fn entry(&mut self, task: &str) -> &mut Option<Ended> {
        let at = self.tasks.iter().position(|(name, _)| name == task).unwrap_or_else(|| {
            self.tasks.push((task.to_owned(), None));
            self.tasks.len() - 1
        });
        &mut self.tasks[at].1
    }

    fn waits(&mut self, task: Option<&str>, reason: &str, message: &str) {
        let Some(task) = task else { return };
        self.entry(task);
        if matches!(reason, "BudgetExhausted" | "AwaitingApproval") {
            self.needs_person.insert(task.to_owned(), message.to_owned());
        } else {
            self.needs_person.remove(task);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "not exhaustive: what a later runner tells is not known here"
    )]
    fn run(&mut self, fact: &Fact, event: &RunEvent) {
        match event {
            RunEvent::WorkspaceReady { base, .. } if self.base.is_none() => {
                self.base = Some(base.clone());
            }
            RunEvent::GateCompleted { command, exit, tree, output, .. } => {
                let run = fact.task.clone().map(|task| (task, fact.attempt));
                let same_tree = self.gate.last().is_none_or(|last| last.tree == *tree);
                if run != self.gate_of || !same_tree {
                    self.gate.clear();
                }
                self.gate_of = run;
                self.gate.push(GateRun {
                    command: command.clone(),
                    exit: *exit,
                    tree: tree.clone(),
                    output: output.clone(),
                });
            }
            _ => {}
        }
    }

    /// `Succeeded`, `NotOnTarget`, `Infrastructure` or `Cancelled`, once the workload ended.
    pub fn finished(&self) -> Option<&str> {
        self.finished.as_deref()
    }

    /// Why nothing goes on before a person does something; none while anything can go on.
    pub fn needs_person(&self) -> Option<&str> {
        let open = self.tasks.iter().filter(|(_, ended)| ended.is_none());
        let mut why = None;
        for (task, _) in open {
            match self.needs_person.get(task) {
                Some(message) => why = why.or(Some(message.as_str())),
                None if self.waits_for_others(task) => {}
                None => return None,
            }
        }
        why
    }

    /// Whether a task can only wait for the tasks before it. Steps are in order, so that one after
    /// a task that has not ended, and of which nothing was heard, is taken to wait for that one.
    fn waits_for_others(&self, task: &str) -> bool {
        let before = self.tasks.iter().take_while(|(name, _)| name != task);
        before.into_iter().any(|(_, ended)| ended.is_none())
    }

    /// Whether a gate passed on the result, and the workload ended on target.
    pub fn verified(&self) -> bool {
        let passed =
            |ended: &Ended| ended.on_target && ended.outcome.verification == Verification::Passed;
        self.finished() == Some("Succeeded") && self.counting().any(|(_, ended)| passed(ended))
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self.finished() {
            Some("Succeeded") => Exit::OnTarget,
            Some("Infrastructure") => Exit::Infrastructure,
            Some(_) => Exit::NotOnTarget,
            None if self.needs_person().is_some() => Exit::NeedsPerson,
            None => Exit::StillGoing,
        }
    }

    /// The tasks that ended, and how.
    pub fn ended(&self) -> impl Iterator<Item = (&str, &Ended)> {
        self.tasks.iter().filter_map(|(name, ended)| Some((name.as_str(), ended.as_ref()?)))
    }

    /// Those of them that count: no later fix round took their place.
    pub fn counting(&self) -> impl Iterator<Item = (&str, &Ended)> {
        self.ended().filter(|(task, _)| !self.superseded.contains(*task))
    }

    /// The word that sums it up: that of the first task which missed the target, else that of the
    /// last one that decided anything.
    pub fn verdict(&self) -> Option<&str> {
        let missed =
            self.counting().find(|(_, ended)| !ended.on_target && !ended.verdict.is_empty());
        let go = self.counting().filter(|(_, ended)| ended.verdict == "GO").last();
        missed.or(go).or_else(|| self.counting().last()).map(|(_, ended)| ended.verdict.as_str())
    }

    /// The branch that holds the result.
    pub fn branch(&self) -> Option<&str> {
        self.counting().find_map(|(_, ended)| ended.branch.as_deref())
    }

    /// The commit that holds the result.
    pub fn commit(&self) -> Option<&str> {
        self.counting().find_map(|(_, ended)| ended.commit.as_deref())
    }

    /// The commit that the work started from.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// The gate's commands of the last run that had any.
    pub fn gate(&self) -> &[GateRun] {
        &self.gate
    }

    /// Tasks that did not end.
    pub fn unfinished(&self) -> Vec<String> {
        self.tasks
            .iter()
            .filter(|(_, ended)| ended.is_none())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Tasks that were given back with work in them, and the turn after which they go on.
    pub fn kept(&self) -> &BTreeMap<String, i64> {
        &self.kept
    }

    /// How many tasks ended, of how many.
    pub fn counts(&self) -> (usize, usize) {
        (self.ended().count(), self.tasks.len())
    }

    /// What was spent on the tasks that ended.
    pub fn usage(&self) -> UsageTotal {
        let mut total = UsageTotal::default();
        for (_, ended) in self.ended() {
            let usage = &ended.usage;
            total.turns += usage.turns.unwrap_or(0);
            total.input += usage.prompt_tokens.unwrap_or(0);
            total.cached += usage.cached_tokens.unwrap_or(0);
            total.output += usage.completion_tokens.unwrap_or(0);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use foreman_core::model::agentic_task::Usage;
    use foreman_core::model::outcome::{Decision, Infrastructure, Outcome};

    use super::*;
    use crate::follow::PlannedStep;

    fn ended(verdict: &str, verification: Verification, on_target: bool) -> What {
        What::Ended(Ended {
            on_target,
            verdict: verdict.into(),
            outcome: Outcome {
                decision: Decision::None,
                verification,
                infrastructure: Infrastructure::Ok,
                reason: None,
            },
            message: String::new(),
            branch: (verdict == "GO").then(|| "foreman/w".into()),
            commit: None,
            usage: Usage { turns: Some(2), prompt_tokens: Some(10), ..Usage::default() },
        })
    }

    fn tally(events: Vec<(&str, What)>) -> Tally {
        let steps = ["code", "verify"]
            .map(|name| PlannedStep { name: name.into(), task: name.into() })
            .to_vec();
        let mut tally = Tally::default();
        tally.apply(&Fact::of_workload(Some("w"), What::Planned { steps }));
        for (task, what) in events {
            let mut fact = Fact::of_workload(Some("w"), what);
            fact.task = Some(task.to_owned());
            tally.apply(&fact);
        }
        tally
    }

    fn finished(reason: &str) -> (&'static str, What) {
        ("", What::Finished { reason: reason.into(), message: String::new() })
    }

    #[test]
    fn exit_codes_follow_from_how_it_finished() {
        let cases = [
            ("Succeeded", Exit::OnTarget),
            ("NotOnTarget", Exit::NotOnTarget),
            ("Cancelled", Exit::NotOnTarget),
            ("Infrastructure", Exit::Infrastructure),
        ];
        for (reason, exit) in cases {
            assert_eq!(tally(vec![finished(reason)]).exit(), exit, "{reason}");
        }
        assert_eq!(tally(vec![]).exit(), Exit::StillGoing);
    }

    #[test]
    fn a_spent_budget_needs_a_person_once_nothing_else_can_go_on() {
        let spent = || What::Waiting { reason: "BudgetExhausted".into(), message: "spent".into() };
        let one = tally(vec![("code", spent())]);
        assert_eq!(one.needs_person(), Some("spent"));
        assert_eq!(one.exit(), Exit::NeedsPerson);
        let again = tally(vec![("code", spent()), ("code", What::Started)]);
        assert_eq!(again.exit(), Exit::StillGoing);
        let other = tally(vec![("verify", spent()), ("code", What::Started)]);
        assert_eq!(other.needs_person(), None, "code still runs");
    }

    #[test]
    fn verified_needs_a_gate_that_passed_and_a_good_end() {
        let go = ("code", ended("GO", Verification::NotVerified, true));
        let pass = ("verify", ended("GATE-PASS", Verification::Passed, true));
        let good = tally(vec![go, pass, finished("Succeeded")]);
        assert!(good.verified());
        assert_eq!((good.verdict(), good.branch()), (Some("GO"), Some("foreman/w")));
        assert_eq!(good.usage().input, 20);
        assert!(good.unfinished().is_empty());
        let go = ("code", ended("GO", Verification::NotVerified, true));
        let unverified = tally(vec![go, finished("Succeeded")]);
        assert!(!unverified.verified());
        assert_eq!(unverified.unfinished(), ["verify"]);
        let go = ("code", ended("GO", Verification::Passed, true));
        let fail = ("verify", ended("GATE-FAIL", Verification::Failed, false));
        let bad = tally(vec![go, fail, finished("NotOnTarget")]);
        assert!(!bad.verified());
        assert_eq!(bad.verdict(), Some("GATE-FAIL"));
    }

    #[test]
    fn what_a_fix_round_mended_is_not_held_against_the_whole() {
        let step = |name: &str| PlannedStep { name: name.into(), task: name.into() };
        let mut tally = tally(vec![
            ("code", ended("GO", Verification::Failed, true)),
            ("verify", ended("GATE-FAIL", Verification::Failed, false)),
        ]);
        assert_eq!(tally.verdict(), Some("GATE-FAIL"));
        let steps = ["code", "verify", "code-r1", "verify-r1"].map(step).to_vec();
        tally.apply(&Fact::of_workload(Some("w"), What::Planned { steps }));
        for (task, what) in [
            ("code-r1", ended("GO", Verification::NotVerified, true)),
            ("verify-r1", ended("GATE-PASS", Verification::Passed, true)),
            finished("Succeeded"),
        ] {
            let mut fact = Fact::of_workload(Some("w"), what);
            fact.task = Some(task.to_owned());
            tally.apply(&fact);
        }
        assert_eq!((tally.verdict(), tally.verified()), (Some("GO"), true));
        assert_eq!((tally.counts(), tally.counting().count()), ((4, 4), 2));
    }

    #[test]
    fn the_gate_shown_is_that_of_the_last_run_on_the_last_tree() {
        let gate = |command: &str, tree: &str| {
            What::Run(RunEvent::GateCompleted {
                command: command.into(),
                exit: Some(0),
                tree: tree.into(),
                output: "ok".into(),
                took: std::time::Duration::ZERO,
            })
        };
        let tally = tally(vec![
            ("code", gate("a", "t1")),
            ("code", gate("a", "t2")),
            ("verify", gate("a", "t2")),
            ("verify", gate("b", "t2")),
        ]);
        let commands: Vec<_> = tally.gate().iter().map(|run| run.command.as_str()).collect();
        assert_eq!(commands, ["a", "b"]);
    }
}
