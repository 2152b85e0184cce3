//! Route table: maps method and path to a handler. `GET` handlers serve `HEAD` too.

use hyper::{Method, StatusCode, header::ACCEPT, http::request::Parts};

use super::{Monitored, handlers, reply::Reply};

/// Handles a request whose body was discarded.
pub(super) type Handler = fn(&dyn Monitored, &Parts) -> Reply;

struct Route {
    method: Method,
    path: &'static str,
    handler: Handler,
}

const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/metrics",
        handler: handlers::metrics::get,
    },
    Route {
        method: Method::GET,
        path: "/healthz",
        handler: handlers::health::get,
    },
];

/// Returns the handler of a request, or the error response.
pub(super) fn find(head: &Parts) -> Result<Handler, Reply> {
    let mut of_path = ROUTES.iter().filter(|route| route.path == head.uri.path()).peekable();
    if of_path.peek().is_none() {
        return Err(Reply::text(StatusCode::NOT_FOUND, "try /metrics or /healthz"));
    }
    let method = if head.method == Method::HEAD {
        &Method::GET
    } else {
        &head.method
    };
    of_path
        .find(|route| route.method == method)
        .map(|route| route.handler)
        .ok_or_else(|| Reply {
            allow: Some("GET, HEAD"),
            ..Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD")
        })
}

/// Returns whether the query has a parameter of this name, with or without a value.
pub(super) fn has_parameter(head: &Parts, name: &str) -> bool {
    let query = head.uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

/// Returns whether the client lists this media type in its `Accept` field.
pub(super) fn accepts(head: &Parts, media_type: &str) -> bool {
    head.headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(media_type))
}
