//! The HTTP servers of the local process, with bounds on what one client can take: connections, and the time for a
//! request's head and for its body with the response's head. On AWS the API Gateway has such bounds.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use okra_core::error_chain::error_chain;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Connections of one server that are open at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take until its response begins, the reading of its body included. A call that waits for a
/// refresh takes 25 seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after a connection could not be accepted: where the process has no file handles left, there are some soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a router until the process ends.
pub(crate) fn serve_router(tasks: &mut JoinSet<()>, listener: TcpListener, router: Router) {
    tasks.spawn(accept_connections(listener, router, HEAD_TIMEOUT));
}

async fn accept_connections(listener: TcpListener, router: Router, head_timeout: Duration) {
    let service = TowerToHyperService::new(router.layer(from_fn(limit_request_time)));
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Nothing closes the semaphore.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "A connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = service.clone();
        connections.spawn(async move {
            let _permit = permit;
            // How a connection ended concerns nobody but its client.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn limit_request_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    /// Serves one page, with a short time for the heads of requests.
    async fn connect_to_server(tasks: &mut JoinSet<()>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        tasks.spawn(accept_connections(
            listener,
            router,
            Duration::from_millis(200),
        ));
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn a_request_is_served() {
        let mut tasks = JoinSet::new();
        let mut stream = connect_to_server(&mut tasks).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("hello"), "{response}");
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_not_waited_for() {
        let mut tasks = JoinSet::new();
        let mut stream = connect_to_server(&mut tasks).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
        let mut response = Vec::new();
        // The server closes: without its bound this would wait for ever.
        stream.read_to_end(&mut response).await.unwrap();
        assert!(!response.starts_with(b"HTTP/1.1 200"));
    }
}
