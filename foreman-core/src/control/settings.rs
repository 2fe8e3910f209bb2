//! What can be configured of the control loops.

use super::lane::Rates;
use crate::policy::admit::Policy;
use crate::timing::{
    LANE_AT_ONCE_SHARE, LANE_WRITES, LANE_WRITES_BUSY, LANE_WRITES_MAX, WRITES_AT_ONCE,
    WRITES_AT_ONCE_MAX,
};

/// Settings of the control loops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Decided writes that are on their way at the same time, 1 to 1024. 256 suits a store in this
    /// process, 64 a server that others use too.
    pub writes_at_once: usize,
    /// Low-priority writes in a second while nothing urgent is on its way, 1 to 1000.
    pub lane_writes: usize,
    /// The same while something urgent is, at most [`Self::lane_writes`].
    pub lane_writes_busy: usize,
    /// What this installation allows.
    pub policy: Policy,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            writes_at_once: WRITES_AT_ONCE,
            lane_writes: LANE_WRITES,
            lane_writes_busy: LANE_WRITES_BUSY,
            policy: Policy::default(),
        }
    }
}

/// A setting is out of its limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, it must be {least} to {most}")]
pub struct InvalidSetting {
    /// Which.
    pub name: &'static str,
    /// What it is.
    pub value: usize,
    /// The least that is allowed.
    pub least: usize,
    /// The most that is allowed.
    pub most: usize,
}

impl ControlSettings {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first setting that is out of its limits.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let within = |name, value, most| {
            let least = 1;
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(InvalidSetting { name, value, least, most })
        };
        within("writes_at_once", self.writes_at_once, WRITES_AT_ONCE_MAX)?;
        within("lane_writes", self.lane_writes, LANE_WRITES_MAX)?;
        within("lane_writes_busy", self.lane_writes_busy, self.lane_writes)
    }

    pub(super) fn rates(&self) -> Rates {
        Rates { quiet: self.lane_writes, busy: self.lane_writes_busy }
    }

    /// Low-priority writes that may be on their way at the same time: they never take the room of
    /// urgent ones.
    pub(super) fn lane_at_once(&self) -> usize {
        (self.writes_at_once / LANE_AT_ONCE_SHARE).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_checked_on_both_sides() {
        let valid = ControlSettings::default();
        assert_eq!(valid.validate(), Ok(()));
        let at = |writes_at_once, lane_writes, lane_writes_busy| ControlSettings {
            writes_at_once,
            lane_writes,
            lane_writes_busy,
            ..ControlSettings::default()
        };
        for good in [at(1, 1, 1), at(WRITES_AT_ONCE_MAX, LANE_WRITES_MAX, LANE_WRITES_MAX)] {
            assert_eq!(good.validate(), Ok(()));
        }
        let bad = [
            (at(0, 1, 1), "writes_at_once is 0, it must be 1 to 1024"),
            (at(WRITES_AT_ONCE_MAX + 1, 1, 1), "writes_at_once is 1025, it must be 1 to 1024"),
            (at(1, 0, 1), "lane_writes is 0, it must be 1 to 1000"),
            (at(1, LANE_WRITES_MAX + 1, 1), "lane_writes is 1001, it must be 1 to 1000"),
            (at(1, 5, 0), "lane_writes_busy is 0, it must be 1 to 5"),
            (at(1, 5, 6), "lane_writes_busy is 6, it must be 1 to 5"),
        ];
        for (settings, told) in bad {
            assert_eq!(settings.validate().expect_err("refused").to_string(), told);
        }
    }
}
