//! The manifest for Kubernetes: what must not be missing in it, and that the daemon takes the settings that it gives.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::keys::make_key;

/// The documents of the manifest.
fn manifest() -> Vec<Value> {
    let text = include_str!("../../deploy/kubernetes/lastseen.yaml");
    let documents = yaml_serde::Deserializer::from_str(text);
    documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect()
}

fn find<'a>(manifest: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = manifest.iter().filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// The value at each of these JSON pointers.
#[track_caller]
fn holds(document: &Value, expected: &[(&str, Value)]) {
    for (pointer, value) in expected {
        assert_eq!(document.pointer(pointer), Some(value), "{pointer}");
    }
}

#[test]
fn the_parts_of_the_manifest_fit_together() {
    let manifest = manifest();
    assert_eq!(manifest.len(), 5);
    let in_namespace = |document: &&Value| document["kind"] != "Namespace";
    assert!(manifest.iter().filter(in_namespace).all(|d| d["metadata"]["namespace"] == "lastseen"));
    holds(find(&manifest, "ServiceAccount"), &[("/automountServiceAccountToken", false.into())]);
    let (service, set) = (find(&manifest, "Service"), find(&manifest, "DaemonSet"));
    holds(service, &[("/spec/clusterIP", "None".into()), ("/spec/publishNotReadyAddresses", true.into())]);
    assert_ne!(service["metadata"]["name"], "lastseen", "that would set LASTSEEN_PORT in pods");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert!(*labels == set["spec"]["selector"]["matchLabels"] && *labels == service["spec"]["selector"]);
    let name = format!("{}.lastseen.svc", service["metadata"]["name"].as_str().unwrap());
    assert!(settings(&manifest).contains(&name), "the nodes ask for the Service by its name");
}

#[test]
fn the_pods_have_what_they_need_and_no_more() {
    let manifest = manifest();
    let pod = &find(&manifest, "DaemonSet")["spec"]["template"]["spec"];
    holds(
        pod,
        &[
            ("/hostNetwork", true.into()),
            ("/dnsPolicy", "ClusterFirstWithHostNet".into()),
            ("/enableServiceLinks", false.into()),
            ("/automountServiceAccountToken", false.into()),
            ("/tolerations/0/operator", "Exists".into()),
            ("/securityContext/runAsNonRoot", true.into()),
            ("/securityContext/seccompProfile/type", "RuntimeDefault".into()),
        ],
    );
    holds(
        &pod["containers"][0],
        &[
            ("/securityContext/readOnlyRootFilesystem", true.into()),
            ("/securityContext/allowPrivilegeEscalation", false.into()),
            ("/securityContext/capabilities/drop/0", "ALL".into()),
            ("/env/0/name", "LASTSEEN_SERVER_ID".into()),
            ("/env/0/valueFrom/fieldRef/fieldPath", "spec.nodeName".into()),
            ("/env/1/valueFrom/fieldRef/fieldPath", "status.podIP".into()),
            ("/livenessProbe/httpGet/path", "/livez".into()),
            ("/livenessProbe/httpGet/port", "metrics".into()),
            ("/readinessProbe/httpGet/path", "/readyz".into()),
            ("/readinessProbe/httpGet/port", "metrics".into()),
            ("/ports/1/name", "metrics".into()),
            ("/ports/1/containerPort", 5279.into()),
        ],
    );
    // The key: readable by the pod's group, and not by others.
    assert_eq!(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"]);
    assert!(include_str!("../../deploy/kubernetes/lastseen.yaml").contains("defaultMode: 0440"));
}

fn settings(manifest: &[Value]) -> &str {
    find(manifest, "ConfigMap")["data"]["lastseen.toml"].as_str().unwrap()
}

/// The environment of a pod: the manifest's, and what Kubernetes adds for Services of our name, if they are linked.
fn environment(manifest: &[Value]) -> Vec<(String, String)> {
    let set = find(manifest, "DaemonSet");
    let own = set.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap();
    let value = |variable: &Value| match variable.pointer("/valueFrom/fieldRef/fieldPath") {
        Some(field) if field == "spec.nodeName" => "machine-1.example".to_owned(),
        Some(_) => "10.0.0.7".to_owned(),
        None => variable["value"].as_str().unwrap().replace("$(POD_IP)", "10.0.0.7"),
    };
    let own = own.iter().map(|variable| (variable["name"].as_str().unwrap().to_owned(), value(variable)));
    let of_service = |prefix: &str| {
        let address = "tcp://10.96.0.1:5279";
        [
            ("SERVICE_HOST", "10.96.0.1"),
            ("SERVICE_PORT", "5279"),
            ("SERVICE_PORT_METRICS", "5279"),
            ("PORT", address),
            ("PORT_5279_TCP", address),
            ("PORT_5279_TCP_PROTO", "tcp"),
            ("PORT_5279_TCP_PORT", "5279"),
            ("PORT_5279_TCP_ADDR", "10.96.0.1"),
        ]
        .map(|(name, value)| (format!("{prefix}_{name}"), value.to_owned()))
    };
    own.chain(["LASTSEEN", "LASTSEEN_HTTP", "LASTSEEN_LOG"].into_iter().flat_map(of_service)).collect()
}

/// What `config check` says of a pod's settings.
fn checked() -> String {
    let manifest = manifest();
    let directory = tempfile::tempdir().unwrap();
    let (key, file) = (directory.path().join("cluster.key"), directory.path().join("lastseen.toml"));
    make_key(&key, 7);
    let text = settings(&manifest).replace("/var/run/secrets/lastseen/cluster.key", key.to_str().unwrap());
    std::fs::write(&file, text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    check.args(["config", "check", "--json"]).arg(&file).env_clear().envs(environment(&manifest));
    let output = check.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_pods_settings_are_right_whatever_kubernetes_adds() {
    let told = checked();
    for right in [
        "dns+a://lastseen-headless.lastseen.svc",
        "machine-1.example",
        "10.0.0.7:5279",
        "LASTSEEN_SERVER_ID",
        "LASTSEEN_HTTP__METRICS_LISTEN",
    ] {
        assert!(told.contains(right), "{right}: {told}");
    }
    for wrong in ["10.96.0.1", "LASTSEEN_PORT", "LASTSEEN_LOG_"] {
        assert!(!told.contains(wrong), "{wrong}: {told}");
    }
}
