//! Pods, and the objects of the API that tell of them, as an API server writes them.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where everything is.
pub const NAMESPACE: &str = "trading";
/// The service that the nodes are behind.
pub const SERVICE: &str = "zepto";

const CREATED: &str = "2026-01-05T09:00:00Z";

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub address: String,
    pub zone: &'static str,
    pub ready: bool,
    pub terminating: bool,
}

impl Pod {
    pub fn new(name: &str, address: &str) -> Self {
        let (name, address) = (name.to_owned(), address.to_owned());
        Self { name, address, zone: "eu-central-1a", ready: true, terminating: false }
    }

    /// One of a stateful set: `zepto-7` is at 10.244.0.7.
    pub fn nth(n: usize) -> Self {
        Self::new(&format!("{SERVICE}-{n}"), &format!("10.244.{}.{}", n / 250, n % 250))
    }

    pub fn not_ready(self) -> Self {
        Self { ready: false, ..self }
    }

    pub fn terminating(self) -> Self {
        Self { terminating: true, ..self }
    }

    fn target(&self) -> Value {
        json!({"kind": "Pod", "namespace": NAMESPACE, "name": self.name, "uid": uid(&self.name)})
    }

    /// In an EndpointSlice. A pod that ends is not ready, but it may still serve.
    fn endpoint(&self) -> Value {
        json!({
            "addresses": [self.address],
            "conditions": {
                "ready": self.ready && !self.terminating,
                "serving": self.ready,
                "terminating": self.terminating,
            },
            "hostname": self.name,
            "nodeName": "ip-10-0-1-23.eu-central-1.compute.internal",
            "targetRef": self.target(),
            "zone": self.zone,
        })
    }

    /// In an Endpoints object.
    fn address(&self) -> Value {
        json!({
            "ip": self.address,
            "hostname": self.name,
            "nodeName": "ip-10-0-1-23.eu-central-1.compute.internal",
            "targetRef": self.target(),
        })
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug)]
pub struct Slice {
    pub service: &'static str,
    pub family: &'static str,
    pub port: u16,
    pub pods: Vec<Pod>,
}

impl Slice {
    /// Of the nodes' service.
    pub fn of(pods: impl IntoIterator<Item = Pod>) -> Self {
        Self { service: SERVICE, family: "IPv4", port: 9000, pods: pods.into_iter().collect() }
    }

    pub fn ipv6(self) -> Self {
        Self { family: "IPv6", ..self }
    }

    /// With nodes at another port.
    pub fn on(self, port: u16) -> Self {
        Self { port, ..self }
    }

    pub fn of_service(self, service: &'static str) -> Self {
        Self { service, ..self }
    }

    /// As an item of a list, where its kind is not said.
    pub fn item(&self, name: &str, version: u64) -> Value {
        let endpoints: Vec<Value> = self.pods.iter().map(Pod::endpoint).collect();
        json!({
            "metadata": metadata(name, version, self.service, &json!({
                "app.kubernetes.io/name": self.service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": self.service,
                "service.kubernetes.io/headless": "",
            }), "discovery.k8s.io/v1"),
            "addressType": self.family,
            // Go writes a list that was never made as null.
            "endpoints": if endpoints.is_empty() { Value::Null } else { endpoints.into() },
            "ports": ports(self.port),
        })
    }
}

/// The Endpoints object of the nodes' service, as an item of a list.
pub fn endpoints<'a>(slices: impl Iterator<Item = &'a Slice>, version: u64) -> Value {
    let mut by_port: BTreeMap<u16, Vec<&Pod>> = BTreeMap::new();
    for slice in slices.filter(|slice| slice.service == SERVICE && slice.family == "IPv4") {
        let pods = slice.pods.iter().filter(|pod| !pod.terminating);
        by_port.entry(slice.port).or_default().extend(pods);
    }
    by_port.retain(|_, pods| !pods.is_empty());
    let subsets: Vec<Value> = by_port.iter().map(|(port, pods)| subset(*port, pods)).collect();
    let labels = json!({
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
        "service.kubernetes.io/headless": "",
    });
    let mut object = json!({"metadata": metadata(SERVICE, version, SERVICE, &labels, "v1")});
    if !subsets.is_empty() {
        object["subsets"] = subsets.into();
    }
    object
}

/// The addresses with one port, ready or not; empty lists are left out.
fn subset(port: u16, pods: &[&Pod]) -> Value {
    let mut subset = json!({"ports": ports(port)});
    for (key, ready) in [("addresses", true), ("notReadyAddresses", false)] {
        let these = pods.iter().filter(|pod| pod.ready == ready);
        let addresses: Vec<Value> = these.map(|pod| pod.address()).collect();
        if !addresses.is_empty() {
            subset[key] = addresses.into();
        }
    }
    subset
}

fn ports(port: u16) -> Value {
    json!([
        {"name": "heartbeats", "port": port, "protocol": "UDP"},
        {"name": "rpc", "port": port, "protocol": "TCP"},
    ])
}

fn metadata(name: &str, version: u64, service: &str, labels: &Value, group: &str) -> Value {
    json!({
        "name": name,
        "generateName": format!("{service}-"),
        "namespace": NAMESPACE,
        "uid": uid(name),
        "resourceVersion": version.to_string(),
        "generation": 3,
        "creationTimestamp": CREATED,
        "labels": labels,
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": CREATED},
        "ownerReferences": [{
            "apiVersion": "v1",
            "kind": "Service",
            "name": service,
            "uid": uid(service),
            "controller": true,
            "blockOwnerDeletion": true,
        }],
        "managedFields": [{
            "manager": "kube-controller-manager",
            "operation": "Update",
            "apiVersion": group,
            "time": CREATED,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:endpoints": {}, "f:ports": {}, "f:metadata": {"f:labels": {".": {}}}},
        }],
    })
}

/// A Status, which is what an API server says when it does not do what it was asked.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

fn uid(name: &str) -> String {
    let spread = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, spread);
    format!("{:08x}-1c5b-4a9e-8d3f-{:012x}", hash >> 32, hash & 0xffff_ffff_ffff)
}
