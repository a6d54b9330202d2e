//! What the double knows: objects, their history, and how it is to behave.

use crate::objects::{NAMESPACE, SERVICE, Slice, endpoints, status};
use core::time::Duration;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    EndpointSlices,
    Endpoints,
}

impl Resource {
    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::EndpointSlices => ("EndpointSlice", "discovery.k8s.io/v1"),
            Self::Endpoints => ("Endpoints", "v1"),
        }
    }

    /// What it is called in a URL, and its group.
    pub fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::EndpointSlices => ("endpointslices", "discovery.k8s.io"),
            Self::Endpoints => ("endpoints", ""),
        }
    }
}

/// How requests of one verb are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// No role allows it.
    Forbidden,
    /// Something that is no answer.
    Garbage,
    /// Not at all.
    Hangs,
    /// As if there were no objects.
    Empty,
    /// HTTP 500.
    Fails,
    /// HTTP 410: the second page takes too long to be asked for.
    Expires,
    /// After a while.
    Slow(Duration),
}

/// What happened to an object.
#[derive(Debug)]
pub struct Change {
    version: u64,
    service: &'static str,
    /// The line of a watch of slices.
    slices: String,
    /// The line of a watch of Endpoints, of the nodes' service in a cluster without slices.
    endpoints: Option<String>,
}

impl Change {
    /// The line for those who watch the nodes' service.
    pub fn line(&self, resource: Resource) -> Option<&str> {
        match resource {
            Resource::EndpointSlices => (self.service == SERVICE).then_some(&*self.slices),
            Resource::Endpoints => self.endpoints.as_deref(),
        }
    }
}

/// All of it.
pub struct Store {
    pub token: String,
    pub lists: Mood,
    pub watches: Mood,
    /// Whether the cluster is new enough for slices.
    pub has_slices: bool,
    version: u64,
    /// Changes up to this version are forgotten.
    forgotten: u64,
    slices: BTreeMap<String, (u64, Slice)>,
    history: Vec<Arc<Change>>,
    /// Lists that are read page by page, by version.
    paged: BTreeMap<u64, Arc<Vec<Value>>>,
}

impl Store {
    pub fn new(token: &str) -> Self {
        Self {
            token: token.to_owned(),
            lists: Mood::Well,
            watches: Mood::Well,
            has_slices: true,
            version: 1_000,
            forgotten: 0,
            slices: BTreeMap::new(),
            history: Vec::new(),
            paged: BTreeMap::new(),
        }
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Makes a slice, changes it, or takes it away.
    pub fn put(&mut self, name: &str, slice: Option<Slice>) -> Arc<Change> {
        self.version += 1;
        let version = self.version;
        let before = self.slices.remove(name);
        let event = match (&before, &slice) {
            (None, _) => "ADDED",
            (Some(_), Some(_)) => "MODIFIED",
            (Some(_), None) => "DELETED",
        };
        let shown = slice.as_ref().or(before.as_ref().map(|(_, slice)| slice)).unwrap();
        let (service, object) = (shown.service, shown.item(name, version));
        if let Some(slice) = slice {
            self.slices.insert(name.to_owned(), (version, slice));
        }
        // Only where they are asked for: with ten thousand pods it takes long to write them.
        let is_told = !self.has_slices && service == SERVICE;
        let whole = || endpoints(self.slices.values().map(|(_, slice)| slice), version);
        let change = Arc::new(Change {
            version,
            service,
            slices: line(event, Resource::EndpointSlices, object),
            endpoints: is_told.then(|| line("MODIFIED", Resource::Endpoints, whole())),
        });
        self.history.push(Arc::clone(&change));
        change
    }

    /// Something changed that nobody here watches.
    pub fn pass(&mut self, versions: u64) {
        self.version += versions;
    }

    /// Forgets the changes so far, as etcd does after a few minutes.
    pub fn compact(&mut self) {
        self.forgotten = self.version;
        self.history.clear();
        self.paged.clear();
    }

    /// The line that moves a watch's position.
    pub fn bookmark(&self, resource: Resource) -> String {
        let version = self.version.to_string();
        let metadata = json!({"resourceVersion": version, "creationTimestamp": null});
        let object = match resource {
            Resource::EndpointSlices => {
                json!({"metadata": metadata, "addressType": "", "endpoints": null, "ports": null})
            }
            Resource::Endpoints => json!({"metadata": metadata}),
        };
        line("BOOKMARK", resource, object)
    }

    /// The changes after a version; an ERROR line when they are forgotten.
    pub fn since(&self, version: u64) -> Result<Vec<Arc<Change>>, String> {
        if version < self.forgotten {
            let text = format!("too old resource version: {version} ({})", self.forgotten);
            return Err(error_line(&status(410, "Expired", &text)));
        }
        Ok(self.history.iter().filter(|change| change.version > version).cloned().collect())
    }

    /// A page of a list. `more` is what the page before gave.
    pub fn page(&mut self, resource: Resource, limit: usize, more: &str) -> Result<Value, Value> {
        let (version, start) = match more.strip_prefix("v1/").and_then(|it| it.split_once('+')) {
            None => (self.version, 0),
            Some((version, start)) => {
                (version.parse().unwrap(), start.trim_end_matches('=').parse::<usize>().unwrap())
            }
        };
        let items = match self.paged.get(&version) {
            Some(items) => Arc::clone(items),
            None if start == 0 => Arc::new(self.items(resource)),
            None => {
                let text = "The provided continue parameter is too old to display a consistent \
                            list result. You can start a new list without the continue parameter.";
                return Err(status(410, "Expired", text));
            }
        };
        let mut metadata = json!({"resourceVersion": version.to_string()});
        let end = items.len().min(start + limit);
        if end < items.len() {
            self.paged.insert(version, Arc::clone(&items));
            // With characters that a URL must not hold as they are.
            metadata["continue"] = format!("v1/{version}+{end}==").into();
        }
        let (kind, group) = resource.kind();
        Ok(json!({
            "kind": format!("{kind}List"),
            "apiVersion": group,
            "metadata": metadata,
            "items": &items[start..end],
        }))
    }

    fn items(&self, resource: Resource) -> Vec<Value> {
        if self.lists == Mood::Empty {
            return Vec::new();
        }
        match resource {
            Resource::EndpointSlices => self
                .slices
                .iter()
                .filter(|(_, (_, slice))| slice.service == SERVICE)
                .map(|(name, (version, slice))| slice.item(name, *version))
                .collect(),
            Resource::Endpoints => {
                let slices = self.slices.values().map(|(_, slice)| slice);
                vec![endpoints(slices, self.version)]
            }
        }
    }
}

/// A line of a watch, where objects say their kind.
fn line(event: &str, resource: Resource, mut object: Value) -> String {
    let (kind, group) = resource.kind();
    object["kind"] = kind.into();
    object["apiVersion"] = group.into();
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n")
}

pub fn error_line(status: &Value) -> String {
    format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n")
}

/// What is said when no role allows it.
pub fn forbidden(verb: &str, resource: Resource) -> Value {
    let (name, group) = resource.name();
    let text = format!(
        "{name} is forbidden: User \"system:serviceaccount:{NAMESPACE}:{SERVICE}\" cannot {verb} \
         resource \"{name}\" in API group \"{group}\" in the namespace \"{NAMESPACE}\""
    );
    status(403, "Forbidden", &text)
}
