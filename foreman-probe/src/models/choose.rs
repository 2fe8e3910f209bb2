//! Which of the found models a run takes when nobody names one, and why.

use std::cmp::Reverse;
use std::fmt;

use super::FoundModel;

/// The model to take, and why it and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The model.
    pub model: FoundModel,
    /// Why.
    pub why: Why,
}

/// Why a model was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Somebody asked for it by name.
    Named,
    /// There is no other.
    OnlyOne,
    /// It is in memory; `of` models could have been taken.
    Loaded {
        /// How many there were to choose from.
        of: usize,
    },
    /// None is known to be in memory; it comes first in the order of places.
    FirstFound {
        /// How many there were to choose from.
        of: usize,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named => f.write_str("asked for by name"),
            Self::OnlyOne => f.write_str("the only one found"),
            Self::Loaded { of } => write!(f, "already loaded, first of {of} models found"),
            Self::FirstFound { of } => write!(f, "first of {of} models found, none is loaded"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = &self.model;
        let (host, port) = model.url.host_and_port();
        let server = model.server.as_str();
        write!(f, "{} @ {server} {host}:{port} ({})", model.name, self.why)
    }
}

/// Why no model was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotChosen {
    /// No address answered as a model server.
    #[error("no model server found")]
    NoServer,
    /// Servers answered, and list no model.
    #[error("a model server was found, but it has no model; load or pull one")]
    NoModel,
    /// Nothing that was found may be taken without being named: embedding models cannot chat,
    /// remote ones would send the work out of the house, and others want a key.
    #[error(
        "of {found} models found none can be taken by itself: {remote} are remote, {locked} need a \
         key, the others do not chat; name a model with --model and its server with --model-url"
    )]
    NoneUsable {
        /// How many models were found.
        found: usize,
        /// How many of them are remote.
        remote: usize,
        /// How many of them stand behind a key that was not given, or is wrong.
        locked: usize,
    },
    /// The model that was asked for is not there.
    #[error("no server has the model {wanted:?}; there is: {}", available.join(", "))]
    NoSuchModel {
        /// The name asked for.
        wanted: String,
        /// The names there are, at most ten.
        available: Vec<String>,
    },
}

/// How many names an error lists.
const NAMES_SHOWN_MAX: usize = 10;

/// Takes one model. `found` is in the order of places (flag, environment, config, well-known
/// ports), and that order decides between equals.
///
/// By name: that model, on the first server that has it loaded. Otherwise a server that somebody
/// configured comes first, then a model that is loaded, then the order of places, then the larger
/// context. A remote model is never taken from a place that nobody named for Foreman.
pub fn choose(found: &[FoundModel], wanted: Option<&str>) -> Result<Choice, NotChosen> {
    if let Some(wanted) = wanted {
        return choose_named(found, wanted);
    }
    let usable: Vec<(usize, &FoundModel)> =
        found.iter().enumerate().filter(|(_, model)| is_usable(model)).collect();
    let rank = |(at, model): &(usize, &FoundModel)| {
        let place = place(found, model);
        let context = Reverse(model.context_tokens.unwrap_or(0));
        (!model.source.is_explicit(), load_rank(model), place, context, *at)
    };
    let Some((_, best)) = usable.iter().min_by_key(|candidate| rank(candidate)) else {
        let remote = found.iter().filter(|model| model.remote).count();
        let locked = found.iter().filter(|model| model.key_refused && !model.remote).count();
        return Err(match found.len() {
            0 => NotChosen::NoModel,
            found => NotChosen::NoneUsable { found, remote, locked },
        });
    };
    let of = usable.len();
    let why = match (of, best.loaded) {
        (1, _) => Why::OnlyOne,
        (_, Some(true)) => Why::Loaded { of },
        (_, Some(false) | None) => Why::FirstFound { of },
    };
    Ok(Choice { model: (*best).clone(), why })
}

/// Whether a model may be taken without being named.
fn is_usable(model: &FoundModel) -> bool {
    model.chat && !model.key_refused && (!model.remote || model.source.is_explicit())
}

/// Where the model's server stands in the order of places.
fn place(found: &[FoundModel], model: &FoundModel) -> usize {
    found.iter().position(|other| other.url == model.url).unwrap_or(usize::MAX)
}

fn load_rank(model: &FoundModel) -> u8 {
    match model.loaded {
        Some(true) => 0,
        None => 1,
        Some(false) => 2,
    }
}

/// Ollama calls a model without a tag `NAME:latest`, and takes `NAME` for it.
fn choose_named(found: &[FoundModel], wanted: &str) -> Result<Choice, NotChosen> {
    let tagged = format!("{wanted}:latest");
    let fits = |model: &&FoundModel| model.name == wanted || model.name == tagged;
    let best = found.iter().filter(fits).min_by_key(|model| {
        (model.name != wanted, model.key_refused, !model.source.is_explicit(), load_rank(model))
    });
    if let Some(model) = best {
        return Ok(Choice { model: model.clone(), why: Why::Named });
    }
    let names = found.iter().take(NAMES_SHOWN_MAX).map(|model| model.name.clone());
    Err(match found.len() {
        0 => NotChosen::NoModel,
        _ => NotChosen::NoSuchModel { wanted: wanted.to_owned(), available: names.collect() },
    })
}
