//! The Seatbelt profile of macOS, as text, so that it is tested everywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The profile for `/usr/bin/sandbox-exec -p`: deny by default, read `read`,
/// write `write`, never `hide`; the network only if asked.
pub fn seatbelt_profile(
    write: &[PathBuf],
    read: &[PathBuf],
    hide: &[PathBuf],
    network: bool,
) -> String {
    let mut profile = String::from(
        "(version 1)\n(deny default)\n(import \"system.sb\")\n(allow process-exec process-fork)\n\
         (allow signal (target same-sandbox))\n(allow process-info* (target same-sandbox))\n\
         (allow sysctl-read)\n(allow file-read-metadata)\n(allow mach-lookup (global-name \"com.apple.system.opendirectoryd.libinfo\"))\n\
         (allow file-read* file-write-data (literal \"/dev/null\") (literal \"/dev/zero\") (literal \"/dev/tty\"))\n\
         (allow file-read* (literal \"/dev/random\") (literal \"/dev/urandom\") (literal \"/\"))\n",
    );
    for path in read {
        rule(&mut profile, "allow file-read*", path);
    }
    for path in write {
        rule(&mut profile, "allow file-read* file-write*", path);
    }
    // Later rules win.
    for path in hide {
        rule(&mut profile, "deny file-read* file-write*", path);
    }
    // Without the network not even loopback: there is no way to tell the
    // command's own listeners from the host's.
    if network {
        profile.push_str("(allow network*)\n(allow system-socket)\n");
    }
    profile
}

fn rule(profile: &mut String, verb: &str, path: &Path) {
    let written = writeln!(profile, "({verb} (subpath {}))", quoted(path));
    debug_assert!(written.is_ok(), "a String takes all that is written to it");
}

/// A string of the profile's language; a path may hold quotes and backslashes.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::seatbelt_profile;
    use std::path::PathBuf;

    fn profile(network: bool) -> String {
        let paths = |path: &str| vec![PathBuf::from(path)];
        seatbelt_profile(
            &paths("/w/a \"b\")(allow default"),
            &paths("/usr"),
            &paths("/Users/u/.ssh"),
            network,
        )
    }

    #[test]
    fn a_path_cannot_close_its_rule() {
        let text = profile(false);
        assert!(
            text.contains(
                r#"(allow file-read* file-write* (subpath "/w/a \"b\")(allow default"))"#
            ),
            "{text}"
        );
    }

    #[test]
    fn denied_by_default_and_hidden_after_what_is_granted() {
        let text = profile(false);
        assert!(text.starts_with("(version 1)\n(deny default)\n"), "{text}");
        let granted = text.find("(subpath \"/usr\")");
        let hidden = text.find("(deny file-read* file-write* (subpath \"/Users/u/.ssh\"))");
        assert!(granted.is_some() && granted < hidden, "{text}");
    }

    #[test]
    fn only_setup_gets_the_network() {
        assert!(!profile(false).contains("network"), "{}", profile(false));
        assert!(profile(true).contains("(allow network*)\n"));
    }
}
