//! `health`: asks the instance on this machine whether it is ready. For the health check of a container.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::{CommandError, output};
use crate::config::Settings;

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history health                            0: ready, 1: not ready, or no answer
  booking-history health --http-addr 127.0.0.1:81   an instance with another HTTP_ADDR

HTTP_ADDR must be that of the instance. If it is an address for all networks, such as 0.0.0.0, the command asks this machine.";

/// The instance answers from its memory. A health check must not wait for a process that does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A longer answer is not from this service.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The part of the answer of `/readyz` that this command needs.
#[derive(Deserialize)]
struct ReadyzAnswer {
    ready: bool,
    reasons: Vec<String>,
}

pub(super) async fn run(settings: &Settings) -> Result<(), CommandError> {
    let Some(address) = settings.http_addr.map(on_this_machine) else {
        return Err(CommandError::Finding("HTTP_ADDR is empty, so no instance can be asked".to_owned()));
    };
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(address)).await;
    let no_answer = match asked {
        Ok(Ok(ReadyzAnswer { ready: true, .. })) => return output::print("ready\n"),
        Ok(Ok(ReadyzAnswer { reasons, .. })) => {
            return Err(CommandError::Finding(format!("not ready: {}", reasons.join("; "))));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("waited for {} s", ANSWER_TIMEOUT.as_secs()),
    };
    Err(CommandError::Finding(format!(
        "no answer from http://{address}/readyz: {no_answer}; check that the service runs, and that HTTP_ADDR is its own"
    )))
}

/// A socket can listen on an unspecified address, but it is no destination.
fn on_this_machine(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(address: SocketAddr) -> Result<ReadyzAnswer, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let response = requests.send_request(request).await?;
    let body = Limited::new(response, MAX_ANSWER_BYTES).collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}
