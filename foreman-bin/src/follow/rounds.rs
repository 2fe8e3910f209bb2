//! Later tries as their names show them: `code-r1` takes the place of `code` when its change was sent
//! back, and `code-91-esc` that of `code-91` when a stronger coder was asked.

/// The round of a stronger coder: after every fix round.
const ESCALATED: u32 = u32::MAX;

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
fn round_of(step: &str) -> (String, u32) {
    let round = step.rsplit_once("-r").and_then(|(base, round)| Some((base, round.parse().ok()?)));
    if let Some((base, round)) = round.filter(|(_, round)| *round > 0) {
        return (base.to_owned(), round);
    }
    match escalated(step) {
        Some(base) => (base, ESCALATED),
        None => (step.to_owned(), 0),
    }
}

/// The step that a stronger coder's step stands for: `code-91-esc`, `review-91-esc-0`.
fn escalated(step: &str) -> Option<String> {
    let (issue, index) = match step.strip_suffix("-esc") {
        Some(issue) => (issue, ""),
        None => step.rsplit_once("-esc-")?,
    };
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let of_an_issue = issue.rsplit_once('-').is_some_and(|(_, number)| is_number(number));
    if !of_an_issue || !(index.is_empty() || is_number(index)) {
        return None;
    }
    Some(if index.is_empty() { issue.to_owned() } else { format!("{issue}-{index}") })
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

    #[test]
    fn a_stronger_coder_takes_the_place_of_all_that_was_tried_for_the_issue() {
        let steps = [
            "code-7",
            "review-7-0",
            "code-7-r1",
            "code-7-esc",
            "review-7-esc-0",
            "code-8",
            "code-esc",
            "escalate-7-0",
        ];
        let by = steps.map(|step| superseded_by(step, steps.into_iter()));
        let (coder, review) = (Some("code-7-esc"), Some("review-7-esc-0"));
        assert_eq!(by, [coder, review, coder, None, None, None, None, None]);
    }
}
