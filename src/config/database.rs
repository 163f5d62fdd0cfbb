//! The connection to the database. Its password is never shown.
//!
//! `DATABASE_URL` is a URL of libpq. sqlx reads user, password, database and most parameters. It does not read a list of
//! hosts, an IPv6 address, or a user without a host, so this module reads the hosts, and writes one URL per server for
//! sqlx.

mod hosts;
mod parameters;

use std::{fmt, io, path::Path};

use fenced_sink::DatabaseServers;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::form_urlencoded::Serializer;

use super::{
    faults::{ConfigFault, ConfigFaults},
    raw::{DATABASE_URL, RawSettings},
};
use hosts::ServerAddress;
use parameters::Parameters;

const ACCEPTED: &str = "postgresql://user:password@host:port/database";
const USER_NEEDED: &str = "a URL with a user: postgresql://user:password@host:port/database";
const ENCODED: &str =
    "a URL in which each / ? # and @ of user, password and database is encoded, as %2F %3F %23 and %40";

/// The servers and the name of the database. `Debug` and `Display` show user, host, port and database, never the password.
#[derive(Clone)]
pub struct Database(DatabaseServers);

impl Database {
    /// The servers, to connect to.
    #[must_use]
    pub fn servers(&self) -> &DatabaseServers {
        &self.0
    }

    /// The name of the database. Without one, `PostgreSQL` uses the name of the user.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.database()
    }

    /// The user that connects.
    #[must_use]
    pub fn user(&self) -> &str {
        self.0.user()
    }
}

/// For tests, which have the options of their server.
impl From<PgConnectOptions> for Database {
    fn from(options: PgConnectOptions) -> Self {
        Self(options.into())
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} as {}", self.0, self.name(), self.user())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self}, {})", self.0.wanted().name())
    }
}

/// What is wrong with a URL.
#[derive(Debug)]
struct UrlFault {
    /// The parameter at fault, without its value if the value may be a secret. `None`: no part of the URL is shown, because
    /// any part may be the password.
    given: Option<String>,
    accepted: String,
}

impl From<&str> for UrlFault {
    fn from(accepted: &str) -> Self {
        Self { given: None, accepted: accepted.to_owned() }
    }
}

/// The database of `DATABASE_URL`, or of the file that `DATABASE_URL_FILE` names.
pub(super) fn choose(
    faults: &mut ConfigFaults,
    raw: &RawSettings,
    read_file: &impl Fn(&Path) -> io::Result<String>,
) -> Option<Database> {
    let parse = |url: &str| parse(url, &variable, read_file);
    let (setting, parsed) = match raw.database_url_file.as_deref().filter(|file| !file.is_empty()) {
        None => ("DATABASE_URL", parse(&raw.database_url)),
        Some(_) if raw.database_url != DATABASE_URL => {
            ("DATABASE_URL_FILE", Err("no DATABASE_URL together with it; give one of the two".into()))
        }
        Some(file) => match read_file(Path::new(file)) {
            Ok(url) => {
                let in_file = |fault: UrlFault| UrlFault {
                    accepted: format!("a file that contains {}", fault.accepted),
                    ..fault
                };
                ("DATABASE_URL_FILE", parse(url.trim()).map_err(in_file))
            }
            Err(error) => {
                let accepted = format!("a file that can be read: {error}");
                ("DATABASE_URL_FILE", Err(UrlFault { given: Some(file.to_owned()), accepted }))
            }
        },
    };
    parsed.map_err(|UrlFault { given, accepted }| faults.add(ConfigFault { setting, given, accepted })).ok()
}

#[expect(clippy::disallowed_methods, reason = "sqlx reads these variables too, and accepts any value of them")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn parse(
    url: &str,
    variable: &impl Fn(&str) -> Option<String>,
    read_file: &impl Fn(&Path) -> io::Result<String>,
) -> Result<Database, UrlFault> {
    let (scheme, rest) = url.split_once("://").ok_or(ACCEPTED)?;
    let scheme = scheme.split_once('+').map_or(scheme, |(scheme, _driver)| scheme);
    if !matches!(scheme, "postgresql" | "postgres") {
        return Err(ACCEPTED.into());
    }
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    // Without this check, a part of a password could become a host, a database or a parameter, and be shown.
    if rest.contains('#') || path.contains('@') || query.contains('@') {
        return Err(ENCODED.into());
    }
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let parameters = Parameters::parse(query, variable, read_file)?;
    // Without a user, sqlx connects as `anonymous`: it does not ask the operating system.
    let has_user = !login.is_empty() && !login.starts_with(':');
    if !has_user && !parameters.has_user && variable("PGUSER").is_none_or(|user| user.is_empty()) {
        return Err(USER_NEEDED.into());
    }
    let default = PgConnectOptions::new_without_pgpass();
    let addresses = hosts::choose(hosts, &parameters, default.get_host())?;

    let server = |ServerAddress { host, port }: &ServerAddress| {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(&parameters.for_sqlx);
        // As parameters, because sqlx takes the brackets of an IPv6 address as a part of the host.
        query.append_pair("host", host).append_pair("port", &port.unwrap_or(default.get_port()).to_string());
        let url = format!("postgresql://{login}@localhost/{path}?{}", query.finish());
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error| UrlFault { given: None, accepted: format!("{ACCEPTED} ({})", reason(&error)) })?;
        let mode = match options.get_ssl_mode() {
            PgSslMode::VerifyFull if parameters.has_address => return Err(address_verified()),
            // As in libpq: a socket of the same machine has no TLS.
            _ if host.starts_with('/') => PgSslMode::Disable,
            // sqlx would never use TLS. libpq uses it if the server asks for it.
            PgSslMode::Allow => PgSslMode::Prefer,
            // As in libpq: a URL that names a certificate authority asks for a check of the certificate.
            PgSslMode::Require if parameters.has_root_certificate => PgSslMode::VerifyCa,
            mode => mode,
        };
        let options = options.ssl_mode(mode);
        Ok(match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("booking-history"),
        })
    };
    let servers = addresses.iter().map(server).collect::<Result<Vec<_>, UrlFault>>()?;
    let mut servers = servers.into_iter();
    let first = servers.next().ok_or(ACCEPTED)?;
    let mut servers = DatabaseServers::new(first, servers.collect());
    if let Some(target) = parameters.target {
        servers = servers.target(target);
    }
    if let Some(limit) = parameters.connect_timeout {
        servers = servers.connect_timeout(limit);
    }
    Ok(Database(servers))
}

/// sqlx would compare the certificate with the address, not with the name in `host`.
fn address_verified() -> UrlFault {
    let accepted = "host=NAME with sslmode=verify-full, or host=IP-ADDRESS if the certificate has the address";
    UrlFault { given: Some("hostaddr=…".to_owned()), accepted: accepted.to_owned() }
}

/// Only the cause, which contains no part of the URL.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(cause) => cause.to_string(),
        _ => "it can't be parsed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
