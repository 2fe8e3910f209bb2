//! The base URL of a model server, written by people in many ways.

use reqwest::Url;

/// A base URL that ends in the API's version, without a slash after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

/// Why a text is no base URL.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidBaseUrl {
    /// It is no URL.
    #[error("{given:?} is not a URL; write it like http://127.0.0.1:8080/v1")]
    NotAUrl {
        /// What was given.
        given: String,
    },
    /// It is not http(s).
    #[error("a model server is reached over http or https, not {scheme:?}")]
    Scheme {
        /// What was given.
        scheme: String,
    },
    /// It holds a user or password, which would end up in logs.
    #[error(
        "the URL of the model server at {host} contains credentials; give the key by a file, variable or Secret instead"
    )]
    Credentials {
        /// Its host.
        host: String,
    },
    /// It has a query or fragment.
    #[error(
        "the URL of the model server at {host} has a query or fragment, which a base URL cannot have"
    )]
    Query {
        /// Its host.
        host: String,
    },
}

impl BaseUrl {
    /// Accepts `host:port`, a root, a base with or without `/v1`, and the full address of the chat
    /// endpoint. A path that ends in another version (`/v2`, `/openai`) is kept as it is.
    pub fn parse(given: &str) -> Result<Self, InvalidBaseUrl> {
        let trimmed = given.trim();
        let with_scheme =
            if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
        let url = Url::parse(&with_scheme)
            .map_err(|_| InvalidBaseUrl::NotAUrl { given: crate::text::clip(trimmed, 200) })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidBaseUrl::Scheme { scheme: url.scheme().to_owned() });
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(InvalidBaseUrl::NotAUrl { given: crate::text::clip(trimmed, 200) });
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidBaseUrl::Credentials { host: host.to_owned() });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidBaseUrl::Query { host: host.to_owned() });
        }
        let mut path = url.path().trim_end_matches('/').to_owned();
        for endpoint in ["/chat/completions", "/completions", "/models"] {
            if let Some(base) = path.strip_suffix(endpoint) {
                path = base.to_owned();
                break;
            }
        }
        if path.is_empty() {
            path.push_str("/v1");
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{}://{host}{port}{path}", url.scheme())))
    }

    /// The URL as text, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of an endpoint under it, given like `/models`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether it names this very machine: then no proxy stands between.
    pub fn is_loopback(&self) -> bool {
        Url::parse(&self.0).ok().and_then(|url| url.host_str().map(str::to_owned)).is_some_and(
            |host| {
                host == "localhost"
                    || host
                        .trim_matches(['[', ']'])
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|ip| ip.is_loopback())
            },
        )
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_all_spellings() {
        for (given, want) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1"),
            (" http://127.0.0.1:8080/v1/ ", "http://127.0.0.1:8080/v1"),
            ("https://host/v1/chat/completions", "https://host/v1"),
            ("http://host:1/api/v3", "http://host:1/api/v3"),
            ("http://[::1]:9/v1/models", "http://[::1]:9/v1"),
            ("studio.local:11434", "http://studio.local:11434/v1"),
        ] {
            assert_eq!(BaseUrl::parse(given).expect(given).as_str(), want);
        }
    }

    #[test]
    fn what_is_no_base_url_is_named() {
        assert!(matches!(BaseUrl::parse(""), Err(InvalidBaseUrl::NotAUrl { .. })));
        assert!(matches!(BaseUrl::parse("http://"), Err(InvalidBaseUrl::NotAUrl { .. })));
        assert_eq!(
            BaseUrl::parse("ftp://h/"),
            Err(InvalidBaseUrl::Scheme { scheme: "ftp".into() })
        );
        assert_eq!(
            BaseUrl::parse("https://u:p@h/v1"),
            Err(InvalidBaseUrl::Credentials { host: "h".into() })
        );
        assert_eq!(
            BaseUrl::parse("https://h/v1?key=abc"),
            Err(InvalidBaseUrl::Query { host: "h".into() })
        );
    }

    #[test]
    fn loopback_is_known() {
        for (url, want) in [
            ("localhost:1", true),
            ("http://127.0.0.2:1", true),
            ("[::1]:1", true),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(BaseUrl::parse(url).expect(url).is_loopback(), want, "{url}");
        }
    }
}
