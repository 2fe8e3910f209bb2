//! `--turn A..B`.

use std::fmt;
use std::str::FromStr;

/// A range of turns, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    first: usize,
    last: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { first: 0, last: usize::MAX }
    }
}

impl Turns {
    /// Whether the turn is in the range. What comes before the first turn is turn 0.
    pub const fn contains(self, turn: usize) -> bool {
        turn >= self.first && turn <= self.last
    }
}

/// A text that is no range of turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTurns;

impl fmt::Display for InvalidTurns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a turn or a range of turns: 3, 3.., ..7 or 3..7")
    }
}

impl std::error::Error for InvalidTurns {}

impl FromStr for Turns {
    type Err = InvalidTurns;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str, absent| {
            let digits = text.trim();
            if digits.is_empty() {
                Ok(absent)
            } else {
                digits.parse::<usize>().map_err(|_| InvalidTurns)
            }
        };
        let turns = if let Some((first, last)) = text.split_once("..") {
            let last = last.strip_prefix('=').unwrap_or(last);
            Self { first: number(first, 0)?, last: number(last, usize::MAX)? }
        } else {
            let one = text.trim().parse().map_err(|_| InvalidTurns)?;
            Self { first: one, last: one }
        };
        if turns.first > turns.last { Err(InvalidTurns) } else { Ok(turns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        let inside = |text: &str| {
            let turns: Turns = text.parse().expect("a range");
            (0..6).filter(|turn| turns.contains(*turn)).collect::<Vec<_>>()
        };
        assert_eq!(inside("3"), [3]);
        assert_eq!(inside("2..3"), [2, 3]);
        assert_eq!(inside("4.."), [4, 5]);
        assert_eq!(inside("..1"), [0, 1]);
        for wrong in ["", "x", "3..2", "1..x", "-1"] {
            assert_eq!(wrong.parse::<Turns>(), Err(InvalidTurns), "{wrong}");
        }
    }
}
