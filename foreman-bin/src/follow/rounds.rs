//! Fix rounds as their names show them: `code-r1` takes the place of `code` when its change was sent
//! back.

/// The step of the latest later round that took the place of `step`, if one did.
pub fn superseded_by<'s>(step: &str, steps: impl Iterator<Item = &'s str>) -> Option<&'s str> {
    let (base, round) = round_of(step);
    let later = steps.filter(|name| {
        let (other, later) = round_of(name);
        other == base && later > round
    });
    later.max_by_key(|name| round_of(name).1)
}

/// A step's name without its round, and the round: 0 is the first try.
fn round_of(step: &str) -> (&str, u32) {
    let round = step.rsplit_once("-r").and_then(|(base, round)| Some((base, round.parse().ok()?)));
    round.filter(|(_, round)| *round > 0).unwrap_or((step, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gives_way_to_the_last_fix_round_of_it() {
        let steps = ["code", "verify", "code-r1", "verify-r1", "code-r2", "bar-r"];
        let by = steps.map(|step| superseded_by(step, steps.into_iter()));
        let wanted = [Some("code-r2"), Some("verify-r1"), Some("code-r2"), None, None, None];
        assert_eq!(by, wanted);
    }
}
