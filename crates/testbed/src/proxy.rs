//! A TCP proxy in front of a server: a link that is slow, that passes nothing for a while, or that breaks.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes that a connection passes on at once.
const CHUNK: usize = 16 * 1024;

/// A proxy for any number of connections to one server. It ends when this value is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
}

/// What all connections share.
#[derive(Debug)]
struct Link {
    state: Mutex<LinkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LinkState {
    bytes_per_second: Option<u32>,
    black_hole: bool,
    closed: bool,
    /// When the bytes that were passed on last have left, in each direction.
    busy_until: [Option<Instant>; 2],
    open: Vec<TcpStream>,
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// A proxy on a free port, for a server on this port of the same machine. The server need not be up yet.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let link = Arc::new(Link { state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&link);
        thread::spawn(move || accept(&accepting, &listener, server));
        Self { address, link }
    }

    /// Where clients connect, as host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Limits the bytes per second, in each direction and over all connections. `None`: no limit.
    pub fn limit(&self, bytes_per_second: Option<u32>) {
        self.link.change(|state| state.bytes_per_second = bytes_per_second);
    }

    /// While it is a black hole, connections stay open, new ones are accepted, and nothing passes. What was sent
    /// arrives afterwards.
    pub fn black_hole(&self, on: bool) {
        self.link.change(|state| state.black_hole = on);
    }

    /// Ends all connections. New ones work.
    pub fn cut(&self) {
        self.link.change(LinkState::cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.change(|state| {
            state.closed = true;
            state.cut();
        });
        // The listener waits for a connection: this one ends it.
        drop(TcpStream::connect(self.address));
    }
}

impl LinkState {
    fn cut(&mut self) {
        for stream in self.open.drain(..) {
            stream.shutdown(Shutdown::Both).ok(); // it fails if the other side has ended it
        }
    }
}

impl Link {
    fn change(&self, change: impl FnOnce(&mut LinkState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until this number of bytes has passed the link.
    fn pass(&self, direction: Direction, bytes: usize) {
        let mut state = self.state.lock().unwrap();
        if let Some(rate) = state.bytes_per_second {
            let index = match direction {
                Direction::ToServer => 0,
                Direction::ToClient => 1,
            };
            let busy_until = state.busy_until.get_mut(index).unwrap();
            let now = Instant::now();
            let takes = Duration::from_secs_f64(f64::from(u32::try_from(bytes).unwrap()) / f64::from(rate));
            let passed = busy_until.unwrap_or(now).max(now) + takes;
            *busy_until = Some(passed);
            drop(state);
            thread::sleep(passed.saturating_duration_since(now));
            state = self.state.lock().unwrap();
        }
        drop(self.changed.wait_while(state, |state| state.black_hole && !state.closed).unwrap());
    }
}

fn accept(link: &Arc<Link>, listener: &TcpListener, server: u16) {
    for client in listener.incoming() {
        let client = client.unwrap();
        if link.state.lock().unwrap().closed {
            return;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else {
            end_as_without_server(client);
            continue;
        };
        let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        link.change(|state| state.open.extend(ends));
        for (from, to, direction) in [
            (client.try_clone().unwrap(), server.try_clone().unwrap(), Direction::ToServer),
            (server, client, Direction::ToClient),
        ] {
            let link = Arc::clone(link);
            thread::spawn(move || forward(&link, from, to, direction));
        }
    }
}

/// Reads what the client sends first, and ends its connection without an answer, as a load balancer without a server does.
fn end_as_without_server(mut client: TcpStream) {
    thread::spawn(move || client.read(&mut [0; CHUNK]).ok());
}

/// Passes bytes on until one side ends the connection. Then it ends both sides.
fn forward(link: &Link, mut from: TcpStream, mut to: TcpStream, direction: Direction) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        link.pass(direction, read);
        if to.write_all(buffer.get(..read).unwrap()).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        stream.shutdown(Shutdown::Both).ok(); // it fails if the connection has ended
    }
}
