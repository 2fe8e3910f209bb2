//! A YAML document with the line of every value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{Error, Spanned};

/// Deeper documents are refused; deeper than any manifest, and than the core validates.
const DEPTH_MAX: usize = 64;
/// More values in one document are refused.
const NODES_MAX: usize = 200_000;
/// More `*alias` in one document are refused.
const ALIASES_MAX: usize = 1000;
/// Aliases that grow to more parser events than this are refused: small texts stay small.
const ALIAS_EVENTS_MAX: usize = 100_000;
/// The parser calls itself for every level, and takes up to 40 KB each in a debug build; a thread of
/// tokio has 2 MiB in all. So it gets a thread of its own, with room for twice the depth.
const PARSER_STACK_BYTES: usize = 8 * 1024 * 1024;
/// Whole floats up to this size have an exact integer.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// A value, and the line it (or its key) stands in.
#[derive(Debug)]
pub(super) struct Tree {
    /// The line, from 1.
    pub(super) line: usize,
    node: Node<Self>,
}

#[derive(Debug)]
enum Node<T> {
    Scalar(Value),
    List(Vec<T>),
    Map(Vec<(String, usize, T)>),
}

/// Why a text is no YAML document.
#[derive(Debug)]
pub(super) struct NotYaml {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) rule: String,
}

impl Tree {
    /// Parses one document that begins after `lines_before` lines; absent when it is empty.
    pub(super) fn parse(text: &str, lines_before: usize) -> Result<Option<Self>, NotYaml> {
        std::thread::scope(|scope| {
            let parser = std::thread::Builder::new()
                .stack_size(PARSER_STACK_BYTES)
                .spawn_scoped(scope, || Self::parse_here(text, lines_before));
            let broken = |rule: &str| NotYaml { line: lines_before + 1, rule: rule.to_owned() };
            match parser {
                Ok(parser) => parser.join().unwrap_or_else(|_| Err(broken("broke the parser"))),
                Err(error) => Err(broken(&format!("cannot be parsed, no thread: {error}"))),
            }
        })
    }

    fn parse_here(text: &str, lines_before: usize) -> Result<Option<Self>, NotYaml> {
        let parsed: Result<Option<Spanned<Raw>>, Error> =
            serde_saphyr::from_str_with_options(text, options());
        match parsed {
            Ok(raw) => Ok(raw.map(|raw| Self::of(raw, lines_before))),
            Err(error) => {
                let line = error.location().map_or(1, |location| line(location.line()));
                Err(NotYaml { line: lines_before + line, rule: words(&error) })
            }
        }
    }

    fn of(raw: Spanned<Raw>, lines_before: usize) -> Self {
        let first = lines_before + line(raw.referenced.line());
        let node = match raw.value.0 {
            Node::Scalar(value) => Node::Scalar(value),
            Node::List(list) => {
                Node::List(list.into_iter().map(|child| Self::of(child, lines_before)).collect())
            }
            Node::Map(entries) => Node::Map(
                entries
                    .into_iter()
                    .map(|(key, line, child)| {
                        (key, lines_before + line, Self::of(child, lines_before))
                    })
                    .collect(),
            ),
        };
        Self { line: first, node }
    }

    /// The document without its places.
    pub(super) fn to_json(&self) -> Value {
        match &self.node {
            Node::Scalar(value) => value.clone(),
            Node::List(list) => list.iter().map(Self::to_json).collect(),
            Node::Map(entries) => {
                let mut map = Map::new();
                for (key, _, child) in entries {
                    map.entry(key.clone()).or_insert_with(|| child.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// The items of a `kind: …List`.
    pub(super) fn list_items(&self) -> Option<&[Self]> {
        let kind = self.child("kind").map(|kind| &kind.node)?;
        let Node::Scalar(Value::String(kind)) = kind else {
            return None;
        };
        let Node::List(items) = &self.child("items")?.node else {
            return None;
        };
        kind.ends_with("List").then_some(items)
    }

    fn child(&self, name: &str) -> Option<&Self> {
        let Node::Map(entries) = &self.node else {
            return None;
        };
        entries.iter().find(|(key, _, _)| key == name).map(|(_, _, child)| child)
    }

    /// The line of the field at `path`, e.g. `spec.pipeline[0].name` or `metadata.labels[a/b.c]`;
    /// where it is missing, the line of the last of its parents that is there.
    pub(super) fn line_of(&self, path: &str) -> usize {
        self.seek(path, self.line)
    }

    fn seek(&self, path: &str, here: usize) -> usize {
        match &self.node {
            Node::Scalar(_) => here,
            Node::List(list) => {
                let split = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let Some((index, rest)) = split else {
                    return here;
                };
                let child = index.parse::<usize>().ok().and_then(|index| list.get(index));
                child.map_or(here, |child| child.seek(rest, child.line))
            }
            // Keys may hold dots, so the longest key that the path begins with is the one meant.
            Node::Map(entries) => entries
                .iter()
                .filter_map(|(key, line, child)| Some((key.len(), *line, child, after(path, key)?)))
                .max_by_key(|(length, ..)| *length)
                .map_or(here, |(_, line, child, rest)| child.seek(rest, line)),
        }
    }
}

/// What is left of a path after its first part, when that is `key`.
fn after<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    let bracketed =
        path.strip_prefix('[').and_then(|rest| rest.strip_prefix(key)?.strip_prefix(']'));
    let plain = || path.strip_prefix('.').unwrap_or(path).strip_prefix(key);
    let rest = bracketed.or_else(plain)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

fn line(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX)
}

fn options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::options! {
        with_snippet: false,
        // As kubectl reads them: `yes` and `on` are booleans, 0755 is octal.
        strict_booleans: false,
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_aliases: ALIASES_MAX,
        },
    };
    options.alias_limits.max_total_replayed_events = ALIAS_EVENTS_MAX;
    options
}

/// The parser's words, without the place (we know the line of the file, it knows that of the
/// document) and without advice for programmers.
fn words(error: &Error) -> String {
    let said = error.without_snippet().to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    if let Some(rest) = said.strip_prefix("duplicate mapping key: ") {
        let key = rest.split(", set ").next().unwrap_or(rest);
        return format!("key {key:?} is there twice in one mapping");
    }
    if said.starts_with("alias replay limit") {
        return "aliases grow the document beyond all measure: write it without".to_owned();
    }
    if said.starts_with("cannot deserialize null into string") {
        return "is not valid YAML: a key must be a text, not null".to_owned();
    }
    if said.starts_with("recursive references") {
        return "is not valid YAML: an alias refers to the value that it stands in".to_owned();
    }
    if let Some(rest) = said.strip_prefix("non-finite float ") {
        let number = rest.split(" rejected").next().unwrap_or(rest);
        return format!("is not valid YAML: {number} is no number that an object can hold");
    }
    match said.strip_prefix("budget breached: ") {
        Some(what) if what.starts_with("Depth") => {
            format!("must not be nested deeper than {DEPTH_MAX}")
        }
        Some(what) if what.starts_with("Aliases") => {
            format!("must not have more than {ALIASES_MAX} aliases")
        }
        Some(what) if what.starts_with("Nodes") => {
            format!("must not have more than {NODES_MAX} values")
        }
        Some(what) => format!("is too large for a manifest ({what})"),
        None => format!("is not valid YAML: {said}"),
    }
}

/// A value as the parser gives it.
struct Raw(Node<Spanned<Self>>);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl RawVisitor {
    fn scalar(value: impl Into<Value>) -> Raw {
        Raw(Node::Scalar(value.into()))
    }
}

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Self::scalar(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Self::scalar(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Self::scalar(value))
    }

    // kubectl writes a whole float as an integer, so `3.0` is a good number of turns.
    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        let whole = value.fract() == 0.0 && value.abs() <= EXACT_FLOAT_MAX;
        let integer = whole.then(|| format!("{value:.0}").parse::<i64>().ok()).flatten();
        Ok(integer.map_or_else(|| Self::scalar(value), Self::scalar))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Self::scalar(value))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Self::scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Self::scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = access.next_element()? {
            list.push(item);
        }
        Ok(Raw(Node::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) =
            access.next_entry::<Spanned<String>, Spanned<Self::Value>>()?
        {
            entries.push((key.value, line(key.referenced.line()), value));
        }
        Ok(Raw(Node::Map(entries)))
    }
}
