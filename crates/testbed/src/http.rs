//! What a running service tells over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::kafka::Kafka;
use crate::service::{Service, settings};
use crate::topic::Topic;
use crate::unique;
use crate::wait::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A topic, and settings with an HTTP port that is free.
pub async fn listening(
    kafka: &Kafka,
    partitions: i32,
    database: &str,
    more: &[(&str, &str)],
) -> (Topic, Vec<(String, String)>) {
    let topic = Topic::create(kafka, partitions).await;
    let mut settings = settings(kafka, &topic, &unique("group"), database);
    let more = [("HTTP_ADDR", "127.0.0.1:0")].into_iter().chain(more.iter().copied());
    settings.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
    (topic, settings)
}

/// Where it listens, by its log.
pub fn address(service: &Service) -> String {
    let line = service.wait_for_line(|line| line.contains("http_listening"), PATIENCE);
    line.split_once("address=").unwrap().1.split(' ').next().unwrap().to_owned()
}

/// Asks, and waits for the answer.
pub fn get(address: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}
