//! What a task may spend before it pauses. Pure: the loop asks before each model call.

use std::time::Duration;

/// The limits of a task over all its attempts (`spec.budget`, and the allowance of its placement).
/// Reaching one pauses the task; raising it lets the task go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Tokens, prompts and answers together.
    pub tokens_max: Option<u64>,
    /// Turns.
    pub turns_max: Option<u64>,
    /// Running time.
    pub wall_max: Option<Duration>,
    /// Tokens that the placement may bring the task to: its share of the Workload's budget.
    pub allowed_max: Option<u64>,
}

/// What was spent so far, over all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Tokens, prompts and answers together.
    pub tokens: u64,
    /// Turns.
    pub turns: u64,
    /// Running time.
    pub wall: Duration,
}

/// A limit that does not allow one more model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// Tokens.
    Tokens {
        /// Spent.
        used: u64,
        /// What the next call may need.
        next: u64,
        /// The limit.
        max: u64,
    },
    /// The placement's share of the Workload's tokens.
    Allowance {
        /// Spent.
        used: u64,
        /// What the next call may need.
        next: u64,
        /// What the task may come to with it.
        max: u64,
    },
    /// Turns.
    Turns {
        /// Spent.
        used: u64,
        /// The limit.
        max: u64,
    },
    /// Running time.
    Wall {
        /// Spent, in seconds.
        used_seconds: u64,
        /// The limit, in seconds.
        max_seconds: u64,
    },
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tokens { used, next, max } => {
                write!(
                    f,
                    "budget.tokens: {used} used, the next model call may need {next}, the limit is {max}"
                )
            }
            Self::Allowance { used, next, max } => {
                write!(
                    f,
                    "the Workload's budget.tokens: {used} used, the next model call may need {next}, \
                     this placement may come to {max}"
                )
            }
            Self::Turns { used, max } => write!(f, "budget.turns: {used} of {max} used"),
            Self::Wall { used_seconds, max_seconds } => {
                write!(f, "budget.wallSeconds: {used_seconds} of {max_seconds} used")
            }
        }
    }
}

impl Budget {
    /// Whether one more model call of about `next_tokens` tokens is allowed.
    ///
    /// # Errors
    /// The first limit that does not allow it.
    pub fn check(&self, spent: &Spent, next_tokens: u64) -> Result<(), Exhausted> {
        if let Some(max) = self.tokens_max
            && spent.tokens.saturating_add(next_tokens) > max
        {
            return Err(Exhausted::Tokens { used: spent.tokens, next: next_tokens, max });
        }
        if let Some(max) = self.allowed_max
            && spent.tokens.saturating_add(next_tokens) > max
        {
            return Err(Exhausted::Allowance { used: spent.tokens, next: next_tokens, max });
        }
        if let Some(max) = self.turns_max
            && spent.turns >= max
        {
            return Err(Exhausted::Turns { used: spent.turns, max });
        }
        if let Some(max) = self.wall_max
            && spent.wall >= max
        {
            return Err(Exhausted::Wall {
                used_seconds: spent.wall.as_secs(),
                max_seconds: max.as_secs(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_stops_and_none_does_not() {
        let spent = Spent { tokens: 90, turns: 3, wall: Duration::from_mins(1) };
        assert_eq!(Budget::default().check(&spent, u64::MAX), Ok(()));
        let budget = Budget { tokens_max: Some(100), ..Budget::default() };
        assert_eq!(budget.check(&spent, 10), Ok(()));
        assert_eq!(
            budget.check(&spent, 11),
            Err(Exhausted::Tokens { used: 90, next: 11, max: 100 })
        );
        let budget = Budget { allowed_max: Some(100), ..Budget::default() };
        let end = budget.check(&spent, 11).expect_err("spent");
        assert_eq!(end, Exhausted::Allowance { used: 90, next: 11, max: 100 });
        assert!(end.to_string().starts_with("the Workload's budget.tokens: 90 used"), "{end}");
        let budget = Budget { turns_max: Some(3), ..Budget::default() };
        assert_eq!(budget.check(&spent, 0), Err(Exhausted::Turns { used: 3, max: 3 }));
        let budget = Budget { wall_max: Some(Duration::from_mins(1)), ..Budget::default() };
        let end = budget.check(&spent, 0).expect_err("spent");
        assert_eq!(end.to_string(), "budget.wallSeconds: 60 of 60 used");
    }
}
