//! Durations and budgets as people write them.

use std::time::Duration;

use foreman_core::model::shared::Budget;

/// Reads `90s`, `30m`, `2h`, `1h30m`; a bare number is seconds.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write e.g. 90s, 30m, 2h or 1h30m");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(seconds)));
    }
    let mut total: u64 = 0;
    let mut number = String::new();
    for c in text.chars() {
        let unit: u64 = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        number.clear();
        let more = count.checked_mul(unit).ok_or_else(wrong)?;
        total = total.checked_add(more).ok_or_else(wrong)?;
    }
    if text.is_empty() || !number.is_empty() || total > u64::from(u32::MAX) {
        return Err(wrong());
    }
    Ok(Duration::from_secs(total))
}

/// Reads `tokens=2M,turns=40,wall=3h`.
pub(in crate::cli) fn budget(text: &str) -> Result<Budget, String> {
    let mut budget = Budget::default();
    for part in text.split(',') {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!(
                "{part:?} is no part of a budget: write e.g. tokens=2M,turns=40,wall=3h"
            ));
        };
        match name.trim() {
            "tokens" => budget.tokens = Some(number(value.trim())?),
            "turns" => budget.turns = Some(number(value.trim())?),
            "wall" => {
                let seconds = duration(value.trim())?.as_secs();
                budget.wall_seconds = Some(i64::try_from(seconds).unwrap_or(i64::MAX));
            }
            other => {
                return Err(format!("a budget has tokens, turns and wall, and no {other:?}"));
            }
        }
    }
    Ok(budget)
}

/// Reads `800`, `200k`, `2M`.
fn number(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no number: write e.g. 800, 200k or 2M");
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => match text.strip_suffix('M') {
            Some(digits) => (digits, 1_000_000),
            None => (text, 1),
        },
    };
    let number: i64 = digits.parse().ok().filter(|number| *number >= 0).ok_or_else(wrong)?;
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_or_refused_whole() {
        let good = [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800)];
        for (text, seconds) in good {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "1x", "1h30", "-1s", "1.5h", "99999999999999999999h", "5000000000s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn budgets_are_read_or_refused_whole() {
        let all = Budget { tokens: Some(2_000_000), turns: Some(40), wall_seconds: Some(10_800) };
        assert_eq!(budget("tokens=2M,turns=40,wall=3h"), Ok(all));
        let some = Budget { tokens: Some(200_000), ..Budget::default() };
        assert_eq!(budget("tokens=200k"), Ok(some));
        for bad in
            ["", "2M", "tokens=-1", "tokens=x", "money=3", "turns=", "tokens=9999999999999999M"]
        {
            assert!(budget(bad).is_err(), "{bad}");
        }
    }
}
