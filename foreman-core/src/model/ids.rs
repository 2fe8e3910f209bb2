//! Names and identities: parsed once, valid ever after.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::WallTime;

/// The longest object name (a DNS-1123 subdomain), in bytes.
pub const OBJECT_NAME_BYTES_MAX: usize = 253;
/// The longest DNS-1123 label (a namespace, a default node name), in bytes.
pub const LABEL_BYTES_MAX: usize = 63;

/// Why a text is no DNS-1123 name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("name is empty")]
    Empty,
    /// More bytes than a name may have.
    #[error("name is {len} bytes long, at most {max} are allowed")]
    TooLong {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// A character outside the alphabet.
    #[error("name has {found:?}, only a-z, 0-9, '-' and inner '.' are allowed")]
    BadChar {
        /// The first such character.
        found: char,
    },
    /// A dot where only one part is allowed.
    #[error("name has '.', only a-z, 0-9 and inner '-' are allowed")]
    Dot,
    /// A part (between dots) is empty, or begins or ends with '-'.
    #[error("name part {part:?} must begin and end with a letter or digit")]
    BadPart {
        /// The part.
        part: String,
    },
}

/// Checks a DNS-1123 subdomain: what Kubernetes allows as an object's name.
///
/// # Errors
/// The first rule of DNS-1123 that the text breaks.
pub fn check_object_name(text: &str) -> Result<(), InvalidName> {
    check_name(text, OBJECT_NAME_BYTES_MAX, true)
}

/// Checks a DNS-1123 label: what Kubernetes allows as a namespace.
///
/// # Errors
/// The first rule of DNS-1123 that the text breaks.
pub fn check_label_name(text: &str) -> Result<(), InvalidName> {
    check_name(text, LABEL_BYTES_MAX, false)
}

fn check_name(text: &str, max: usize, dots: bool) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > max {
        return Err(InvalidName::TooLong { len: text.len(), max });
    }
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.');
    match text.chars().find(|c| !allowed(*c)) {
        Some('.') => return Err(InvalidName::Dot),
        Some(found) => return Err(InvalidName::BadChar { found }),
        None => {}
    }
    match text
        .split('.')
        .find(|part| part.is_empty() || part.starts_with('-') || part.ends_with('-'))
    {
        Some(part) => Err(InvalidName::BadPart { part: part.to_owned() }),
        None => Ok(()),
    }
}

macro_rules! identity {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

identity! {
    /// A `FleetNode`'s name.
    NodeName
}
identity! {
    /// What a store calls an object for its whole life.
    Uid
}
identity! {
    /// One life of an agent process on a node; a fresh one at every start.
    Session
}
identity! {
    /// A version of an object; opaque, compared for equality only.
    Revision
}

impl NodeName {
    /// A valid node name.
    ///
    /// # Errors
    /// The first rule of DNS-1123 that the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        check_object_name(text).map(|()| Self(text.to_owned()))
    }
}

macro_rules! opaque {
    ($name:ident) => {
        impl $name {
            /// Takes the text as it is; these are opaque.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
        }
    };
}
opaque!(Uid);
opaque!(Session);
opaque!(Revision);

/// The number of a claim of a task: the first is 1, only a claim raises it.
pub type Attempt = i64;

/// Where an object lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The namespace; absent for cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of a namespaced object.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), name: name.into() }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self { namespace: None, name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What a claim's holder knows it by. Plain data: it goes into the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The task's uid.
    pub uid: Uid,
    /// Which claim of the task this is.
    pub attempt: Attempt,
    /// The claiming session.
    pub session: Session,
    /// The claiming node.
    pub node: NodeName,
    /// When it was claimed, as the claim's answer showed it.
    pub claimed_at: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dns_1123() {
        for good in ["a", "a-b", "a.b", "0", &"x".repeat(253)] {
            assert_eq!(check_object_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_object_name(""), Err(InvalidName::Empty));
        assert_eq!(check_object_name("A"), Err(InvalidName::BadChar { found: 'A' }));
        assert_eq!(check_object_name("a..b"), Err(InvalidName::BadPart { part: String::new() }));
        assert_eq!(check_object_name("a.-b"), Err(InvalidName::BadPart { part: "-b".into() }));
        assert_eq!(
            check_object_name(&"x".repeat(254)),
            Err(InvalidName::TooLong { len: 254, max: 253 })
        );
        assert_eq!(check_label_name("a.b"), Err(InvalidName::Dot));
    }
}
