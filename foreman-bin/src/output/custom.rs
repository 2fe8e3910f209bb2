//! `-o custom-columns=NAME:PATH,…`, as kubectl has it.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::{Table, all, cell, is_path};
use crate::untrusted;

/// What stands where an object has no value.
const MISSING: &str = "<none>";

/// A heading and the path of the values below it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CustomColumn {
    heading: String,
    path: String,
}

/// The columns that were asked for; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomColumns(Vec<CustomColumn>);

/// Columns that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidColumns {
    /// None is named.
    Empty,
    /// One is not `NAME:PATH`.
    Malformed(String),
    /// The path of one is none.
    NoPath {
        /// The whole column.
        column: String,
        /// What stands in place of a path.
        path: String,
    },
}

impl fmt::Display for InvalidColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "write custom-columns=NAME:PATH,…, e.g. NAME:.metadata.name,PHASE:.status.phase";
        match self {
            Self::Empty => write!(f, "custom-columns names no column: {rule}"),
            Self::Malformed(column) => write!(f, "column {column:?} is not NAME:PATH: {rule}"),
            Self::NoPath { column, path } => write!(
                f,
                "{path:?} of column {column:?} is not a path: use fields, [N], [*], ['name'] and \
                 [?(@.field==\"value\")], e.g. .status.conditions[*].type"
            ),
        }
    }
}

impl std::error::Error for InvalidColumns {}

impl FromStr for CustomColumns {
    type Err = InvalidColumns;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err(InvalidColumns::Empty);
        }
        let column = |text: &str| match text.split_once(':') {
            Some((heading, path)) if !heading.trim().is_empty() && !path.trim().is_empty() => {
                let (heading, path) = (heading.trim().to_owned(), path.trim().to_owned());
                if is_path(&path) {
                    Ok(CustomColumn { heading, path })
                } else {
                    Err(InvalidColumns::NoPath { column: text.to_owned(), path })
                }
            }
            _ => Err(InvalidColumns::Malformed(text.to_owned())),
        };
        text.split(',').map(column).collect::<Result<_, _>>().map(Self)
    }
}

impl CustomColumns {
    /// A table of these columns; values are never cut.
    pub fn table<'v>(&self, objects: impl IntoIterator<Item = &'v Value>) -> Table {
        // A heading is the user's own, but goes to the terminal of whoever pasted it.
        let headings = self.0.iter().map(|column| untrusted::line(&column.heading, usize::MAX));
        let mut table = Table::new(headings).uncut();
        for object in objects {
            table.row(self.0.iter().map(|column| column.cell(object)));
        }
        table
    }
}

impl CustomColumn {
    /// The values at the path, with commas.
    fn cell(&self, object: &Value) -> String {
        let values: Vec<String> =
            all(object, &self.path).into_iter().map(cell).filter(|text| !text.is_empty()).collect();
        if values.is_empty() { MISSING.to_owned() } else { values.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_those_of_kubectl_and_what_is_missing_is_said() {
        let columns: CustomColumns =
            "NAME:.metadata.name,PHASE:{.status.phase},KINDS:.status.conditions[*].type"
                .parse()
                .expect("columns");
        let long = "x".repeat(300);
        let objects = [
            json!({"metadata": {"name": "a"}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready"}, {"type": "Stuck"}]}}),
            json!({"metadata": {"name": long}, "status": {"phase": null}}),
        ];
        let text = columns.table(&objects).render(true);
        let text = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["NAME", "PHASE", "KINDS"],
                vec!["a", "Running", "Ready,Stuck"],
                vec![long.as_str(), "<none>", "<none>"],
            ]
        );
    }

    #[test]
    fn a_malformed_column_is_named_with_the_rule() {
        for (text, named) in [
            ("", "names no column: write custom-columns=NAME:PATH,…"),
            ("NAME", "column \"NAME\" is not NAME:PATH"),
            ("NAME:.a,", "column \"\" is not NAME:PATH"),
            (":.a", "column \":.a\" is not NAME:PATH"),
            ("A:.status.conditions[", "\".status.conditions[\" of column"),
            ("A:.x[one]", "is not a path: use fields, [N]"),
            ("A:{}", "is not a path"),
        ] {
            let error = text.parse::<CustomColumns>().expect_err(text).to_string();
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }
}
