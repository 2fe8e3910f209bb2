//! Addresses of the API: paths and queries.

use foreman_core::model::apiserver::{check_label_value, check_qualified_name};
use foreman_core::model::object::Scope;
use foreman_core::model::object::{GROUP, VERSION};
use foreman_core::model::{Key, Kind};
use foreman_core::ports::Query;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A selector that nothing satisfies: for a label that no object can have.
const NOTHING: &str = "foreman.llmkube.dev/none,!foreman.llmkube.dev/none";

/// What is escaped: all but the characters that RFC 3986 leaves alone everywhere.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The collection of a kind: of one namespace, or of all.
pub(crate) fn collection<K: Kind>(namespace: Option<&str>) -> String {
    let plural = K::NAMES.plural;
    match namespace.filter(|_| K::NAMES.scope == Scope::Namespaced) {
        Some(namespace) => {
            format!("/apis/{GROUP}/{VERSION}/namespaces/{}/{plural}", escaped(namespace))
        }
        None => format!("/apis/{GROUP}/{VERSION}/{plural}"),
    }
}

/// One object; absent when the key does not suit the kind's scope, so that there can be none.
pub(crate) fn object<K: Kind>(key: &Key) -> Option<String> {
    if key.name.is_empty() || !has_scope_of::<K>(key) {
        return None;
    }
    Some(format!("{}/{}", collection::<K>(key.namespace.as_deref()), escaped(&key.name)))
}

/// Whether a key has a namespace if and only if its kind has them.
pub(crate) fn has_scope_of<K: Kind>(key: &Key) -> bool {
    let named = key.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty());
    named == (K::NAMES.scope == Scope::Namespaced)
}

/// The parameters by which the server selects what a query asks for. It may give more (not every
/// kind can be selected by every field): whoever reads the answer compares again.
pub(crate) fn selectors<K: Kind>(query: &Query) -> Vec<(&'static str, String)> {
    let mut parameters = Vec::new();
    if !query.labels.is_empty() {
        let possible = query.labels.iter().all(|(name, value)| {
            check_qualified_name(name).is_ok() && check_label_value(value).is_ok()
        });
        let labels: Vec<_> =
            query.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let selector = if possible { labels.join(",") } else { NOTHING.to_owned() };
        parameters.push(("labelSelector", selector));
    }
    let fields = [
        (".status.assignedNode", query.assigned_node.as_deref()),
        (".status.phase", query.phase.as_deref()),
    ];
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|(path, _)| K::NAMES.selectable.contains(path))
        .filter_map(|(path, value)| Some((path.trim_start_matches('.'), value?)))
        .map(|(path, value)| format!("{path}={}", field_value(value)))
        .collect();
    if !fields.is_empty() {
        parameters.push(("fieldSelector", fields.join(",")));
    }
    parameters
}

/// A path with parameters.
pub(crate) fn with(path: &str, parameters: &[(&'static str, String)]) -> String {
    let mut address = path.to_owned();
    for (number, (name, value)) in parameters.iter().enumerate() {
        address.push(if number == 0 { '?' } else { '&' });
        address.push_str(name);
        address.push('=');
        address.push_str(&escaped(value));
    }
    address
}

/// A value in a field selector, where comma, equals sign and backslash mean something.
fn field_value(text: &str) -> String {
    let mut value = String::new();
    for char in text.chars() {
        if matches!(char, '\\' | ',' | '=') {
            value.push('\\');
        }
        value.push(char);
    }
    value
}

/// A text as a part of a path or as a parameter.
pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use foreman_core::model::{AgenticTask, FleetNode};

    use super::*;

    #[test]
    fn objects_and_collections_have_their_paths() {
        let task = object::<AgenticTask>(&Key::namespaced("team", "a/b"));
        let wanted = "/apis/foreman.llmkube.dev/v1alpha1/namespaces/team/agentictasks/a%2Fb";
        assert_eq!(task.as_deref(), Some(wanted));
        let node = object::<FleetNode>(&Key::cluster("n"));
        assert_eq!(node.as_deref(), Some("/apis/foreman.llmkube.dev/v1alpha1/fleetnodes/n"));
        assert_eq!(object::<AgenticTask>(&Key::cluster("a")), None);
        assert_eq!(object::<FleetNode>(&Key::namespaced("team", "n")), None);
        assert_eq!(object::<FleetNode>(&Key::cluster("")), None);
        assert_eq!(
            collection::<FleetNode>(Some("team")),
            "/apis/foreman.llmkube.dev/v1alpha1/fleetnodes"
        );
    }

    #[test]
    fn values_in_selectors_are_only_compared() {
        let query = Query::all().label("team", "core").assigned_to("a,b=\\c");
        assert_eq!(
            selectors::<AgenticTask>(&query),
            [
                ("labelSelector", "team=core".to_owned()),
                ("fieldSelector", "status.assignedNode=a\\,b\\=\\\\c".to_owned())
            ]
        );
        let impossible = Query::all().label("team", "a,b");
        assert_eq!(selectors::<AgenticTask>(&impossible), [("labelSelector", NOTHING.to_owned())]);
        assert_eq!(selectors::<FleetNode>(&Query::all().assigned_to("n")), []);
        assert_eq!(
            with("/x", &[("a", "1&2".to_owned()), ("b", "ü".to_owned())]),
            "/x?a=1%262&b=%C3%BC"
        );
    }
}
