//! The objects of the Kubernetes API, as much of them as is needed. What else they hold is skipped,
//! and where Go writes `null` for a list, there is none.

use serde::Deserialize;
use std::borrow::Cow;

/// Text that is borrowed from the message where that is possible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A list, or nothing.
type Many<T> = Option<Vec<T>>;

/// An object. As an item of a list it does not say its kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Object<'a> {
    pub kind: Option<Text<'a>>,
    pub metadata: Meta<'a>,
    /// Of an EndpointSlice.
    pub endpoints: Many<Endpoint<'a>>,
    /// Of an EndpointSlice.
    pub ports: Many<Port<'a>>,
    /// Of an Endpoints object.
    pub subsets: Many<Subset<'a>>,
    /// Of a Status.
    pub message: Option<Text<'a>>,
    /// Of a Status.
    pub reason: Option<Text<'a>>,
    /// Of a Status.
    pub code: Option<i64>,
}

/// The metadata of an object, or of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Meta<'a> {
    pub name: Option<Text<'a>>,
    pub resource_version: Option<Text<'a>>,
    /// Of a list that has more pages.
    #[serde(rename = "continue")]
    pub more: Option<Text<'a>>,
}

/// One pod in an EndpointSlice.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Endpoint<'a> {
    pub addresses: Many<Text<'a>>,
    pub conditions: Option<Conditions>,
    pub hostname: Option<Text<'a>>,
    pub target_ref: Option<Target<'a>>,
    pub zone: Option<Text<'a>>,
}

/// How a pod is; what is not known is not there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
    pub terminating: Option<bool>,
}

/// What an endpoint stands for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Target<'a> {
    pub kind: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    pub uid: Option<Text<'a>>,
}

/// A port of all endpoints in a slice or subset.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Port<'a> {
    pub name: Option<Text<'a>>,
    pub port: Option<i64>,
}

/// Pods of an Endpoints object that have the same ports. Those that are not ready stand elsewhere.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Subset<'a> {
    pub addresses: Many<Address<'a>>,
    pub ports: Many<Port<'a>>,
}

/// One pod in an Endpoints object.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Address<'a> {
    pub ip: Option<Text<'a>>,
    pub hostname: Option<Text<'a>>,
    pub target_ref: Option<Target<'a>>,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub struct Event<'a> {
    #[serde(rename = "type")]
    pub kind: Text<'a>,
    pub object: Object<'a>,
}

/// The text, or none.
pub fn text<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_ref().map_or("", |text| &text.0)
}

impl Text<'_> {
    /// As a slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_not_copied_and_what_is_not_needed_is_skipped() {
        let json = r#"{"metadata":{"name":"zepto-1","creationTimestamp":null,"labels":{"a":"b"}},
            "addressType":"IPv4","ports":null,"endpoints":[{"addresses":["10.0.0.1"],
            "conditions":{"ready":true,"serving":null},"zone":"a\u0062"}]}"#;
        let object: Object<'_> = serde_json::from_str(json).unwrap();
        assert!(matches!(object.metadata.name, Some(Text(Cow::Borrowed("zepto-1")))));
        let endpoint = object.endpoints.as_ref().unwrap().first().unwrap();
        let address = endpoint.addresses.as_ref().unwrap().first().unwrap();
        assert!(matches!(address.0, Cow::Borrowed("10.0.0.1")));
        assert!(matches!(&endpoint.zone, Some(Text(Cow::Owned(zone))) if zone == "ab"));
        assert_eq!(endpoint.conditions.as_ref().unwrap().ready, Some(true));
    }

    #[test]
    fn lists_that_go_writes_as_null_are_none() {
        let json = r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","metadata":
            {"resourceVersion":"9","creationTimestamp":null},"endpoints":null,"ports":null,
            "addressType":""}}"#;
        let event: Event<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(event.kind.as_str(), "BOOKMARK");
        assert!(event.object.endpoints.is_none());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in ["", "{", "[]", "null", r#"{"type":"ADDED"}"#, r#"{"type":1,"object":{}}"#] {
            assert!(serde_json::from_str::<Event<'_>>(json).is_err(), "{json}");
        }
        let deep = format!(r#"{{"type":"ADDED","object":{}"#, "[".repeat(100_000));
        assert!(serde_json::from_str::<Event<'_>>(&deep).is_err());
    }
}
