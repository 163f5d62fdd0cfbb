//! Requests to a running service over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    pub body: String,
}

/// Sends a GET request to an address, and waits for the answer.
pub fn get(address: &str, path: &str) -> Answer {
    request(address, path, "1.1")
}

/// As [`get`], of a server that sends a long answer in chunks to a client of HTTP/1.1.
pub fn get_whole(address: &str, path: &str) -> Answer {
    request(address, path, "1.0")
}

fn request(address: &str, path: &str, version: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/{version}\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}
