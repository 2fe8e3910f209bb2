//! Enums of the wire that keep what they do not know.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A value of a closed set, or the string that a newer writer sent.
///
/// Reading and writing back an unknown value leaves it as it was, so an older Foreman beside a
/// newer one loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Open<E> {
    /// A value that this version knows.
    Known(E),
    /// What the other side wrote.
    Other(String),
}

impl<E: Copy> Open<E> {
    /// The known value, if it is one.
    pub fn known(&self) -> Option<E> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Other(_) => None,
        }
    }
}

impl<E: PartialEq + Copy> Open<E> {
    /// Whether this is exactly the known value `value`.
    pub fn is(&self, value: E) -> bool {
        matches!(self, Self::Known(known) if *known == value)
    }
}

impl<E> From<E> for Open<E> {
    fn from(value: E) -> Self {
        Self::Known(value)
    }
}

impl<E: fmt::Display> fmt::Display for Open<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => f.pad(&value.to_string()),
            Self::Other(raw) => f.pad(raw),
        }
    }
}

impl<E: JsonSchema> JsonSchema for Open<E> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        E::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        E::json_schema(generator)
    }
}

/// Defines an enum whose values are fixed strings on the wire: serde, `as_str`, `ALL`, `Display`,
/// `FromStr` and a flat `enum` in the schema (variant docs would turn it into `oneOf`, which a
/// structural schema does not allow).
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[doc = concat!("`", $text, "` on the wire.")] #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the schema.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::open::UnknownValue;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    $crate::model::open::UnknownValue {
                        what: stringify!($name),
                        found: text.to_owned(),
                        allowed: Self::ALL.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(", "),
                    }
                })
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool { true }
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($text),+] })
            }
        }
    };
}
pub(crate) use wire_enum;

/// A text that is none of an enum's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a {what}, use one of: {allowed}")]
pub struct UnknownValue {
    /// The enum's name.
    pub what: &'static str,
    /// What was given.
    pub found: String,
    /// The values that would have done, comma separated.
    pub allowed: String,
}
