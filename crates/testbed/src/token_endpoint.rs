//! An OAuth token endpoint over HTTPS, for the grant "client credentials". Its tokens have no signature: only the validator
//! for tests of a broker accepts them.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use native_tls::{Identity, TlsAcceptor};

/// The client that the endpoint knows, and its secret. No output may show the secret.
pub const CLIENT: &str = "history";
pub const CLIENT_SECRET: &str = "secret-of-the-client";

/// A token for this scope names an algorithm of signatures, so that the broker refuses it.
pub const REFUSED_SCOPE: &str = "refused";

/// How long a token is valid, in seconds.
const LIFETIME: u64 = 10;

/// When the first and the last token that the broker accepts were issued.
type Issued = Arc<Mutex<Option<(Instant, Instant)>>>;

/// A running endpoint. Its thread ends with this process.
pub struct TokenEndpoint {
    url: String,
    issued: Issued,
}

impl TokenEndpoint {
    /// Starts it with the certificate `server` in this directory, for the host name `localhost`.
    pub fn start(directory: &Path) -> Self {
        let [certificate, key] = ["server.pem", "server.key"].map(|file| fs::read(directory.join(file)).unwrap());
        let tls = TlsAcceptor::new(Identity::from_pkcs8(&certificate, &key).unwrap()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("https://localhost:{}/token", listener.local_addr().unwrap().port());
        let issued = Issued::default();
        let endpoint = Self { url, issued: Arc::clone(&issued) };
        // A client that does not trust the certificate ends the handshake.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&tls, stream, &issued);
            }
        });
        endpoint
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it has issued a token after the first one had expired.
    pub fn has_renewed(&self) -> bool {
        let issued = *self.issued.lock().unwrap();
        issued.is_some_and(|(first, last)| last - first > Duration::from_secs(LIFETIME))
    }
}

fn answer(tls: &TlsAcceptor, stream: TcpStream, issued: &Mutex<Option<(Instant, Instant)>>) -> Option<()> {
    let mut request = BufReader::new(tls.accept(stream).ok()?);
    let login = format!("authorization: basic {}", BASE64_STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}")));
    let (mut known, mut size) = (false, 0);
    loop {
        let mut line = String::new();
        request.read_line(&mut line).ok()?;
        let line = line.trim();
        known |= line.eq_ignore_ascii_case(&login);
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            size = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; size];
    request.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body);
    let is_refused = body.contains(REFUSED_SCOPE);
    let algorithm = if is_refused { "HS256" } else { "none" };
    let asks = body.contains("grant_type=client_credentials");
    let (status, body) = if known && asks {
        if !is_refused {
            let (mut issued, now) = (issued.lock().unwrap(), Instant::now());
            *issued = Some((issued.map_or(now, |(first, _)| first), now));
        }
        (
            "200 OK",
            format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":{LIFETIME}}}"#, token(algorithm)),
        )
    } else {
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"unknown client or wrong secret"}"#.to_owned(),
        )
    };
    let stream = request.get_mut();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}").ok()?;
    stream.shutdown().ok()
}

fn token(algorithm: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = format!(r#"{{"sub":"{CLIENT}","iat":{now},"exp":{}}}"#, now + LIFETIME);
    let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    format!("{}.{}.", part(&format!(r#"{{"alg":"{algorithm}"}}"#)), part(&claims))
}
