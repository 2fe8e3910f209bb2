//! Numbers and times as people read them at a glance.

use std::time::Duration;

/// Time since the start, for the front of a line: `06:02`, `1:06:02`.
pub(super) fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// A duration in a sentence: `0.4s`, `38s`, `6m02s`, `2h04m`.
pub fn took(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A number of tokens: `940`, `12k`, `1.3M`; an unknown one is `-`.
pub fn count(number: i64) -> String {
    match number {
        i64::MIN..=0 => "-".to_owned(),
        1..1000 => number.to_string(),
        1000..1_000_000 => format!("{}k", number / 1000),
        _ => format!("{}.{}M", number / 1_000_000, number / 100_000 % 10),
    }
}

/// `1 turn`, `3 turns`.
pub fn plural(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_read_at_a_glance() {
        let seconds = Duration::from_secs;
        assert_eq!([0, 362, 3962].map(|s| clock(seconds(s))), ["00:00", "06:02", "1:06:02"]);
        let durations = [Duration::from_millis(440), seconds(38), seconds(362), seconds(7440)];
        assert_eq!(durations.map(took), ["0.4s", "38s", "6m02s", "2h04m"]);
        let numbers = [0, 940, 12_345, 1_340_000, i64::MAX].map(count);
        assert_eq!(numbers, ["-", "940", "12k", "1.3M", "9223372036854.7M"]);
        assert_eq!([1, 3].map(|n| plural(n, "turn")), ["1 turn", "3 turns"]);
    }
}
