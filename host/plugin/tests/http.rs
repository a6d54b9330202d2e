//! Requests that the host makes for plugins, against servers that answer as they like: one request
//! is one exchange with one server, whatever that says.

#![expect(clippy::unwrap_used, reason = "a test, and clippy sees tests only in #[test] functions")]

use core::time::Duration;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zepto_abi::plugin::{HTTP_FIRST, HTTP_LAST, HTTP_TRUNCATED, PluginStatus};
use zepto_message::Request;
use zepto_plugin::grant::{Grant, Grants};
use zepto_plugin::http::{Part, perform, prepare};

const DEADLINE: Duration = Duration::from_secs(20);
const ONCE: u32 = HTTP_FIRST | HTTP_LAST;

/// A server that answers one request with these bytes, and then closes, or not. What it was sent.
async fn server(answer: &'static [u8], closes: bool) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).await.unwrap();
            request.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(answer).await.unwrap();
        if !closes {
            // Until the other side has had enough.
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        }
        String::from_utf8(request).unwrap()
    });
    (port, serving)
}

struct Ask {
    port: u16,
    scheme: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    grants: Vec<String>,
    timeout_ms: u32,
    max_body: u32,
    message_max: usize,
    is_stream: bool,
}

impl Ask {
    fn of(port: u16) -> Self {
        Self {
            port,
            scheme: "http",
            headers: Vec::new(),
            grants: Vec::new(),
            timeout_ms: 10_000,
            max_body: 0,
            message_max: 1 << 20,
            is_stream: false,
        }
    }

    /// All parts that come.
    async fn parts(self) -> Vec<Part> {
        let origin = format!("{}://127.0.0.1:{}", self.scheme, self.port);
        let mut grants: Vec<Grant> = vec![format!("http=GET {origin}/*").parse().unwrap()];
        grants.extend(self.grants.iter().map(|text| text.parse::<Grant>().unwrap()));
        let url = format!("{origin}/path?query");
        let request = Request {
            method: "GET",
            url: &url,
            headers: self.headers,
            timeout_ms: self.timeout_ms,
            max_body: self.max_body,
            is_stream: self.is_stream,
            ..Request::default()
        };
        let prepared =
            prepare(&request, url.parse().unwrap(), &Grants::of(&grants), self.message_max)
                .unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let performing = tokio::spawn(async move { perform(&prepared, 7, &sender).await });
        let mut parts = Vec::new();
        while let Some((token, part)) = timeout(DEADLINE, receiver.recv()).await.unwrap() {
            assert_eq!(token, 7);
            parts.push(part);
        }
        performing.await.unwrap();
        parts
    }

    /// The one part that comes.
    async fn part(self) -> Part {
        let mut parts = self.parts().await;
        assert_eq!(parts.len(), 1, "{parts:?}");
        parts.remove(0)
    }
}

#[tokio::test]
async fn an_answer_comes_with_its_headers_and_body_and_the_host_is_the_hosts() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-One: 1\r\n\r\nbody";
    let (port, serving) = server(answer, false).await;
    let part = Ask::of(port).part().await;
    assert_eq!((part.code, part.flags, part.status), (200, ONCE, PluginStatus::Ok));
    assert_eq!(part.body, b"body");
    assert!(part.headers.contains(&("x-one".into(), "1".into())));
    let request = timeout(DEADLINE, serving).await.unwrap().unwrap();
    assert!(request.starts_with("GET /path?query HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
}

/// Case 29: a redirect is an answer like any other.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = target.local_addr().unwrap();
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{there}/latest\r\n\r\n");
    let (port, _serving) = server(answer.leak().as_bytes(), true).await;
    let part = Ask::of(port).part().await;
    assert_eq!((part.code, part.status), (302, PluginStatus::Ok));
    assert!(timeout(Duration::from_millis(50), target.accept()).await.is_err());
}

/// Case 30: what a name leads to is looked at, and not only the name.
#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_not_followed() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    // A name of this machine's own, which every resolver knows.
    let Ok(name) = std::fs::read_to_string("/etc/hostname") else { return };
    for host in ["ip6-localhost", "localhost.localdomain", name.trim()] {
        let Ok(found) = tokio::net::lookup_host((host, port)).await else { continue };
        if !found.into_iter().all(|address| address.ip().is_loopback()) {
            continue;
        }
        let url = format!("http://{host}:{port}/");
        let grant: Grant = format!("http=GET {url}").parse().unwrap();
        let request = Request { method: "GET", url: &url, ..Request::default() };
        let grants = Grants::of(&[grant]);
        let prepared = prepare(&request, url.parse().unwrap(), &grants, 1 << 20).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        perform(&prepared, 7, &sender).await;
        let (_, part) = receiver.recv().await.unwrap();
        assert_eq!((part.code, part.status), (0, PluginStatus::Denied), "{host}");
        assert!(timeout(Duration::from_millis(50), target.accept()).await.is_err());
        return;
    }
    println!("SKIPPED: no name here leads to this machine, localhost apart");
}

#[tokio::test]
async fn an_answer_fits_into_a_message_with_its_head() {
    let answer = b"HTTP/1.1 200 OK\r\nX-One: 1\r\n\r\n0123456789";
    let (port, _serving) = server(answer, true).await;
    let part = Ask { message_max: 550, ..Ask::of(port) }.part().await;
    assert_eq!((part.body.as_slice(), part.flags), (&b""[..], ONCE | HTTP_TRUNCATED));
    let (port, _serving) = server(answer, true).await;
    let part = Ask { message_max: 512, ..Ask::of(port) }.part().await;
    assert_eq!((part.code, part.status), (0, PluginStatus::TooBig));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_cut_and_says_so() {
    let (port, _serving) = server(b"HTTP/1.1 200 OK\r\n\r\n0123456789", true).await;
    let part = Ask { max_body: 4, ..Ask::of(port) }.part().await;
    assert_eq!((part.body.as_slice(), part.flags), (&b"0123"[..], ONCE | HTTP_TRUNCATED));
}

#[tokio::test]
async fn a_stream_comes_in_parts_and_its_end_is_told() {
    let answer =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let (port, _serving) = server(answer, false).await;
    let parts = Ask { is_stream: true, ..Ask::of(port) }.parts().await;
    let body: Vec<u8> = parts.iter().flat_map(|part| part.body.clone()).collect();
    assert_eq!(body, b"abc");
    assert_eq!(parts.first().map(|part| part.flags), Some(HTTP_FIRST));
    assert_eq!(
        parts.last().map(|part| (part.flags, part.status)),
        Some((HTTP_LAST, PluginStatus::Ok))
    );

    // Cut in the middle of a chunk.
    let cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc";
    let (port, _serving) = server(cut, true).await;
    let parts = Ask { is_stream: true, ..Ask::of(port) }.parts().await;
    let last = parts.last().unwrap();
    assert_eq!((last.flags, last.status, last.code), (HTTP_LAST, PluginStatus::Io, 200));
}

#[tokio::test]
async fn servers_that_are_silent_gone_or_no_servers_are_errors_within_the_time() {
    let (port, _serving) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false).await;
    let slow = Ask { timeout_ms: 100, ..Ask::of(port) }.part().await;
    assert_eq!((slow.code, slow.flags, slow.status), (0, ONCE, PluginStatus::Timeout));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(Ask::of(nobody).part().await.status, PluginStatus::Io);
    let (port, _serving) = server(b"SSH-2.0-OpenSSH\r\n\r\n", true).await;
    assert_eq!(Ask::of(port).part().await.status, PluginStatus::Io);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rude = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"no TLS here\r\n").await.unwrap();
    });
    let tls = Ask { scheme: "https", ..Ask::of(port) }.part().await;
    assert_eq!((tls.code, tls.status), (0, PluginStatus::Io));
    rude.await.unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_end_is_an_error() {
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    for i in 0..1000 {
        answer.extend_from_slice(format!("X-{i}: {}\r\n", "y".repeat(100)).as_bytes());
    }
    let (port, serving) = server(answer.leak(), false).await;
    assert_eq!(Ask::of(port).part().await.status, PluginStatus::Io);
    serving.abort();
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_secret_is_filled_in_by_the_host_anew_for_each_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    for secret in ["first", "rotated"] {
        write(&path, &format!("{secret}\n"));
        let (port, serving) = server(b"HTTP/1.1 204 No Content\r\n\r\n", false).await;
        let grant = format!("secret=token=file:{}@http://127.0.0.1:{port}", path.display());
        let headers = vec![("authorization", "Bearer ${secret:token}")];
        let ask = Ask { headers, grants: vec![grant], ..Ask::of(port) };
        assert_eq!(ask.part().await.code, 204);
        let request = timeout(DEADLINE, serving).await.unwrap().unwrap();
        assert!(request.contains(&format!("authorization: Bearer {secret}\r\n")), "{request}");
    }
    // One that cannot be read is an error that does not say what is in it.
    let grant = "secret=token=file:/nowhere@http://127.0.0.1:1".to_owned();
    let headers = vec![("authorization", "${secret:token}")];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let grant = grant.replace(":1", &format!(":{port}"));
    let part = Ask { headers, grants: vec![grant], ..Ask::of(port) }.part().await;
    assert_eq!((part.code, part.status), (0, PluginStatus::Io));
    assert!(String::from_utf8(part.body).unwrap().contains("/nowhere"));
}
