//! The HTTP server: `/livez`, `/readyz` and `/metrics`.
//!
//! It only reads the health of the run, which contains no secret, and never blocks it.

use std::io;
use std::net::SocketAddr;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use fenced_sink::Health;
use tokio::net::TcpListener;

use super::metrics;
use super::readiness::{Readiness, readiness};

/// Starts a task that answers at this address until the runtime ends. The names of the metrics begin with `prefix`.
///
/// # Errors
/// The operating system refuses the address.
pub async fn serve(address: SocketAddr, health: Health, prefix: &'static str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "http_listening");
    let write_metrics = async move |Shared(health): Shared<Health>| {
        ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(prefix, &health))
    };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(write_metrics))
        .with_state(health);
    tokio::spawn(async move {
        // It ends only after an error, or with the runtime.
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "http_ended");
        }
    });
    Ok(())
}

async fn readyz(Shared(health): Shared<Health>) -> (StatusCode, Json<Readiness>) {
    let readiness = readiness(health.snapshot());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
