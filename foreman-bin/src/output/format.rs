//! `-o`: the forms in which results can be had.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::custom::{CustomColumns, InvalidColumns};
use crate::untrusted;

/// A form of output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// A table with all columns.
    Wide,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
    /// `kind/name`, one a line.
    Name,
    /// A table with the columns that were asked for.
    CustomColumns(CustomColumns),
}

/// A form that there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidFormat {
    /// No form has this name.
    Unknown(String),
    /// The columns that were asked for cannot be read.
    Columns(InvalidColumns),
}

impl fmt::Display for InvalidFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(given) => write!(
                f,
                "no output form {given:?}: use wide, json, yaml, name or custom-columns=NAME:PATH,…"
            ),
            Self::Columns(invalid) => invalid.fmt(f),
        }
    }
}

impl std::error::Error for InvalidFormat {}

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(columns) = text.strip_prefix("custom-columns=") {
            return columns.parse().map(Self::CustomColumns).map_err(InvalidFormat::Columns);
        }
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            "custom-columns" => Err(InvalidFormat::Columns(InvalidColumns::Empty)),
            _ => Err(InvalidFormat::Unknown(text.to_owned())),
        }
    }
}

/// `-o json|yaml` of the verbs that print a report.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FormatArgs {
    /// Print the report as json or yaml instead of text
    #[arg(short, long, value_name = "FORM", value_parser = ["json", "yaml"])]
    pub output: Option<String>,
}

impl FormatArgs {
    /// The report in the form that was asked for; absent = text.
    ///
    /// # Errors
    /// The report cannot be written as YAML.
    pub fn machine(&self, report: &impl Serialize) -> anyhow::Result<Option<String>> {
        match self.output.as_deref() {
            Some("json") => document(&Format::Json, report).map(Some),
            Some("yaml") => document(&Format::Yaml, report).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

/// A value as a JSON or (for every other form) YAML document.
///
/// # Errors
/// The value cannot be written in that form.
pub fn document(format: &Format, value: &impl Serialize) -> anyhow::Result<String> {
    let json = || -> anyhow::Result<String> {
        Ok(untrusted::escape_json(&serde_json::to_string_pretty(value)?) + "\n")
    };
    match format {
        Format::Json => json(),
        Format::Yaml | Format::Table | Format::Wide | Format::Name | Format::CustomColumns(_) => {
            // By way of JSON, so that both show the same.
            let text = serde_saphyr::to_string(&serde_json::to_value(value)?)?;
            if untrusted::has_hidden(&text) {
                // JSON is YAML, too, and can say such characters without having them.
                return json();
            }
            Ok(if text.ends_with('\n') { text } else { text + "\n" })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_reads_back_as_the_same() {
        let value = json!({"a": "yes", "b": [1, null, true], "c": {"d": "line\nbreak: x", "e": "7"},
            "f": "", "g": "2026-11-24T10:00:00Z", "h": "#no comment", "i": " pad "});
        let text = document(&Format::Yaml, &value).expect("written");
        let back: serde_json::Value = serde_saphyr::from_str(&text).expect("read");
        assert_eq!(back, value, "{text}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_in_both() {
        let value = json!({"a": "\u{1b}]52;c;x\u{7}\u{9b}2J\u{202e}"});
        for form in [Format::Json, Format::Yaml] {
            let text = document(&form, &value).expect("written");
            assert!(!untrusted::has_hidden(&text), "{text:?}");
            let back: serde_json::Value = serde_saphyr::from_str(&text).expect("read");
            assert_eq!(back, value);
        }
    }

    #[test]
    fn an_unknown_form_lists_the_known_ones() {
        let error = "xml".parse::<Format>().expect_err("unknown");
        let known = "use wide, json, yaml, name or custom-columns=NAME:PATH,…";
        assert_eq!(error.to_string(), format!("no output form \"xml\": {known}"));
    }
}
