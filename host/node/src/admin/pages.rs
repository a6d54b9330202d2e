//! What the admin HTTP answers: four pages, and a plain word for everything else.

use crate::metrics::CONTENT_TYPE;
use crate::service::Service;
use crate::wire::Wire;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE as TYPE};
use axum::http::header::{HeaderValue, TRANSFER_ENCODING};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use std::sync::Arc;
use zepto_core::limits::ADMIN_ANSWER_BYTES_MAX;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PAGES: &str = "/metrics, /healthz, /readyz, /status";

/// The pages of a node.
pub(super) fn router<T: Wire>(service: Arc<Service<T>>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<T>))
        .route("/healthz", get(healthz::<T>))
        .route("/readyz", get(readyz::<T>))
        .route("/status", get(status::<T>))
        .fallback(async || answer(StatusCode::NOT_FOUND, PLAIN, format!("there is {PAGES}\n")))
        .layer(from_fn(admit))
        .with_state(service)
}

/// Nothing here takes anything but GET and HEAD, and no body is ever read.
async fn admit(request: Request, next: Next) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let text = format!("{} changes nothing here; use GET\n", request.method());
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let headers = request.headers();
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    if length.is_some_and(|length| length != b"0") || headers.contains_key(TRANSFER_ENCODING) {
        let text = "send no body\n".to_owned();
        return answer(StatusCode::PAYLOAD_TOO_LARGE, PLAIN, text);
    }
    next.run(request).await
}

async fn metrics<T: Wire>(State(service): State<Arc<Service<T>>>) -> Response {
    match service.metrics() {
        Ok(page) => answer(StatusCode::OK, CONTENT_TYPE, page),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
    }
}

async fn healthz<T: Wire>(State(service): State<Arc<Service<T>>>) -> Response {
    verdict("alive", service.not_alive())
}

async fn readyz<T: Wire>(State(service): State<Arc<Service<T>>>) -> Response {
    verdict("ready", service.not_ready())
}

async fn status<T: Wire>(State(service): State<Arc<Service<T>>>) -> Response {
    let Some(joined) = service.joined.get() else {
        return verdict("", service.not_ready());
    };
    match serde_json::to_string(&service.status(joined)) {
        Ok(object) => answer(StatusCode::OK, JSON, object + "\n"),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
    }
}

/// One word when all is well, the reason when it is not.
fn verdict(word: &str, obstacle: Option<String>) -> Response {
    match obstacle {
        None => answer(StatusCode::OK, PLAIN, format!("{word}\n")),
        Some(why) => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why + "\n"),
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response {
    if body.len() > ADMIN_ANSWER_BYTES_MAX {
        let text = format!("the answer has {} bytes, more than it may\n", body.len());
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    }
    // What is true now is not worth keeping.
    let headers = [(TYPE, content_type), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
