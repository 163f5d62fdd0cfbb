//! A private `PgBouncer` in front of a private `PostgreSQL`.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::{Account, Guardian, Postgres, ServerError, free_ports, quoted};

/// Long enough for a machine under load.
const PATIENCE: Duration = Duration::from_mins(1);

/// `sbin` is not on the path of each user.
const FIND: &str = "PATH=$PATH:/usr/sbin:/usr/local/sbin command -v pgbouncer";

/// A running pooler for all databases of one server. It ends when this value is dropped or this process ends.
#[derive(Debug)]
pub struct PgBouncer {
    guardian: Guardian,
    port: u16,
}

impl PgBouncer {
    /// Starts a pooler with these settings (as in the section `pgbouncer` of `pgbouncer.ini`) on a free port of
    /// 127.0.0.1. All other settings are those of the package. `users` are the names and passwords of the users, in
    /// addition to the superuser of the server.
    pub fn start(server: &Postgres, settings: &[(&str, &str)], users: &[(&str, &str)]) -> Self {
        Self::try_start(server, settings, users)
            .unwrap_or_else(|error| panic!("{error}\nTo install what is missing: make test"))
    }

    fn try_start(server: &Postgres, settings: &[(&str, &str)], users: &[(&str, &str)]) -> Result<Self, ServerError> {
        let found = Command::new("sh").args(["-c", FIND]).output().map_err(|error| ServerError(error.to_string()))?;
        let program = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        if program.is_empty() {
            return Err(ServerError("PgBouncer is not installed: no `pgbouncer` found".to_owned()));
        }
        let guardian = Guardian::new("INT", Account::unless_root(&["postgres", "nobody"])?)?;
        let [port] = free_ports()?;
        let server_port = server.port();
        let settings: Vec<_> = settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let ini = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = users\n{}\n",
            settings.join("\n")
        );
        let all = [("postgres", server.password())];
        let users: Vec<_> =
            all.iter().chain(users).map(|(name, password)| format!("\"{name}\" \"{password}\"")).collect();
        let write = |file: &str, text: &str| {
            guardian.run(&format!("printf '%b' {} >{file}", quoted(text.replace('\n', "\\n"))))
        };
        if write("pgbouncer.ini", &ini)? != 0 || write("users", &users.join("\n"))? != 0 {
            return Err(ServerError("the files of PgBouncer can't be written".to_owned()));
        }
        guardian.start(&format!("exec {} pgbouncer.ini >>log 2>&1", quoted(&program)))?;
        let accepts = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        guardian.wait_until(accepts, PATIENCE, "log")?;
        Ok(Self { guardian, port })
    }

    /// The URL of a server's database through this pooler.
    pub fn url(&self, direct: &str) -> String {
        let (user, place) = direct.split_once('@').unwrap();
        let database = place.split_once('/').unwrap().1;
        format!("{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The end of the pooler's log.
    pub fn log(&self) -> String {
        self.guardian.tail("log")
    }
}
