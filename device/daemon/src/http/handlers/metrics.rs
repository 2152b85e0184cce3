//! `/metrics`: Prometheus' text format.

use hyper::{StatusCode, http::request::Parts};

use crate::http::{Monitored, reply::Reply};

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(in crate::http) fn get(device: &dyn Monitored, _: &Parts) -> Reply {
    Reply::new(StatusCode::OK, TEXT_FORMAT, device.metrics())
}
