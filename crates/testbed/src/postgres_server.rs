//! A private `PostgreSQL`, with its own data directory and port.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{Account, Guardian, ServerError, certificates, free_ports, quoted};

/// Long enough for a machine under load.
const PATIENCE: Duration = Duration::from_mins(1);

/// Finds `postgres`: on the path, else the newest one in the directories of distributions. It follows a link, because the
/// other programs are beside the file itself.
const FIND: &str = "readlink -f \"$(command -v postgres || \
    ls -d /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres 2>/dev/null | sort -V | tail -n 1)\"";

/// The settings of a server with TLS, for the host name `localhost`. Every user except the superuser needs TLS. The user
/// `by_certificate` needs the certificate `client`, the others need a password.
pub const TLS: &[(&str, &str)] = &[
    ("ssl", "on"),
    ("ssl_cert_file", "../server.pem"),
    ("ssl_key_file", "../server.key"),
    ("ssl_ca_file", "../ca.pem"),
];

/// Writes the rules of [`TLS`].
const TLS_ONLY: &str = "printf '%s\\n' 'host all postgres all scram-sha-256' 'hostssl all by_certificate all cert' \
    'hostssl all all all scram-sha-256' >data/pg_hba.conf";

/// A running server. It is ended by immediate shutdown, and its data removed, when this value is dropped or this
/// process ends.
#[derive(Debug)]
pub struct Postgres {
    guardian: Guardian,
    command: String,
    port: u16,
    password: String,
    pid: AtomicI32,
}

impl Postgres {
    /// Makes a data directory and starts a server with these settings (as in `postgresql.conf`) on a free port of
    /// 127.0.0.1.
    ///
    /// # Errors
    /// `PostgreSQL` is not installed, or does not start.
    pub fn start_new(settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        Self::start_with(settings, None)
    }

    /// As [`Self::start_new`], with messages in the language of this locale and, before a login, in this encoding: for
    /// example `de_DE` and `ISO-8859-1`.
    ///
    /// # Errors
    /// `PostgreSQL`, or the definitions of locales, are not installed, or it does not start.
    pub fn start_speaking(locale: &str, encoding: &str) -> Result<Self, ServerError> {
        Self::start_with(&[], Some((locale, encoding)))
    }

    /// Starts a server with these settings, and makes a locale that its databases can use, also if this machine does not
    /// have it.
    ///
    /// # Errors
    /// Those of [`Self::start_new`] and [`Self::start_speaking`].
    pub fn start_with(settings: &[(&str, &str)], language: Option<(&str, &str)>) -> Result<Self, ServerError> {
        let programs = programs()?;
        let guardian = Guardian::new("QUIT", Account::unless_root(&["postgres", "nobody"])?)?;
        // Every user of this machine can reach the port, and a superuser's session can run programs.
        let password = Uuid::now_v7().simple().to_string();
        let initdb = format!(
            "umask 077; echo {password} >password && exec {} -D data -U postgres -A scram-sha-256 --pwfile=password \
             -E UTF8 --no-locale --no-sync >>log 2>&1",
            quoted(format!("{programs}/initdb"))
        );
        if guardian.run(&initdb)? != 0 {
            return Err(ServerError(format!("initdb failed:\n{}", guardian.tail("log"))));
        }
        if settings.iter().any(|(name, _)| *name == "ssl") {
            certificates::create(&guardian)?;
            guardian.run(TLS_ONLY)?;
        }
        Self::start_with_data(guardian, &programs, settings, language, password)
    }

    /// Starts a standby of `primary`, with a copy of its data. It reads the changes from `port` of 127.0.0.1, which can be a
    /// proxy in front of the primary.
    ///
    /// # Errors
    /// The primary can't be copied, or the standby does not start.
    pub fn start_standby(primary: &Self, port: u16) -> Result<Self, ServerError> {
        let programs = programs()?;
        let guardian = Guardian::new("QUIT", Account::unless_root(&["postgres", "nobody"])?)?;
        let password = primary.password.clone();
        let source = format!("host=127.0.0.1 port={port} user=postgres password={password}");
        let copy = format!(
            "umask 077; exec {} -D data -R -c fast --no-sync -d {} >>log 2>&1",
            quoted(format!("{programs}/pg_basebackup")),
            quoted(source)
        );
        if guardian.run(&copy)? != 0 {
            return Err(ServerError(format!("pg_basebackup failed:\n{}", guardian.tail("log"))));
        }
        Self::start_with_data(guardian, &programs, &[], None, password)
    }

    fn start_with_data(
        guardian: Guardian,
        programs: &str,
        settings: &[(&str, &str)],
        language: Option<(&str, &str)>,
        password: String,
    ) -> Result<Self, ServerError> {
        let [port] = free_ports()?;
        let mut settings: Vec<_> =
            settings.iter().map(|(name, value)| format!("-c {}", quoted(format!("{name}={value}")))).collect();
        let mut environment = String::new();
        if let Some((locale, encoding)) = language {
            // Few machines have it. The server finds it in the working directory.
            if guardian.run(&format!("localedef -i {locale} -f {encoding} ./{locale}.{encoding} >>log 2>&1"))? != 0 {
                return Err(ServerError(format!("localedef failed:\n{}", guardian.tail("log"))));
            }
            environment = format!("LOCPATH=\"$PWD\" LC_ALL={locale}.{encoding}");
            settings.push(format!("-c lc_messages={locale}.{encoding}"));
        }
        let command = format!(
            "exec env {environment} {} -D data -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= {} \
             >>log 2>&1",
            quoted(format!("{programs}/postgres")),
            settings.join(" ")
        );
        let server = Self { guardian, command, port, password, pid: AtomicI32::new(0) };
        server.start()?;
        Ok(server)
    }

    /// Starts it again after a stop, on the same port with the same data; returns when it accepts connections.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> Result<(), ServerError> {
        self.pid.store(self.guardian.start(&self.command)?, Ordering::Relaxed);
        self.guardian.wait_until(|| accepts_connections(self.port), PATIENCE, "log")
    }

    /// Stops it as a crash does: connections break, nothing is written, the next start recovers from its write-ahead
    /// log.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_immediate(&self) -> Result<(), ServerError> {
        self.stop("QUIT")
    }

    /// Stops it in order. It does not wait for clients.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_fast(&self) -> Result<(), ServerError> {
        self.stop("INT")
    }

    /// [`Self::stop_fast`], then [`Self::start`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.stop_fast()?;
        self.start()
    }

    fn stop(&self, signal: &str) -> Result<(), ServerError> {
        self.guardian.signal(signal)?;
        self.guardian.wait(PATIENCE).map(|_| ())
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Errors
    /// The error of the server, for example that a database of this name exists.
    pub async fn create_database(&self, name: &str) -> sqlx::Result<String> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let create = format!("create database \"{}\"", name.replace('"', "\"\""));
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.url(name))
    }

    /// The URL of a database of this server, for its superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The password of its superuser.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Its port on 127.0.0.1, the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster last started.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// The end of the server's log.
    #[must_use]
    pub fn log(&self) -> String {
        self.guardian.tail("log")
    }

    /// The path of a certificate or a key of a server with [`TLS`].
    #[must_use]
    pub fn certificate(&self, file: &str) -> String {
        certificates::path(self.directory(), file)
    }

    /// Its working directory, which holds its data.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.guardian.directory()
    }
}

/// The directory of the programs of `PostgreSQL`.
fn programs() -> Result<String, ServerError> {
    let found = Command::new("sh").args(["-c", FIND]).output().map_err(|error| ServerError(error.to_string()))?;
    let postgres = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let directory = postgres.strip_suffix("/postgres").map(str::to_owned);
    directory.ok_or_else(|| ServerError("PostgreSQL is not installed: no `postgres` found".to_owned()))
}

/// While it starts or recovers, the server accepts connections and refuses them. So this sends the first message of a
/// session. The answer begins with `R` if the server asks for the password, else with `E`.
fn accepts_connections(port: u16) -> bool {
    let answer = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Length, protocol 3.0, one parameter, end.
        stream.write_all(b"\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00")?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        std::io::Result::Ok(kind)
    };
    matches!(answer(), Ok([b'R']))
}
