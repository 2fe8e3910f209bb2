//! What a run may spend, from the task as it was claimed and from its journal.

use std::time::Duration;

use foreman_core::model::agentic_task::{AgenticTaskStatus, Usage};
use foreman_core::model::shared;

use crate::budget::{Budget, Spent};
use crate::journal::Replay;

fn natural(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok())
}

fn tokens_of(usage: Option<&Usage>) -> u64 {
    let tokens = |count: Option<i64>| natural(count).unwrap_or(0);
    usage.map_or(0, |it| tokens(it.prompt_tokens).saturating_add(tokens(it.completion_tokens)))
}

/// The limits of a task, and what its placement may bring it to: an allowance is what this placement
/// may spend on top of what the task had been charged by then.
pub(super) fn budget_of(limits: Option<&shared::Budget>, status: &AgenticTaskStatus) -> Budget {
    let limits = limits.cloned().unwrap_or_default();
    let charged = tokens_of(status.usage.as_ref());
    Budget {
        tokens_max: natural(limits.tokens),
        turns_max: natural(limits.turns),
        wall_max: natural(limits.wall_seconds).map(Duration::from_secs),
        allowed_max: natural(status.allowance).map(|more| charged.saturating_add(more)),
    }
}

/// What the task was charged for and its journal here does not show: what other machines did. Running
/// time stands in no journal. `estimated` is what was charged for claims that died here: what they did
/// not spend of it is still theirs.
pub(super) fn spent_elsewhere(charged: Option<&Usage>, estimated: i64, journal: &Replay) -> Spent {
    let known = natural(Some(estimated)).filter(|_| journal.header.is_some()).unwrap_or(0);
    let here = journal.usage.prompt_tokens.saturating_add(journal.usage.completion_tokens);
    let turns = charged.and_then(|usage| natural(usage.turns)).unwrap_or(0);
    let seconds = charged.and_then(|usage| natural(usage.wall_seconds)).unwrap_or(0);
    Spent {
        tokens: tokens_of(charged).saturating_sub(known).saturating_sub(here),
        turns: turns.saturating_sub(journal.turns.len() as u64),
        wall: Duration::from_secs(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Header, JournalFence};
    use crate::model_client::CallUsage;

    fn usage(tokens: i64, turns: i64) -> Usage {
        Usage {
            prompt_tokens: Some(tokens),
            completion_tokens: Some(1),
            turns: Some(turns),
            wall_seconds: Some(5),
            ..Usage::default()
        }
    }

    #[test]
    fn what_other_machines_spent_counts_and_what_is_here_counts_once() {
        let used = CallUsage { prompt_tokens: 60, completion_tokens: 1, ..CallUsage::default() };
        let mut journal = Replay::default();
        journal.usage = used;
        let spent = spent_elsewhere(Some(&usage(100, 4)), 0, &journal);
        assert_eq!(spent, Spent { tokens: 40, turns: 4, wall: Duration::from_secs(5) });
        // A claim that died was never charged: the journal shows more.
        assert_eq!(spent_elsewhere(Some(&usage(10, 0)), 0, &journal).tokens, 0);
        assert_eq!(spent_elsewhere(None, 0, &journal), Spent::default());
    }

    #[test]
    fn what_a_dead_claim_did_not_spend_of_its_estimate_is_still_there_to_spend() {
        let mut journal = Replay::default();
        journal.usage = CallUsage { prompt_tokens: 60, ..CallUsage::default() };
        journal.header = Some(header());
        // 10 were charged before, and 90 for the claim that died after 50.
        let charged = Usage { prompt_tokens: Some(100), ..Usage::default() };
        assert_eq!(spent_elsewhere(Some(&charged), 90, &journal).tokens, 0);
        journal.header = None;
        assert_eq!(spent_elsewhere(Some(&charged), 90, &journal).tokens, 40, "nobody knows");
    }

    #[test]
    fn a_claim_tells_what_the_dead_one_before_it_spent() {
        let mut before = Replay::default();
        before.header = Some(header());
        before.usage =
            CallUsage { prompt_tokens: 60, completion_tokens: 5, ..CallUsage::default() };
        let mut after = before.clone();
        after.usage.prompt_tokens = 67;
        // 10 were charged before, and 90 for the claim that died after 50.
        let charged = Usage {
            prompt_tokens: Some(100),
            completion_tokens: Some(5),
            estimated: Some(true),
            ..Usage::default()
        };
        let told = |estimated, before: &Replay| {
            let usage = super::super::spent(Some(&charged), estimated, before, &after);
            (usage.prompt_tokens, usage.completion_tokens, usage.estimated)
        };
        assert_eq!(told(90, &before), (Some(57), Some(0), Some(false)));
        assert_eq!(told(0, &before), (Some(7), Some(0), None), "died elsewhere");
        before.header = None;
        assert_eq!(told(90, &before), (Some(7), Some(0), None), "no journal tells");
    }

    fn header() -> Header {
        Header {
            schema: 1,
            fence: JournalFence {
                uid: "u".to_owned(),
                attempt: 1,
                session: "s".to_owned(),
                node: "n".to_owned(),
                claimed_at: String::new(),
            },
            parent: None,
            base_commit: String::new(),
            agent: serde_json::Value::Null,
            tools: Vec::new(),
        }
    }

    #[test]
    fn the_allowance_is_on_top_of_what_was_charged_at_the_placement() {
        let mut status = AgenticTaskStatus::default();
        assert_eq!(budget_of(None, &status), Budget::default());
        status.usage = Some(usage(99, 1));
        status.allowance = Some(50);
        let own = shared::Budget { tokens: Some(120), ..shared::Budget::default() };
        let budget = budget_of(Some(&own), &status);
        assert_eq!((budget.tokens_max, budget.allowed_max), (Some(120), Some(150)));
    }
}
