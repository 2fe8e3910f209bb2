//! Three clocks, three types, so that mixing them does not compile.
//!
//! Records carry [`WallTime`]. My own rights age on [`BootTime`]; other people's silence ages on
//! [`AwakeTime`].

use std::borrow::Cow;
use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time as people write it down: RFC 3339 in UTC, whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(Timestamp);

/// A text that is no RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not an RFC 3339 time such as 2026-11-24T10:00:00Z")]
pub struct InvalidTime {
    /// What was given.
    pub found: String,
}

impl WallTime {
    /// The time `seconds` after 1970-01-01T00:00:00Z; clamped to the years that can be written.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let clamped = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Self(Timestamp::from_second(clamped).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// How long ago `earlier` was, zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        let seconds = self.unix_seconds().saturating_sub(earlier.unix_seconds());
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// This time and `by` more, in whole seconds.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix_seconds(self.unix_seconds().saturating_add(seconds))
    }

    /// This time less `by`, in whole seconds.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix_seconds(self.unix_seconds().saturating_sub(seconds))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for WallTime {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: Timestamp = text.parse().map_err(|_| InvalidTime { found: text.to_owned() })?;
        Ok(Self::from_unix_seconds(parsed.as_second()))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for WallTime {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WallTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

macro_rules! monotonic {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(Duration);

        impl $name {
            /// The time `since_origin` after this clock's own origin.
            pub const fn new(since_origin: Duration) -> Self {
                Self(since_origin)
            }

            /// How long after its origin this time is.
            pub const fn since_origin(self) -> Duration {
                self.0
            }

            /// How long ago `earlier` was, zero if it lies ahead.
            pub const fn since(self, earlier: Self) -> Duration {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;

            fn add(self, by: Duration) -> Self {
                Self(self.0.saturating_add(by))
            }
        }
    };
}

monotonic! {
    /// Monotonic time that stands still while the machine sleeps.
    AwakeTime
}
monotonic! {
    /// Monotonic time that runs on while the machine sleeps.
    BootTime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_written_in_whole_seconds_with_z() {
        let time: WallTime = "2026-11-24T12:00:00.987+02:00".parse().expect("valid");
        assert_eq!(time.to_string(), "2026-11-24T10:00:00Z");
    }

    #[test]
    fn a_time_that_lies_ahead_is_no_age() {
        let early = WallTime::from_unix_seconds(10);
        let late = WallTime::from_unix_seconds(70);
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_mins(1));
    }

    #[test]
    fn absurd_seconds_are_clamped() {
        assert!(WallTime::from_unix_seconds(i64::MAX) > WallTime::from_unix_seconds(0));
        assert!(WallTime::from_unix_seconds(i64::MIN) < WallTime::from_unix_seconds(0));
    }
}
