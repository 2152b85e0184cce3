//! HTTP connection: one request with deadlines, and its response.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header::TRANSFER_ENCODING,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::{
    Server,
    raw_head::{HEAD_BYTES, RawHead, Recorded},
    reply::Reply,
    router,
};

/// Time limit from accepting the connection to the end of the request's head.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// Time limit from the end of the head to the end of the body.
const BODY_TIME: Duration = Duration::from_secs(3);
/// Maximum time from the accept to the last byte of the response.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Maximum number of header fields of a request.
const FIELDS: usize = 32;
/// Time for which further bytes of the peer are discarded. Closing immediately would reset the connection and lose the
/// response.
const LINGER_TIME: Duration = Duration::from_millis(500);
/// Maximum number of discarded bytes.
const LINGER_BYTES: usize = 256 << 10;

/// Serves one connection until it ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(stream: S, server: &Server) {
    let (stream, head) = Recorded::new(stream);
    let service = service_fn(|request| {
        let head = head.clone();
        Box::pin(async move { Ok::<_, std::convert::Infallible>(answer(request, &head, server).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(FIELDS)
        .keep_alive(false)
        // A client may close its sending side after the request.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let served = timeout(CONNECTION_TIME, poll_fn(|cx| connection.poll_without_shutdown(cx))).await;
    match served {
        Ok(Ok(())) => {}
        // There is no response that could be lost.
        Ok(Err(error)) if error.is_timeout() => return tracing::debug!("HTTP head not sent within {HEAD_TIME:?}"),
        // Slow, disconnected and non-HTTP peers are too common for a warning.
        Ok(Err(error)) => tracing::debug!("HTTP connection ended: {error}"),
        Err(_) => return tracing::debug!("HTTP connection ended after {CONNECTION_TIME:?}"),
    }
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    let _ = timeout(LINGER_TIME, linger(&mut stream)).await;
}

/// Closes the sending side and discards further bytes, so that the peer receives the complete response.
async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    if poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await.is_err() {
        return;
    }
    let mut buffer = [0; 4 << 10];
    let mut left = LINGER_BYTES;
    while left > 0 {
        let read = poll_fn(|cx| poll_discard(stream, cx, &mut buffer)).await;
        match read {
            Ok(count @ 1..) => left = left.saturating_sub(count),
            Ok(0) | Err(_) => return,
        }
    }
}

fn poll_discard(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<std::io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    let read = Pin::new(stream).poll_read(cx, &mut buffer);
    read.map_ok(|()| buffer.filled().len())
}

async fn answer(request: Request<Incoming>, raw: &RawHead, server: &Server) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let reply = match prepare(&head, body, raw, server).await {
        Ok(handler) => {
            let answered = catch_unwind(AssertUnwindSafe(|| handler(&*server.device, &head)));
            // The panic hook logs the place.
            answered.unwrap_or_else(|_| Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error of the device"))
        }
        Err(reply) => reply,
    };
    reply.into_response()
}

/// Checks a request and finds its handler. The body is read and discarded, because no route uses it.
async fn prepare(
    head: &hyper::http::request::Parts,
    body: Incoming,
    raw: &RawHead,
    server: &Server,
) -> Result<router::Handler, Reply> {
    if head.headers.contains_key(TRANSFER_ENCODING) && raw.has_field("content-length") {
        let reason = "both Content-Length and Transfer-Encoding, expected one of them";
        return Err(Reply::text(StatusCode::BAD_REQUEST, reason));
    }
    let most = server.limits.body_bytes;
    let too_large = || {
        Reply::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format_args!("a body of more than {most} bytes"),
        )
    };
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let handler = router::find(head)?;
    let mut body = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
    let read = timeout(BODY_TIME, async {
        while let Some(frame) = body.frame().await {
            drop(frame?);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    match read.await {
        Ok(Ok(())) => Ok(handler),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Reply::text(
            StatusCode::BAD_REQUEST,
            format_args!("the body cannot be read: {error}"),
        )),
        Err(_) => Err(Reply::text(
            StatusCode::REQUEST_TIMEOUT,
            format_args!("the body did not end within {} s", BODY_TIME.as_secs()),
        )),
    }
}
