//! Metrics and health for a monitoring system: `/metrics` in Prometheus' text format, `/healthz`.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use tiny_http::{Header, Method, Response, Server};

use super::{DaemonError, source::Stop};

const PLAIN: &str = "text/plain; charset=utf-8";

/// What the HTTP port can say.
pub(crate) trait Monitored: Send + Sync + 'static {
    /// The metrics, in the text format 0.0.4.
    fn metrics(&self) -> String;
    /// Why the device is not well; `None` when it is.
    fn fault(&self) -> Option<String>;
}

/// Answers on a thread of its own until `stop`.
pub(crate) fn serve(listen: SocketAddr, device: Arc<dyn Monitored>, stop: Stop) -> Result<SocketAddr, DaemonError> {
    let failed = format!("cannot listen for HTTP on {listen}");
    let server = Server::http(listen).map_err(|error| DaemonError::io(failed)(std::io::Error::other(error)))?;
    let bound = server.server_addr().to_ip().unwrap_or(listen);
    thread::Builder::new()
        .name("clr-http".to_owned())
        .spawn(move || {
            while !stop.is_set() {
                let Ok(Some(request)) = server.recv_timeout(Duration::from_millis(200)) else {
                    continue;
                };
                let text = |code: u16, kind: &'static str, body: String| {
                    let response = Response::from_string(body).with_status_code(code);
                    match Header::from_bytes(b"Content-Type", kind) {
                        Ok(header) => response.with_header(header),
                        Err(()) => response,
                    }
                };
                let response = match (request.method(), request.url()) {
                    (Method::Get | Method::Head, "/metrics") => {
                        text(200, "text/plain; version=0.0.4; charset=utf-8", device.metrics())
                    }
                    (Method::Get | Method::Head, "/healthz") => match device.fault() {
                        None => text(200, PLAIN, "ok\n".to_owned()),
                        Some(fault) => text(503, PLAIN, format!("{fault}\n")),
                    },
                    (Method::Get | Method::Head, _) => text(404, PLAIN, "try /metrics or /healthz\n".to_owned()),
                    _ => text(405, PLAIN, "only GET\n".to_owned()),
                };
                // A client that went away is its own business.
                let _ = request.respond(response);
            }
        })
        .map_err(DaemonError::io("cannot start the HTTP thread"))?;
    Ok(bound)
}
