//! What a person may have meant by a field that does not exist.

use foreman_core::model::apiserver::META_FIELDS;
use serde_json::Value;

/// Longer lists of fields help nobody.
const LISTED_MAX: usize = 12;

/// The rule for an unknown field, with the nearest known one.
pub(super) fn unknown(schema: &Value, path: &str) -> String {
    let (known, name) = match path.strip_prefix("metadata.") {
        Some(name) => (META_FIELDS.to_vec(), name),
        None => siblings(schema, path),
    };
    match nearest(&known, name) {
        Some(near) => format!("unknown field, did you mean {near:?}?"),
        None if known.is_empty() || known.len() > LISTED_MAX => "unknown field".to_owned(),
        None => format!("unknown field, use some of: {}", known.join(", ")),
    }
}

/// A broken rule, with what to do where YAML itself misled: `no`, `n`, `1.0` are no texts.
pub(super) fn broken(rule: &str) -> String {
    let misled = ["boolean", "number"]
        .iter()
        .any(|found| rule.starts_with(&format!("must be of type string, got {found} ")));
    if misled { format!("{rule}: put it in quotes") } else { rule.to_owned() }
}

/// The fields that stand where the path ends, and the part of the path that none of them is.
fn siblings<'a>(schema: &'a Value, path: &'a str) -> (Vec<&'a str>, &'a str) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let step = properties.into_iter().flatten().find_map(|(name, below)| {
        let rest = path.strip_prefix(name.as_str())?;
        rest.starts_with(['.', '[']).then_some((below, rest))
    });
    if let Some((below, rest)) = step {
        return siblings(below, rest.strip_prefix('.').unwrap_or(rest));
    }
    let item = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let (Some(below), Some((_, rest))) = (schema.get("items"), item) {
        return siblings(below, rest.strip_prefix('.').unwrap_or(rest));
    }
    (properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect(), path)
}

/// The known name that is nearest to `name`, if it is near at all: one edit, two from six characters
/// on, three from ten on, and so forth. Names that differ only in case are nearest.
fn nearest<'a>(known: &[&'a str], name: &str) -> Option<&'a str> {
    let far = ((name.chars().count() + 2) / 4).max(1);
    let lower = name.to_lowercase();
    let distances = known.iter().map(|one| (distance(&one.to_lowercase(), &lower), *one));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, one)| one)
}

/// The edits (insert, delete, replace) that make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, a) in one.chars().enumerate() {
        let mut next = vec![index + 1];
        for (b, pair) in other.iter().zip(row.windows(2)) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => return usize::MAX,
            };
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            let replace = diagonal + usize::from(a != *b);
            next.push(replace.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use foreman_core::model::manifest::AnyKind;

    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(distance("prompt", "prompt"), 0);
        assert_eq!(distance("prompt", "promt"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn the_nearest_field_of_the_same_place_is_meant() {
        let workload = AnyKind::Workload.schema();
        let cases = [
            ("spec.pipeline[0].payload.promt", "unknown field, did you mean \"prompt\"?"),
            ("spec.Intent", "unknown field, did you mean \"intent\"?"),
            ("spec.verifierAgentref", "unknown field, did you mean \"verifierAgentRef\"?"),
            ("specs", "unknown field, did you mean \"spec\"?"),
            ("metadata.lables", "unknown field, did you mean \"labels\"?"),
            ("spec.nonsense", "unknown field"),
            ("spec.budget.euros", "unknown field, use some of: tokens, turns, wallSeconds"),
        ];
        for (path, rule) in cases {
            assert_eq!(unknown(workload, path), rule);
        }
    }
}
