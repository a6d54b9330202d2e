//! A page of a list. Its objects are taken one by one, for there is no room for all at once.

use crate::api::{Meta, Object, Text, text};
use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a page says beside its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What the list calls itself.
    pub kind: String,
    /// The version of all of it.
    pub version: String,
    /// Where the next page begins, if there is one.
    pub more: String,
}

/// Reads a page, and hands out its objects.
///
/// # Errors
/// When it is no page, or `each` wants no more: the text is what `each` gave.
pub fn read(
    body: &[u8],
    each: &mut dyn FnMut(&Object<'_>) -> Result<(), String>,
) -> Result<Head, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let head = json.deserialize_map(Page(each)).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(head)
}

type Each<'e> = &'e mut dyn FnMut(&Object<'_>) -> Result<(), String>;

struct Page<'e>(Each<'e>);

impl<'de> Visitor<'de> for Page<'_> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        let mut head = Head::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key.as_str() {
                "kind" => head.kind = map.next_value()?,
                "metadata" => {
                    let meta: Meta<'de> = map.next_value()?;
                    head.version = text(&meta.resource_version).to_owned();
                    head.more = text(&meta.more).to_owned();
                }
                "items" => map.next_value_seed(Items(&mut *self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(head)
    }
}

/// The objects, or null.
struct Items<'e>(Each<'e>);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(object) = items.next_element::<Object<'de>>()? {
            (self.0)(&object).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Result<(Head, Vec<String>), String> {
        let mut names = Vec::new();
        let head = read(json.as_bytes(), &mut |object| {
            names.push(text(&object.metadata.name).to_owned());
            if names.len() < 3 { Ok(()) } else { Err("enough".into()) }
        })?;
        Ok((head, names))
    }

    #[test]
    fn objects_are_handed_out_whatever_the_order_is() {
        let head = Head { kind: "EndpointSliceList".into(), version: "7".into(), more: "x".into() };
        for json in [
            r#"{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":
                {"resourceVersion":"7","continue":"x","remainingItemCount":3},
                "items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#,
            r#"{"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}],"more":[{}],
                "metadata":{"resourceVersion":"7","continue":"x"},"kind":"EndpointSliceList"}"#,
        ] {
            assert_eq!(names(json), Ok((head.clone(), vec!["a".into(), "b".into()])));
        }
        assert_eq!(names("{}"), Ok((Head::default(), vec![])));
        assert_eq!(names(r#"{"items":null}"#), Ok((Head::default(), vec![])));
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for json in ["", "[]", "null", "{", "{}x", r#"{"items":{}}"#, r#"{"items":[1]}"#] {
            assert!(names(json).is_err(), "{json}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert!(names(&deep).is_err());
        let three = r#"{"items":[{},{},{},{}]}"#;
        assert!(names(three).unwrap_err().contains("enough"));
    }
}
