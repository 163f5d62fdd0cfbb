//! The HTTP server: `/livez`, `/readyz`, `/metrics` and the status page.
//!
//! It only reads the health of the run, which contains no secret, and never blocks it. Its connections are limited in
//! time and in number, so that no client takes the file descriptors that Kafka and `PostgreSQL` need, and no client
//! keeps others from an answer.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use fenced_sink::Health;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::metrics;
use super::readiness::{Readiness, readiness};
use super::status_page::{self, StatusPage};

/// A connection ends after this time, with a slow request, a slow reader of the answer, or a client that sends nothing.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of open connections.
const MAX_CONNECTIONS: usize = 64;

/// Starts a task that answers at this address until the runtime ends. The names of the metrics begin with `prefix`.
///
/// # Errors
/// The operating system refuses the address.
pub async fn serve(address: SocketAddr, health: Health, prefix: &'static str, page: StatusPage) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "http_listening");
    let write_metrics = async move |Shared(health): Shared<Health>| {
        ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(prefix, &health))
    };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(write_metrics))
        .with_state(health.clone())
        .merge(status_page::routes(page, health));
    tokio::spawn(accept(listener, router));
    Ok(())
}

/// Accepts every connection immediately. If too many are open, the oldest one ends: a normal request takes
/// milliseconds, so the oldest connection is a slow one.
async fn accept(mut listener: TcpListener, router: Router) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        // This `accept` is axum's: after an error it waits and tries again.
        let (stream, _) = Listener::accept(&mut listener).await;
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::spawn(answer(stream, router.clone())));
    }
}

/// Answers one request. Without keep-alive the time-out of the connection never cuts a later request.
async fn answer(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    let connection = http.keep_alive(false).serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "http_connection_failed"),
        Err(_) => tracing::debug!("http_connection_timed_out"),
    }
}

async fn readyz(Shared(health): Shared<Health>) -> (StatusCode, Json<Readiness>) {
    let readiness = readiness(health.snapshot());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
