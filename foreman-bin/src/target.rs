//! What a person means by `KIND/name`, `KIND name`, `KIND/@latest`.

use std::fmt;

use foreman_core::model::ids::check_object_name;
use foreman_core::model::manifest::AnyKind;

use crate::exit::{Exit, Failure};

/// The name that stands for the newest object of a kind.
pub const LATEST: &str = "@latest";
/// How many near names are shown.
const NEAR_MAX: usize = 3;

/// Which object of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one of that name.
    Named(String),
    /// The newest of the namespace.
    Latest,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Latest => f.write_str(LATEST),
        }
    }
}

/// One object as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: AnyKind,
    /// Which of the kind.
    pub which: Which,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.names().alias, self.which)
    }
}

impl Target {
    /// A target of that kind.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn of(kind: AnyKind, name: &str) -> Result<Self, Failure> {
        if name == LATEST {
            return Ok(Self { kind, which: Which::Latest });
        }
        check_object_name(name).map_err(|error| {
            Failure::new(Exit::Usage, format!("{name:?} is no name of an object")).because(error)
        })?;
        Ok(Self { kind, which: Which::Named(name.to_owned()) })
    }

    /// Reads `KIND/name`. A bare word is a name of `bare`, where a verb has a kind in mind.
    ///
    /// # Errors
    /// No such kind, no kind at all, or a name that cannot be one.
    pub fn parse(text: &str, bare: Option<AnyKind>) -> Result<Self, Failure> {
        match (text.split_once('/'), bare) {
            (Some((kind, name)), _) => Self::of(kind_of(kind)?, name),
            (None, Some(kind)) => Self::of(kind, text),
            (None, None) => Err(Failure::new(Exit::Usage, format!("{text:?} names no kind"))
                .next(format!("write task/{text} or workload/{text}"))),
        }
    }

    /// Reads the words of a verb that takes objects: `KIND/name…` or `KIND name…`.
    ///
    /// # Errors
    /// As [`Target::parse`], or a kind without a name.
    pub fn parse_all(words: &[String], bare: Option<AnyKind>) -> Result<Vec<Self>, Failure> {
        let Some((first, names)) = words.split_first() else {
            return Ok(Vec::new());
        };
        match AnyKind::parse(first) {
            Some(kind) if !first.contains('/') && names.is_empty() => {
                let word = kind.names().alias;
                Err(Failure::new(Exit::Usage, format!("which {word}? no name was given"))
                    .next(format!("foreman get {word}s, then name one as {word}/NAME"))
                    .next(format!("or take the newest: {word}/{LATEST}")))
            }
            Some(kind) if !first.contains('/') => {
                names.iter().map(|name| Self::of(kind, name)).collect()
            }
            Some(_) | None => words.iter().map(|word| Self::parse(word, bare)).collect(),
        }
    }
}

/// The first of these that no one works on: neither a task nor a workload.
pub fn other_than_work(targets: &[Target]) -> Option<&Target> {
    let work = |kind| matches!(kind, AnyKind::Workload | AnyKind::AgenticTask);
    targets.iter().find(|target| !work(target.kind))
}

/// The kind of that word.
///
/// # Errors
/// There is none; the kinds are listed.
pub fn kind_of(word: &str) -> Result<AnyKind, Failure> {
    AnyKind::parse(word).ok_or_else(|| {
        let words: Vec<_> = AnyKind::ALL.iter().map(|kind| kind.names()).collect();
        let aliases: Vec<_> = words.iter().map(|names| names.alias).collect();
        let known = words.iter().flat_map(|names| [names.alias, names.plural, names.singular]);
        let near = near(&known.collect::<Vec<_>>(), word).first().map(|near| (*near).to_owned());
        let failure = Failure::new(Exit::Usage, format!("there is no kind {word:?}"))
            .next(format!("use one of: {}", aliases.join(", ")));
        match near {
            Some(near) => failure.next(format!("did you mean {near}?")),
            None => failure,
        }
    })
}

/// The names that a person may have meant by `wanted`, nearest first: those that contain it or are
/// contained in it, and those of few edits.
pub fn near<'a>(names: &[&'a str], wanted: &str) -> Vec<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    let length = wanted.chars().count();
    let far = (length / 3).max(if length < 4 { 1 } else { 2 });
    let mut ranked: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|name| {
            let edits = edits(&name.to_ascii_lowercase(), &wanted);
            let related = wanted.chars().count() > 2
                && (name.contains(wanted.as_str()) || wanted.contains(name));
            (edits <= far || related).then_some((edits, *name))
        })
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().take(NEAR_MAX).map(|(_, name)| name).collect()
}

/// The edits (insert, delete, replace) that make one text of the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, a) in one.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for ((b, diagonal), above) in other.iter().zip(&row).zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(a != *b)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn shown(given: &[&str], bare: Option<AnyKind>) -> Vec<String> {
        let targets = Target::parse_all(&words(given), bare).expect("targets");
        targets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn objects_can_be_named_in_every_way() {
        assert_eq!(shown(&["task/a", "wl/b"], None), ["task/a", "workload/b"]);
        assert_eq!(shown(&["tasks", "a", "b"], None), ["task/a", "task/b"]);
        assert_eq!(shown(&["AgenticTask/a"], None), ["task/a"]);
        assert_eq!(shown(&["a"], Some(AnyKind::AgenticTask)), ["task/a"]);
        assert_eq!(shown(&["fleetnodes/@latest"], None), ["node/@latest"]);
    }

    #[test]
    fn what_cannot_be_meant_is_usage_and_says_what_can() {
        for given in [&["a"][..], &["nothing/a"], &["task/Not Valid"], &["tasks"], &["task/"]] {
            let failure = Target::parse_all(&words(given), None).expect_err("no target");
            assert_eq!(failure.exit(), Exit::Usage, "{given:?}");
        }
        let failure = kind_of("taks").expect_err("no kind");
        assert!(failure.hints().iter().any(|hint| hint == "did you mean task?"), "{failure:?}");
    }

    #[test]
    fn near_names_are_near() {
        let names = ["fix-login-7f3a", "docs-91", "fix-logout"];
        assert_eq!(near(&names, "fix-logn-7f3a"), ["fix-login-7f3a"]);
        assert_eq!(near(&names, "docs"), ["docs-91"]);
        assert_eq!(near(&names, "unheard-of"), [""; 0]);
    }
}
