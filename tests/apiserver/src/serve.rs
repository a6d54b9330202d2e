//! The double's wire: who it is, what there is, what it may do, and then lists and watches.

use crate::body::{Answer, Piece};
use crate::objects::{NAMESPACE, SERVICE, status};
use crate::store::{Change, Mood, Resource, Store, forbidden};
use core::convert::Infallible;
use core::time::Duration;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_rustls::TlsAcceptor;

/// A request that came in, and the status that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub is_watch: bool,
    pub resource: Option<Resource>,
    /// The version that a watch is to begin after.
    pub version: String,
    /// Where a page is to begin.
    pub more: String,
    pub limit: usize,
    /// 0 for a request that is never answered.
    pub code: u16,
}

/// What running watches are to do.
#[derive(Clone)]
pub enum Order {
    Tell(Arc<Change>),
    /// Half of the line, and then the connection breaks.
    TellHalf(Arc<Change>),
    /// This, whatever it is.
    Say(String),
    /// The line for watches of slices, and of Endpoints.
    Bookmark([String; 2]),
    /// The stream ends, as after `timeoutSeconds`.
    End,
}

/// What all connections share.
pub struct Shared {
    pub store: Mutex<Store>,
    pub orders: broadcast::Sender<Order>,
    pub seen: watch::Sender<Vec<Seen>>,
    /// Handshakes that came to nothing.
    pub distrusted: watch::Sender<u32>,
}

pub async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                shared.distrusted.send_modify(|count| *count += 1);
                return;
            };
            let service = service_fn(|request| answer(request, Arc::clone(&shared)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Connections break when the double breaks them, and when the other side goes.
            drop(connection.await);
        });
    }
}

type Query = BTreeMap<String, String>;
/// Status, content type, body.
type Answered = (u16, &'static str, Answer);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Answer>, Infallible> {
    let query = query(request.uri().query().unwrap_or_default());
    let value = |key: &str| query.get(key).cloned().unwrap_or_default();
    let mut seen = Seen {
        is_watch: value("watch") == "1",
        resource: resource(request.uri().path()),
        version: value("resourceVersion"),
        more: value("continue"),
        limit: value("limit").parse().unwrap_or(usize::MAX),
        code: 0,
    };
    let mood = {
        let store = shared.store.lock().unwrap();
        if seen.is_watch { store.watches } else { store.lists }
    };
    match mood {
        Mood::Slow(pause) => tokio::time::sleep(pause).await,
        Mood::Hangs => {
            shared.seen.send_modify(|all| all.push(seen.clone()));
            core::future::pending::<()>().await;
        }
        _ => {}
    }
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (code, kind, body) = judge(&seen, mood, bearer, &query, &shared);
    seen.code = code;
    shared.seen.send_modify(|all| all.push(seen));
    let response = Response::builder().status(code).header(CONTENT_TYPE, kind);
    let response = response.header("audit-id", "1c5b4a9e-8d3f-4a9e-b1d2-5f0e7c3a9b10");
    Ok(response.header("cache-control", "no-cache, private").body(body).unwrap())
}

/// The parts of a query, decoded.
fn query(text: &str) -> Query {
    let decode = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let Some((first, behind)) = rest.split_first() {
            let hex = (*first == b'%').then(|| core::str::from_utf8(&behind[..2]).unwrap());
            bytes.push(hex.map_or(*first, |hex| u8::from_str_radix(hex, 16).unwrap()));
            rest = if hex.is_some() { &behind[2..] } else { behind };
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

fn resource(path: &str) -> Option<Resource> {
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
    let endpoints = format!("/api/v1/namespaces/{NAMESPACE}/endpoints");
    match path {
        _ if path == slices => Some(Resource::EndpointSlices),
        _ if path == endpoints => Some(Resource::Endpoints),
        _ => None,
    }
}

fn failure(status: &Value) -> Answered {
    let code = status["code"].as_u64().unwrap() as u16;
    (code, JSON, Answer::of(status.to_string()))
}

fn judge(
    seen: &Seen,
    mood: Mood,
    bearer: Option<&str>,
    query: &Query,
    shared: &Shared,
) -> Answered {
    let mut store = shared.store.lock().unwrap();
    if bearer != Some(&format!("Bearer {}", store.token)) {
        return failure(&status(401, "Unauthorized", "Unauthorized"));
    }
    let is_known = |resource: &Resource| store.has_slices || *resource == Resource::Endpoints;
    let Some(resource) = seen.resource.filter(is_known) else {
        return (404, TEXT, Answer::of("404 page not found\n"));
    };
    let verb = if seen.is_watch { "watch" } else { "list" };
    let (selector, selected) = match resource {
        Resource::EndpointSlices => ("labelSelector", "kubernetes.io/service-name"),
        Resource::Endpoints => ("fieldSelector", "metadata.name"),
    };
    if query.get(selector) != Some(&format!("{selected}={SERVICE}")) {
        return failure(&status(400, "BadRequest", "the double knows one selector only"));
    }
    match mood {
        Mood::Forbidden => return failure(&forbidden(verb, resource)),
        Mood::Garbage => return (200, JSON, Answer::of("<html>\n{\"kind\":\n")),
        Mood::Fails => {
            return failure(&status(500, "InternalError", "etcdserver: request timed out"));
        }
        Mood::Expires if !seen.more.is_empty() => store.compact(),
        _ => {}
    }
    if !seen.is_watch {
        return match store.page(resource, seen.limit, &seen.more) {
            Ok(page) => (200, JSON, Answer::of(page.to_string())),
            Err(status) => failure(&status),
        };
    }
    let begin = store.since(seen.version.parse().unwrap_or(0));
    let (pieces, parts) = mpsc::channel(64);
    let watching = Watching {
        resource,
        has_bookmarks: query.get("allowWatchBookmarks").is_some_and(|value| value == "true"),
        // Under the store's lock, so that no change is missed and none is told twice.
        orders: shared.orders.subscribe(),
        pieces,
    };
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(1800);
    tokio::spawn(async move {
        let most = Duration::from_secs(seconds);
        // When it is over, the stream ends.
        drop(tokio::time::timeout(most, watching.run(begin)).await);
    });
    (200, JSON, Answer::Parts(parts))
}

/// A watch that runs.
struct Watching {
    resource: Resource,
    has_bookmarks: bool,
    orders: broadcast::Receiver<Order>,
    pieces: mpsc::Sender<Piece>,
}

impl Watching {
    /// Works until it is told to end, or nobody reads any more.
    async fn run(mut self, begin: Result<Vec<Arc<Change>>, String>) -> Option<()> {
        match begin {
            Ok(changes) => {
                for change in changes {
                    self.tell(&change).await?;
                }
            }
            Err(line) => return self.say(&line).await,
        }
        loop {
            match self.orders.recv().await.ok()? {
                Order::Tell(change) => self.tell(&change).await?,
                Order::TellHalf(change) => {
                    let line = change.line(self.resource)?;
                    self.say(&line[..line.len() / 2]).await?;
                    let broken = io::Error::from(io::ErrorKind::ConnectionReset);
                    return self.pieces.send(Err(broken)).await.ok();
                }
                Order::Say(text) => self.say(&text).await?,
                Order::Bookmark([slices, endpoints]) if self.has_bookmarks => match self.resource {
                    Resource::EndpointSlices => self.say(&slices).await?,
                    Resource::Endpoints => self.say(&endpoints).await?,
                },
                Order::Bookmark(_) => {}
                Order::End => return None,
            }
        }
    }

    async fn tell(&self, change: &Change) -> Option<()> {
        match change.line(self.resource) {
            Some(line) => self.say(line).await,
            None => Some(()),
        }
    }

    /// In two pieces: nothing promises that a line comes as a whole.
    async fn say(&self, text: &str) -> Option<()> {
        let (first, second) = text.split_at(text.len() / 3);
        for piece in [first, second] {
            self.pieces.send(Ok(piece.to_owned().into())).await.ok()?;
        }
        Some(())
    }
}
