//! From an object of the API to the nodes that it tells of.

use crate::api::{Endpoint, Object, Port, Subset, Target, text};
use crate::config::Config;
use crate::member::Member;
use crate::port::choose;
use crate::url::Kind;

/// The nodes of one object.
#[derive(Debug, Default)]
pub struct Found {
    /// The nodes.
    pub members: Vec<Member>,
    /// Pods that are ready and yet no nodes, and why the last of them is none.
    pub left_out: Option<(usize, String)>,
}

impl Found {
    /// Reads an object.
    pub fn of(config: &Config, kind: Kind, object: &Object<'_>) -> Self {
        let mut found = Self::default();
        match kind {
            Kind::EndpointSlice => found.slice(config, object),
            Kind::Endpoints => {
                for subset in object.subsets.as_deref().unwrap_or_default() {
                    found.subset(config, subset);
                }
            }
        }
        found
    }

    fn slice(&mut self, config: &Config, object: &Object<'_>) {
        let port = choose(config.port.as_ref(), object.ports.as_deref().unwrap_or_default());
        for endpoint in object.endpoints.as_deref().unwrap_or_default() {
            if is_member(endpoint) {
                // The others mean the same, the API says; one is enough.
                let address = endpoint.addresses.as_deref().and_then(|all| all.first());
                let host = address.map_or("", |address| address.as_str());
                let (hostname, zone) = (text(&endpoint.hostname), text(&endpoint.zone));
                self.add(host, port, hostname, endpoint.target_ref.as_ref(), zone);
            }
        }
    }

    fn subset(&mut self, config: &Config, subset: &Subset<'_>) {
        let ports: &[Port<'_>] = subset.ports.as_deref().unwrap_or_default();
        let port = choose(config.port.as_ref(), ports);
        for address in subset.addresses.as_deref().unwrap_or_default() {
            let (host, hostname) = (text(&address.ip), text(&address.hostname));
            self.add(host, port, hostname, address.target_ref.as_ref(), "");
        }
    }

    fn add(
        &mut self,
        host: &str,
        port: Option<u16>,
        hostname: &str,
        target: Option<&Target<'_>>,
        zone: &str,
    ) {
        let pod = target.filter(|target| text(&target.kind) == "Pod");
        let name = pod.map_or("", |pod| text(&pod.name));
        let uid = target.map_or("", |target| text(&target.uid));
        let member = port.and_then(|port| Member::new([name, hostname], host, port, (zone, uid)));
        match member {
            Some(member) => self.members.push(member),
            None => {
                let why = match port {
                    None => "it has no port of the configured name".to_owned(),
                    Some(_) => format!("{:?} is no address", clip(host)),
                };
                let count = self.left_out.as_ref().map_or(0, |(count, _)| *count);
                self.left_out = Some((count + 1, why));
            }
        }
    }
}

/// Whether a pod takes part. What is not known counts as ready, the API says. Services that tell of
/// pods which are not ready call all of them ready, those that end too.
fn is_member(endpoint: &Endpoint<'_>) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let is = |condition: Option<bool>, else_: bool| condition.unwrap_or(else_);
    conditions
        .is_none_or(|conditions| is(conditions.ready, true) && !is(conditions.terminating, false))
}

/// The first characters of something that may be long.
pub fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: Kind, more: &str, object: &str) -> Found {
        let json = format!(r#"{{"api":"https://a","namespace":"n","service":"s"{more}}}"#);
        let config = Config::parse(&json).unwrap();
        Found::of(&config, kind, &serde_json::from_str(object).unwrap())
    }

    fn shown(found: &Found) -> Vec<String> {
        let show = |member: &Member| {
            let node = member.node();
            format!("{} {} {} {}", node.id, node.host, node.port, node.meta)
        };
        found.members.iter().map(show).collect()
    }

    #[test]
    fn a_slice_tells_of_the_pods_that_are_ready_and_stay() {
        let slice = r#"{"ports":[{"name":"rpc","port":9001}],"endpoints":[
            {"addresses":["10.0.0.1","10.0.0.9"],"conditions":{"ready":true,"terminating":false},
             "targetRef":{"kind":"Pod","name":"zepto-0","uid":"u0"},"zone":"a","hostname":"h"},
            {"addresses":["10.0.0.2"],"conditions":{},"hostname":"zepto-1"},
            {"addresses":["10.0.0.3"],"targetRef":{"kind":"Node","name":"n","uid":"u3"}},
            {"addresses":["10.0.0.4"],"conditions":{"ready":null,"terminating":null}},
            {"addresses":["10.0.0.5"],"conditions":{"ready":false}},
            {"addresses":["10.0.0.6"],"conditions":{"ready":true,"terminating":true}}]}"#;
        let found = found(Kind::EndpointSlice, "", slice);
        assert_eq!(
            shown(&found),
            [
                r#"zepto-0 10.0.0.1 9001 {"zone":"a","uid":"u0"}"#,
                "zepto-1 10.0.0.2 9001 ",
                r#"10.0.0.3 10.0.0.3 9001 {"uid":"u3"}"#,
                "10.0.0.4 10.0.0.4 9001 ",
            ]
        );
        assert!(found.left_out.is_none());
    }

    #[test]
    fn endpoints_tell_of_the_addresses_that_are_ready() {
        let endpoints = r#"{"subsets":[
            {"addresses":[{"ip":"10.0.0.1","targetRef":{"kind":"Pod","name":"zepto-0","uid":"u"}}],
             "notReadyAddresses":[{"ip":"10.0.0.2"}],"ports":[{"port":7000}]},
            {"addresses":[{"ip":"10.0.0.3","hostname":"zepto-3"}],"ports":null},
            {"addresses":null}]}"#;
        let found = found(Kind::Endpoints, "", endpoints);
        let want = [r#"zepto-0 10.0.0.1 7000 {"uid":"u"}"#, "zepto-3 10.0.0.3 9000 "];
        assert_eq!(shown(&found), want);
    }

    #[test]
    fn a_pod_that_is_left_out_is_counted_with_the_reason() {
        let slice = r#"{"ports":[{"name":"x","port":1}],"endpoints":[{"addresses":["10.0.0.1"]},
            {"addresses":[]},{"addresses":["no/host"]},{}]}"#;
        let odd = found(Kind::EndpointSlice, "", slice);
        assert_eq!(shown(&odd), ["10.0.0.1 10.0.0.1 1 "]);
        assert_eq!(odd.left_out.unwrap().0, 3);
        let none = found(Kind::EndpointSlice, r#","port":"rpc""#, slice);
        assert!(none.members.is_empty());
        assert_eq!(none.left_out, Some((4, "it has no port of the configured name".into())));
    }
}
