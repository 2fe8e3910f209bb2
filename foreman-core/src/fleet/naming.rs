//! Names and lists as flags and host names give them.

use crate::model::ids::LABEL_BYTES_MAX;

/// The name of a node whose host name has nothing usable in it.
pub const FALLBACK_NODE_NAME: &str = "fleetnode";

/// The default node name for a host name: lower-case, each run of other than `[a-z0-9-]` becomes
/// one `-`, trimmed of `-` at both ends, at most 63 bytes. Only this default is made from a host
/// name; a name that a person gives is any DNS-1123 subdomain and is never changed.
pub fn default_node_name(host: &str) -> String {
    let mut name = String::with_capacity(host.len());
    let mut in_run = false;
    for c in host.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' {
            name.push(c);
            in_run = false;
        } else if !in_run {
            name.push('-');
            in_run = true;
        }
    }
    let cut: String = name.trim_matches('-').chars().take(LABEL_BYTES_MAX).collect();
    match cut.trim_matches('-') {
        "" => FALLBACK_NODE_NAME.to_owned(),
        name => name.to_owned(),
    }
}

/// A comma-separated list: entries trimmed, empty ones dropped. Nothing left = empty, which the
/// wire writes as absent.
pub fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::NodeName;

    #[test]
    fn host_names_become_node_names() {
        let long = "a".repeat(62) + "-b";
        let cases = [
            ("Name.local", "name-local"),
            ("m5...max", "m5-max"),
            ("", "fleetnode"),
            ("...", "fleetnode"),
            ("--a--", "a"),
            ("a--b", "a--b"),
            ("MacBook Pro (2)", "macbook-pro-2"),
            ("Ünïcode", "n-code"),
            (long.as_str(), &"a".repeat(62)),
        ];
        for (host, wanted) in cases {
            assert_eq!(default_node_name(host), wanted, "{host}");
        }
    }

    #[test]
    fn lists_are_split_trimmed_and_cleared_of_nothing() {
        assert_eq!(split_list(" a, b ,,c,"), ["a", "b", "c"]);
        assert_eq!(split_list(" , ,"), Vec::<String>::new());
        assert_eq!(split_list(""), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn every_host_name_gives_a_valid_node_name(host in any::<String>()) {
            let name = default_node_name(&host);
            prop_assert!(NodeName::parse(&name).is_ok(), "{name:?}");
            prop_assert!(name.len() <= LABEL_BYTES_MAX);
            prop_assert_eq!(default_node_name(&name), name);
        }
    }
}
