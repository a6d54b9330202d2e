//! The admin HTTP: metrics, health, readiness and status for programs that watch a node.
//!
//! An address of its own, beside the RPC. It reads and never changes anything, asks nobody who
//! they are, and therefore stays on loopback unless told otherwise. Bounded like everything that
//! listens: connections, time for a head and for a connection, bytes of a head and of an answer; a
//! request's body is refused unread. One request per connection. Lacks TLS: put a proxy before it.

mod pages;

use crate::config::{ADMIN_OFF, Config};
use crate::service::Service;
use crate::start_error::StartError;
use crate::wire::Wire;
use axum::Router;
use core::time::Duration;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use zepto_core::limits::{
    ADMIN_CONNECTION_MS, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX, ADMIN_HEADER_TIMEOUT_MS,
};

/// Pause after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for answers under way when the node ends.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// The admin HTTP of a node. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Where it listens, with the port that was chosen.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens where the configuration says; `None` where it says off.
    ///
    /// # Errors
    /// The address cannot be taken, or could be reached from other machines without leave.
    pub(crate) async fn start<T: Wire>(
        config: &Config,
        service: &Arc<Service<T>>,
    ) -> Result<Option<Self>, StartError> {
        if config.admin == ADMIN_OFF {
            return Ok(None);
        }
        let failed = |source| StartError::Admin { address: config.admin.clone(), source };
        let listener = TcpListener::bind(&config.admin).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() && !config.insecure_bind {
            return Err(StartError::InsecureAdmin(address));
        }
        let (stop, stopped) = oneshot::channel();
        let router = pages::router(Arc::clone(service));
        let server = tokio::spawn(serve(listener, router, stopped));
        tracing::info!(%address, "admin HTTP");
        Ok(Some(Self { address, stop: Some(stop), server: Some(server) }))
    }

    /// Takes no more connections, and waits a moment for answers under way.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take()
            && server.await.is_err()
        {
            tracing::error!("the admin HTTP had panicked");
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// Accepts up to the bound; while it is reached, others wait in the kernel.
async fn serve(listener: TcpListener, router: Router, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        let room = connections.len() < ADMIN_CONNECTIONS_MAX;
        tokio::select! {
            biased;
            // A sender that is dropped is a stop too.
            _ = &mut stopped => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(ended),
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin HTTP cannot accept; will go on trying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(STOP_WITHIN, rest).await.is_err() {
        tracing::debug!("an answer of the admin HTTP was cut off");
    }
    connections.shutdown().await;
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection of the admin HTTP panicked");
    }
}

/// One request and its answer.
async fn converse(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(ADMIN_HEADER_TIMEOUT_MS))
        .keep_alive(false)
        .max_buf_size(ADMIN_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let within = Duration::from_millis(ADMIN_CONNECTION_MS);
    match tokio::time::timeout(within, connection).await {
        Ok(Ok(())) => {}
        // The affair of whoever asked.
        Ok(Err(error)) => tracing::debug!(%error, "a connection of the admin HTTP"),
        Err(_) => tracing::debug!("a connection of the admin HTTP took too long"),
    }
}
