//! The double as a test holds it: what it knows and does is said here.

use crate::certificates::Authority;
use crate::objects::{Slice, status};
use crate::serve::{Order, Seen, Shared, accept};
use crate::store::{Resource, Store, error_line};
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_rustls::TlsAcceptor;

/// Longest time that a test waits for one thing.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The double. It ends with the runtime of its test.
pub struct Double {
    pub address: SocketAddr,
    pub authority: Authority,
    shared: Arc<Shared>,
}

impl Double {
    /// One that accepts a token and knows of these slices.
    pub async fn start(token: &str, slices: &[(&str, Slice)]) -> Self {
        let authority = Authority::make();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut store = Store::new(token);
        for (name, slice) in slices {
            store.put(name, Some(slice.clone()));
        }
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            orders: broadcast::channel(4096).0,
            seen: watch::channel(Vec::new()).0,
            distrusted: watch::channel(0).0,
        });
        let acceptor = TlsAcceptor::from(authority.server());
        tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Self { address, authority, shared }
    }

    /// `https://127.0.0.1:port`.
    pub fn origin(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().unwrap()
    }

    /// Makes or changes a slice, and tells who watches.
    pub fn put(&self, name: &str, slice: Slice) {
        let mut store = self.store();
        let change = store.put(name, Some(slice));
        self.order(Order::Tell(change));
    }

    /// Takes a slice away, and tells who watches.
    pub fn remove(&self, name: &str) {
        let mut store = self.store();
        let change = store.put(name, None);
        self.order(Order::Tell(change));
    }

    /// Changes a slice; the connections of who watches break in the middle of telling it.
    pub fn put_and_break(&self, name: &str, slice: Slice) {
        let mut store = self.store();
        let change = store.put(name, Some(slice));
        self.order(Order::TellHalf(change));
    }

    /// Changes a slice, and tells nobody.
    pub fn put_unseen(&self, name: &str, slice: Slice) {
        self.store().put(name, Some(slice));
    }

    /// Says something on every watch.
    pub fn say(&self, line: &str) {
        self.order(Order::Say(line.to_owned()));
    }

    /// Tells every watch that it is too old.
    pub fn expire_watches(&self) {
        let expired = status(410, "Expired", "too old resource version: 1 (2)");
        self.say(&error_line(&expired));
    }

    /// Moves the position of every watch to the last version.
    pub fn bookmark(&self) {
        let store = self.store();
        let lines = [Resource::EndpointSlices, Resource::Endpoints];
        self.order(Order::Bookmark(lines.map(|resource| store.bookmark(resource))));
    }

    /// Ends every watch.
    pub fn end_watches(&self) {
        self.order(Order::End);
    }

    fn order(&self, order: Order) {
        // Nobody may be watching.
        drop(self.shared.orders.send(order));
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// What was asked, once that is enough.
    pub async fn wait_seen(&self, what: &str, is_enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = self.shared.seen.subscribe();
        let waited = tokio::time::timeout(DEADLINE, seen.wait_for(|seen| is_enough(seen))).await;
        match waited {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("{what}: not within {DEADLINE:?}: {:#?}", self.seen()),
        }
    }

    /// Waits until so many requests of a verb were answered with a status.
    pub async fn wait_code(&self, is_watch: bool, code: u16, times: usize) -> Vec<Seen> {
        let what = format!("{times} requests (watch: {is_watch}) with status {code}");
        let is_one = |seen: &&Seen| seen.is_watch == is_watch && seen.code == code;
        self.wait_seen(&what, |seen| seen.iter().filter(is_one).count() >= times).await
    }

    /// Waits until somebody did not trust the certificate so often.
    pub async fn wait_distrusted(&self, times: u32) {
        let mut distrusted = self.shared.distrusted.subscribe();
        let waited = distrusted.wait_for(|count| *count >= times);
        tokio::time::timeout(DEADLINE, waited).await.expect("a handshake that fails").unwrap();
    }
}
