//! One request over one connection of its own: to an address that was checked, without redirects,
//! without a proxy, with TLS by rustls.

use super::prepare::Prepared;
use core::time::Duration;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zepto_abi::plugin::{HTTP_FIRST, HTTP_LAST, HTTP_TRUNCATED, PluginStatus};
use zepto_core::limits::{
    PLUGIN_HTTP_CONNECT_MS, PLUGIN_HTTP_HEADERS_MAX, PLUGIN_HTTP_PART_BYTES_MAX,
};

const CONNECT_WITHIN: Duration = Duration::from_millis(PLUGIN_HTTP_CONNECT_MS);
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a message without headers and body, and of a header beside its text; not less.
const MESSAGE_BYTES: usize = 512;
const HEADER_BYTES: usize = 32;

/// An answer, or a part of one.
#[derive(Debug)]
pub struct Part {
    /// HTTP status code; 0 when there was no answer.
    pub code: u16,
    /// `HTTP_FIRST`, `HTTP_LAST`, `HTTP_TRUNCATED`.
    pub flags: u32,
    /// In the first part; names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, or a part of it.
    pub body: Vec<u8>,
    /// How it went.
    pub status: PluginStatus,
}

/// Why there is no answer, or no more of it.
#[derive(Debug)]
struct Broken {
    status: PluginStatus,
    text: String,
}

fn broken(status: PluginStatus, text: impl ToString) -> Broken {
    Broken { status, text: text.to_string() }
}

fn io(text: impl ToString) -> Broken {
    broken(PluginStatus::Io, text)
}

/// Where the parts of one request go. A full queue holds the answer up, and so its sender.
struct Outlet<'a> {
    token: u64,
    queue: &'a mpsc::Sender<(u64, Part)>,
}

impl Outlet<'_> {
    /// Whether somebody wants more.
    async fn put(&self, part: Part) -> bool {
        self.queue.send((self.token, part)).await.is_ok()
    }
}

/// Makes a request, and puts its parts into a queue, each with the request's token. The last one
/// says how it went.
pub async fn perform(request: &Prepared, token: u64, queue: &mpsc::Sender<(u64, Part)>) {
    let outlet = Outlet { token, queue };
    // What was handed out so far, so that the last part fits.
    let mut code = 0;
    let whole = timeout(request.timeout, exchange(request, &mut code, &outlet)).await;
    let error = match whole {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => broken(PluginStatus::Timeout, format!("after {:?}", request.timeout)),
    };
    tracing::debug!(?request, status = %error.status, error.text, "request failed");
    let flags = if code == 0 { HTTP_FIRST | HTTP_LAST } else { HTTP_LAST };
    let (headers, body) = (Vec::new(), error.text.into_bytes());
    // Whoever wants no more has gone.
    let _gone = outlet.put(Part { code, flags, headers, body, status: error.status }).await;
}

async fn exchange(request: &Prepared, code: &mut u16, outlet: &Outlet<'_>) -> Result<(), Broken> {
    let origin = &request.target.origin;
    let stream = connect(request).await?;
    let (mut sender, _connection) = if origin.is_tls {
        let name = ServerName::try_from(origin.host.clone()).map_err(io)?;
        let tls = tls(request.ca.as_deref()).await?;
        let connecting = TlsConnector::from(tls).connect(name, stream);
        let within = timeout(CONNECT_WITHIN, connecting).await;
        let stream = within.map_err(|_| broken(PluginStatus::Timeout, "TLS"))?;
        handshake(stream.map_err(|error| io(format!("TLS: {error}")))?).await?
    } else {
        handshake(stream).await?
    };
    let mut message = hyper::Request::builder()
        .method(request.method.clone())
        .uri(&request.target.path_and_query)
        .header(HOST, origin.authority());
    let headers = request.headers.clone();
    let headers = tokio::task::spawn_blocking(move || headers.fill()).await;
    for (name, value) in headers.map_err(io)?.map_err(io)? {
        message = message.header(name, value);
    }
    let body = Full::new(Bytes::copy_from_slice(&request.body));
    let answer = sender.send_request(message.body(body).map_err(io)?).await.map_err(io)?;
    let head = answer.headers().iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let head: Vec<(String, String)> = head.collect();
    let room = room(request.message_max, &head)?;
    let status = answer.status().as_u16();
    if request.is_stream {
        *code = status;
        stream_body(answer.into_body(), (status, head), room, outlet).await
    } else {
        let (body, truncated) = collect(answer.into_body(), request.body_max.min(room)).await?;
        let flags = HTTP_FIRST | HTTP_LAST | truncated;
        let part = Part { code: status, flags, headers: head, body, status: PluginStatus::Ok };
        let _gone = outlet.put(part).await;
        Ok(())
    }
}

/// Bytes that a message has for a body beside its head.
fn room(message_max: usize, head: &[(String, String)]) -> Result<usize, Broken> {
    let head = head.iter().map(|(name, value)| name.len() + value.len() + HEADER_BYTES);
    let taken = MESSAGE_BYTES + head.sum::<usize>();
    message_max.checked_sub(taken).ok_or_else(|| {
        broken(PluginStatus::TooBig, format!("a head of {taken} bytes, at most {message_max}"))
    })
}

/// The parts of a body, as they come.
async fn stream_body(
    mut body: Incoming,
    (code, headers): (u16, Vec<(String, String)>),
    room: usize,
    outlet: &Outlet<'_>,
) -> Result<(), Broken> {
    let part = |flags, headers, body| Part { code, flags, headers, body, status: PluginStatus::Ok };
    if !outlet.put(part(HTTP_FIRST, headers, Vec::new())).await {
        return Ok(());
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(io)?.into_data() else { continue };
        for chunk in data.chunks(PLUGIN_HTTP_PART_BYTES_MAX.min(room).max(1)) {
            if !outlet.put(part(0, Vec::new(), chunk.to_vec())).await {
                return Ok(());
            }
        }
    }
    let _gone = outlet.put(part(HTTP_LAST, Vec::new(), Vec::new())).await;
    Ok(())
}

/// A body of at most so many bytes, and whether it was cut.
async fn collect(mut body: Incoming, most: usize) -> Result<(Vec<u8>, u32), Broken> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(io)?.into_data() else { continue };
        let room = most - bytes.len();
        bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return Ok((bytes, HTTP_TRUNCATED));
        }
    }
    Ok((bytes, 0))
}

/// The connection ends with the request.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn handshake<S>(stream: S) -> Result<(http1::SendRequest<Full<Bytes>>, Connection), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(PLUGIN_HTTP_HEADERS_MAX);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io)?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a plugin's connection ended");
        }
    });
    Ok((sender, Connection(task.abort_handle())))
}

/// Connects to an address that the grant allows, whatever the name leads to.
async fn connect(request: &Prepared) -> Result<TcpStream, Broken> {
    let origin = &request.target.origin;
    let looking = timeout(CONNECT_WITHIN, lookup_host((origin.host.as_str(), origin.port))).await;
    let found = looking.map_err(|_| broken(PluginStatus::Timeout, "name lookup"))?.map_err(io)?;
    let (reachable, forbidden): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.partition(|address| origin.may_reach(address.ip()));
    let mut last = match forbidden.first() {
        Some(address) => {
            let text = format!("{} leads to {}, which is not allowed", origin.host, address.ip());
            broken(PluginStatus::Denied, text)
        }
        None => io(format!("{} leads nowhere", origin.host)),
    };
    for address in reachable {
        match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(io)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = io(format!("{address}: {error}")),
            Err(_) => last = broken(PluginStatus::Timeout, format!("connecting to {address}")),
        }
    }
    Err(last)
}

/// What a server's certificate is checked with: read anew each time, for it may be rotated.
async fn tls(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Broken> {
    let ca = ca.map(Path::to_owned);
    let read = tokio::task::spawn_blocking(move || match ca {
        Some(path) => roots_of(&path),
        None => Ok(system_roots()),
    });
    let roots = read.await.map_err(io)?.map_err(io)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(io)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let failed = |text: String| format!("certificates {}: {text}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() { Err(failed("none in it".into())) } else { Ok(roots) }
}

fn system_roots() -> RootCertStore {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!(%error, "the system's certificates");
    }
    let mut roots = RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(loaded.certs);
    if ignored > 0 {
        tracing::debug!(ignored, "certificates of the system that cannot be read");
    }
    roots
}
