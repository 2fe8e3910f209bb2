//! The address of a model server: parsed once, shown without credentials.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Why a text is no address of a model server. The text itself is not shown: it may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidModelUrl {
    /// Nothing was given.
    #[error("the URL is empty")]
    Empty,
    /// It cannot be parsed.
    #[error("it is not a URL ({reason}); write http://host:port/v1")]
    Syntax {
        /// What is wrong.
        reason: String,
    },
    /// It is not a web address.
    #[error("its scheme is {scheme:?}; write http:// or https://")]
    Scheme {
        /// The scheme found.
        scheme: String,
    },
    /// There is no host in it.
    #[error("it names no host; write http://host:port/v1")]
    NoHost,
}

/// Where Ollama listens unless told otherwise.
const OLLAMA_PORT: u16 = 11434;

/// The address of a model server. `Display` and `Debug` leave out user, password and query.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelUrl {
    /// Without a trailing slash, query or fragment.
    base: Url,
}

impl ModelUrl {
    /// Parses `http://host:port`, with or without `/v1` or another path; a text without a scheme
    /// is taken as `http://`.
    pub fn parse(text: &str) -> Result<Self, InvalidModelUrl> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidModelUrl::Empty);
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let syntax =
            |error: &dyn fmt::Display| InvalidModelUrl::Syntax { reason: error.to_string() };
        let mut base = Url::parse(&whole).map_err(|error| syntax(&error))?;
        if !matches!(base.scheme(), "http" | "https") {
            let scheme = crate::text::one_line(base.scheme(), 32);
            return Err(InvalidModelUrl::Scheme { scheme });
        }
        if base.host_str().is_none_or(str::is_empty) {
            return Err(InvalidModelUrl::NoHost);
        }
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Ok(Self { base })
    }

    /// Parses `OLLAMA_HOST` as Ollama's own client does: the port is 11434 unless one is named
    /// (with a scheme, the scheme's own port), and an address to listen on (`0.0.0.0`) means this
    /// machine.
    pub fn parse_ollama_host(text: &str) -> Result<Self, InvalidModelUrl> {
        let text = text.trim().trim_matches(['"', '\'']);
        if text.is_empty() {
            return Err(InvalidModelUrl::Empty);
        }
        let given =
            if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
        let mut url = Self::parse(&given)?;
        if !given.contains("://") && !names_a_port(&given) {
            // Cannot fail: an http URL with a host takes every port.
            let _set = url.base.set_port(Some(OLLAMA_PORT));
        }
        let here = match url.base.host_str() {
            Some("0.0.0.0") => Some("127.0.0.1"),
            Some("[::]") => Some("[::1]"),
            _ => None,
        };
        if let Some(host) = here {
            let _set = url.base.set_host(Some(host));
        }
        Ok(url)
    }

    /// A port of this machine.
    pub(crate) fn local(port: u16) -> Option<Self> {
        Self::parse(&format!("http://127.0.0.1:{port}")).ok()
    }

    /// The address for a request, credentials included. Never show it.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// The server's own root: the address without a trailing `/v1`.
    pub(crate) fn root(&self) -> Self {
        let path = self.base.path().trim_end_matches('/');
        let root = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        let mut base = self.base.clone();
        base.set_path(&root);
        Self { base }
    }

    /// The base of the OpenAI protocol: the root with `/v1`.
    pub(crate) fn v1(&self) -> Self {
        let root = self.root();
        Self { base: root.at("/v1") }
    }

    /// Whether the address has a path of its own besides `/v1`.
    pub(crate) fn has_own_path(&self) -> bool {
        !matches!(self.base.path().trim_end_matches('/'), "" | "/v1")
    }

    /// The address with its credentials, for the client that sends requests there. Never show it.
    pub fn expose(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// `host:port`, for a list of addresses that were tried.
    pub fn host_and_port(&self) -> (String, u16) {
        let host = self.base.host_str().unwrap_or_default().to_owned();
        (host, self.base.port_or_known_default().unwrap_or_default())
    }

    /// Whether requests to this address go out to the public internet: neither this machine, nor a
    /// private address, nor a name that only a private network knows. Nothing is resolved.
    pub fn leaves_the_house(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default().trim_end_matches('.');
        let address = host.trim_start_matches('[').trim_end_matches(']');
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => !is_private_v4(address),
            Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(address) => !is_private_v4(address),
                None => !is_private_v6(address),
            },
            Err(_) => host.contains('.') && !PRIVATE_ENDINGS.iter().any(|end| host.ends_with(end)),
        }
    }

    /// What makes two addresses the same server.
    pub(crate) fn identity(&self) -> String {
        let (host, port) = self.host_and_port();
        let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
        let path = self.root().base.path().trim_end_matches('/').to_owned();
        format!("{}://{host}:{port}{path}", self.base.scheme())
    }
}

/// Endings of names that only a private network, a mesh or a cluster resolves.
const PRIVATE_ENDINGS: [&str; 8] =
    [".local", ".lan", ".home", ".internal", ".home.arpa", ".localhost", ".ts.net", ".svc"];

fn is_private_v4(address: Ipv4Addr) -> bool {
    // 100.64.0.0/10 is shared address space, which private meshes use.
    let [first, second, ..] = address.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let here = address.is_loopback() || address.is_unspecified();
    here || address.is_private() || address.is_link_local() || shared
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let here = address.is_loopback() || address.is_unspecified();
    here || address.is_unique_local() || address.is_unicast_link_local()
}

/// Whether a text without a scheme names a port: the last colon outside of `[…]` and its digits.
fn names_a_port(text: &str) -> bool {
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let after_brackets = host.rsplit(']').next().unwrap_or_default();
    let port = after_brackets.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()))
}

impl fmt::Display for ModelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.base.clone();
        // Both can only fail for addresses without a host, which `parse` refuses.
        let _cleared = (shown.set_username(""), shown.set_password(None));
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ModelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        ModelUrl::parse(text).expect("valid").to_string()
    }

    #[test]
    fn the_usual_spellings_mean_the_same_server() {
        for text in ["http://h:1", "http://h:1/", "h:1", "http://h:1/v1", " h:1/v1/ "] {
            let url = ModelUrl::parse(text).expect("valid");
            assert_eq!(url.root().to_string(), "http://h:1", "{text}");
            assert_eq!(url.v1().to_string(), "http://h:1/v1", "{text}");
            assert!(!url.has_own_path(), "{text}");
        }
        let cloud = ModelUrl::parse("https://h/openai/v1").expect("valid");
        assert_eq!(cloud.root().to_string(), "https://h/openai");
        assert_eq!(cloud.at("/models").as_str(), "https://h/openai/v1/models");
        assert!(cloud.has_own_path());
        let (a, b) = (ModelUrl::parse("localhost:80"), ModelUrl::parse("http://127.0.0.1/v1"));
        assert_eq!(a.expect("valid").identity(), b.expect("valid").identity());
    }

    #[test]
    fn credentials_and_query_are_never_shown() {
        let url = ModelUrl::parse("https://anna:hunter2@h/v1?key=topsecret#x").expect("valid");
        assert_eq!(url.to_string(), "https://h/v1");
        assert_eq!(format!("{url:?}"), "ModelUrl(https://h/v1)");
        assert_eq!(url.expose(), "https://anna:hunter2@h/v1");
        for bad in ["http://anna:hunter2@", "ftp://anna:hunter2@h", "http://anna:hunter2@h:x/"] {
            let error = ModelUrl::parse(bad).expect_err(bad);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn private_and_public_addresses_are_told_apart() {
        for host in [
            "127.0.0.1",
            "localhost",
            "192.168.1.4",
            "10.1.1.1",
            "172.20.0.1",
            "100.100.1.1",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
            "box",
            "box.local",
            "gpu.lan",
            "vllm.models.svc",
            "studio.tail1234.ts.net",
        ] {
            let url = ModelUrl::parse(&format!("http://{host}:1/v1")).expect(host);
            assert!(!url.leaves_the_house(), "{host}");
        }
        for host in ["api.openai.com", "8.8.8.8", "172.32.0.1", "100.128.0.1", "[2001:db8::1]"] {
            let url = ModelUrl::parse(&format!("https://{host}/v1")).expect(host);
            assert!(url.leaves_the_house(), "{host}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_way_out() {
        assert_eq!(ModelUrl::parse(" "), Err(InvalidModelUrl::Empty));
        let scheme = InvalidModelUrl::Scheme { scheme: "file".to_owned() };
        assert_eq!(ModelUrl::parse("file:///etc/passwd"), Err(scheme));
        let error = ModelUrl::parse("http://[::1").expect_err("broken");
        assert!(error.to_string().contains("write http://host:port/v1"), "{error}");
    }

    #[test]
    fn ollama_host_is_read_as_ollama_does() {
        let cases = [
            ("", None),
            ("0.0.0.0", Some("http://127.0.0.1:11434")),
            (":8000", Some("http://127.0.0.1:8000")),
            ("box.lan", Some("http://box.lan:11434")),
            ("box.lan:80", Some("http://box.lan")),
            ("http://box.lan", Some("http://box.lan")),
            ("https://box.lan/ollama/", Some("https://box.lan/ollama")),
            ("[::]", Some("http://[::1]:11434")),
            ("[fe80::1]:9", Some("http://[fe80::1]:9")),
            ("\"10.0.0.7:1\"", Some("http://10.0.0.7:1")),
        ];
        for (text, expected) in cases {
            let url = ModelUrl::parse_ollama_host(text).ok().map(|url| url.to_string());
            assert_eq!(url.as_deref(), expected, "{text:?}");
        }
        assert_eq!(shown("0.0.0.0:1"), "http://0.0.0.0:1", "only OLLAMA_HOST means a bind address");
    }
}
