//! Which objects are listed, and in which order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use super::GetArgs;
use crate::cli::world::Found;
use crate::exit::{Exit, Failure};
use crate::output;

/// The fields that can be selected by, with their paths.
const FIELDS: [(&str, &str); 9] = [
    ("phase", ".status.phase"),
    ("status.phase", ".status.phase"),
    ("node", ".status.assignedNode"),
    ("status.assignedNode", ".status.assignedNode"),
    ("reason", ".status.waiting.reason"),
    ("status.waiting.reason", ".status.waiting.reason"),
    ("verdict", ".status.verdict"),
    ("name", ".metadata.name"),
    ("metadata.name", ".metadata.name"),
];

/// One test of a field.
#[derive(Debug, PartialEq, Eq)]
struct Test {
    path: &'static str,
    equal: bool,
    value: String,
}

/// What was said about which objects, and in which order.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) labels: BTreeMap<String, String>,
    tests: Vec<Test>,
    sort_by: Option<String>,
}

impl Selection {
    pub(super) fn parse(args: &GetArgs) -> Result<Self, Failure> {
        Ok(Self {
            labels: labels(args.selector.as_deref().unwrap_or_default())?,
            tests: parse_tests(args.field_selector.as_deref().unwrap_or_default())?,
            sort_by: args.sort_by.clone(),
        })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.tests.iter().all(|test| {
            let found = output::at(object, test.path).map(output::cell).unwrap_or_default();
            (found == test.value) == test.equal
        })
    }

    /// Sorts within each kind; objects without the field come first.
    pub(super) fn sort(&self, found: &mut [Found]) {
        let Some(path) = &self.sort_by else { return };
        found.sort_by(|one, other| {
            one.kind
                .cmp(&other.kind)
                .then_with(|| compare(output::at(&one.json, path), output::at(&other.json, path)))
        });
    }
}

fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.map(output::cell).cmp(&other.map(output::cell)),
    }
}

fn labels(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    parts(text)
        .map(|part| {
            let pair = part.replace("==", "=");
            match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() && !key.ends_with('!') => {
                    Ok((key.trim().to_owned(), value.trim().to_owned()))
                }
                _ => Err(Failure::new(Exit::Usage, format!("{part:?} selects by no label"))
                    .next("write -l KEY=VALUE, several with commas")),
            }
        })
        .collect()
}

fn parse_tests(text: &str) -> Result<Vec<Test>, Failure> {
    parts(text)
        .map(|part| {
            let (name, equal, value) = match (part.split_once("!="), part.split_once('=')) {
                (Some((name, value)), _) => (name, false, value),
                (None, Some((name, value))) => (name, true, value.trim_start_matches('=')),
                (None, None) => (part, true, ""),
            };
            let path =
                FIELDS.iter().find(|(field, _)| *field == name.trim()).map(|(_, path)| *path);
            match path {
                Some(path) if part.contains('=') => {
                    Ok(Test { path, equal, value: value.trim().to_owned() })
                }
                _ => {
                    let fields: Vec<_> = FIELDS.iter().map(|(field, _)| *field).collect();
                    Err(Failure::new(Exit::Usage, format!("{part:?} selects by no field")).next(
                        format!("write FIELD=VALUE or FIELD!=VALUE with {}", fields.join(", ")),
                    ))
                }
            }
        })
        .collect()
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_select_by_equal_and_not_equal() {
        let select = |text: &str| Selection {
            labels: BTreeMap::new(),
            tests: parse_tests(text).expect("valid"),
            sort_by: None,
        };
        let object = json!({"status": {"phase": "Pending", "assignedNode": "a"}});
        assert!(select("phase=Pending").matches(&object));
        assert!(select("status.phase==Pending,node!=b").matches(&object));
        assert!(!select("phase!=Pending").matches(&object));
        assert!(select("verdict!=GO").matches(&object));
        for wrong in ["phase", "color=red"] {
            assert_eq!(parse_tests(wrong).expect_err(wrong).exit(), Exit::Usage);
        }
    }

    #[test]
    fn labels_are_pairs() {
        let pairs = labels("a=b, foreman.llmkube.dev/x==y").expect("valid");
        assert_eq!(pairs.get("a").map(String::as_str), Some("b"));
        assert_eq!(pairs.get("foreman.llmkube.dev/x").map(String::as_str), Some("y"));
        for wrong in ["a", "=b", "a!=b"] {
            assert_eq!(labels(wrong).expect_err(wrong).exit(), Exit::Usage);
        }
    }

    #[test]
    fn numbers_sort_as_numbers() {
        let (nine, ten) = (json!(9), json!(10));
        assert_eq!(compare(Some(&nine), Some(&ten)), Ordering::Less);
        assert_eq!(compare(None, Some(&ten)), Ordering::Less);
    }
}
