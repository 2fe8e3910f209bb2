use serde_json::{Value, json};

use super::*;

fn agent(spec: &Value) -> Object<Agent> {
    let mut all = json!({"role": "coder", "tools": ["bash"]});
    for (name, value) in spec.as_object().expect("an object") {
        all[name.as_str()] = value.clone();
    }
    Object::from_json(&json!({
        "metadata": {"name": "far", "namespace": "d", "uid": "a", "resourceVersion": "1"},
        "spec": all}))
    .expect("valid")
}

fn task(annotations: &Value) -> Object<AgenticTask> {
    Object::from_json(&json!({
        "metadata": {"name": "t", "namespace": "d", "uid": "t", "resourceVersion": "1",
            "annotations": annotations},
        "spec": {"kind": "review", "agentRef": {"name": "far"}, "payload": {}}}))
    .expect("valid")
}

const CLOSED: Policy = Policy { allow_cloud: false };

#[test]
fn where_an_agents_model_is() {
    let cases = [
        (json!({}), Egress::Local),
        (json!({"provider": "local"}), Egress::Local),
        (json!({"provider": "cloud-proxy"}), Egress::Cloud),
        (json!({"provider": "moonbase"}), Egress::Cloud),
        (
            json!({"provider": "local", "providerConfig": {"baseURL": "https://api.example.com/v1"}}),
            Egress::Cloud,
        ),
        (
            json!({"provider": "local", "providerConfig": {"baseURL": "http://10.0.0.7:8080/v1"}}),
            Egress::Local,
        ),
        (
            json!({"provider": "cloud-proxy", "providerConfig": {"baseURL": "http://127.0.0.1"}}),
            Egress::Cloud,
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(egress(&agent(&spec).spec), wanted, "{spec}");
    }
}

#[test]
fn where_an_address_leads() {
    let local = [
        "http://localhost:8080/v1",
        "http://127.0.0.1",
        "http://user:word@192.168.1.4:80/v1?x=http://example.com",
        "http://[::1]:8080",
        "http://[fd00::1]/v1",
        "http://[fe80::1]/v1",
        "http://[::ffff:10.0.0.1]/v1",
        "http://100.100.1.2/v1",
        "http://studio:8080",
        "http://studio.local/v1",
        "http://vllm.models.svc:8000/v1",
        "http://vllm.models.svc.cluster.local:8000/v1",
        "http://tower.tail1234.ts.net",
        "http://Studio.LOCAL./v1",
    ];
    let cloud = [
        "https://api.example.com/v1",
        "https://8.8.8.8/v1",
        "http://134744072/v1",
        "http://0x08080808/v1",
        "http://100.128.0.1",
        "http://[2001:db8::1]/v1",
        "http://[::ffff:8.8.8.8]/v1",
        "http://local.example.com",
        "http://127.0.0.1@example.com/",
        "http://example.com\\@localhost/",
        "localhost:8080",
        "",
        "http://",
        "http://[::1",
    ];
    for address in local {
        assert_eq!(egress_of_address(address), Egress::Local, "{address}");
    }
    for address in cloud {
        assert_eq!(egress_of_address(address), Egress::Cloud, "{address}");
    }
}

#[test]
fn who_forbids_what() {
    let (near, far) = (agent(&json!({})), agent(&json!({"provider": "cloud-proxy"})));
    let (free, kept) = (task(&json!({})), task(&json!({"foreman.llmkube.dev/local-only": "true"})));
    let open = Policy::default();
    let said = |policy, task, agent| admit(policy, task, agent).map_err(|error| error.to_string());
    assert_eq!(said(open, &free, Some(&far)), Ok(()));
    assert_eq!(said(open, &kept, Some(&near)), Ok(()));
    assert_eq!(said(CLOSED, &free, Some(&near)), Ok(()));
    assert_eq!(said(CLOSED, &free, None), Ok(()), "no Agent, no model");
    assert_eq!(
        said(CLOSED, &free, Some(&far)),
        Err("the model of Agent far is in the cloud, and the operator allows no models in the cloud"
            .to_owned())
    );
    assert_eq!(
        said(open, &kept, Some(&far)),
        Err("the model of Agent far is in the cloud, and this work must not leave for the cloud"
            .to_owned())
    );
    let lifted = task(&json!({"foreman.llmkube.dev/local-only": "false"}));
    assert_eq!(said(open, &lifted, Some(&far)), Ok(()));

    let at = |policy, task, url| admit_address(policy, task, url).map_err(|e| e.to_string());
    assert_eq!(at(open, &free, "https://api.example.com/v1"), Ok(()));
    assert_eq!(at(CLOSED, &free, "http://127.0.0.1:1/v1"), Ok(()));
    assert_eq!(
        at(CLOSED, &free, "https://key@api.example.com/v1"),
        Err("the model at api.example.com is in the cloud, and the operator allows no models in the \
             cloud"
            .to_owned())
    );
}
