//! The connection to the database. Its password is never shown.

use std::{fmt, io, path::Path};

use sqlx::postgres::PgConnectOptions;

use super::{
    faults::{ConfigFault, ConfigFaults},
    raw::{DATABASE_URL, RawSettings},
};

const ACCEPTED: &str = "postgresql://user:password@host:port/database";

/// The parameters of a URL that sqlx knows. sqlx only warns about others: an ignored `ssl=require` would be a connection
/// without TLS.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The parameters of the connection. `Debug` and `Display` show user, host, port and database, never the password.
#[derive(Clone)]
pub struct Database(PgConnectOptions);

impl Database {
    /// The options for sqlx. Their `Debug` shows the password: never log them.
    #[must_use]
    pub fn options(&self) -> &PgConnectOptions {
        &self.0
    }
}

/// For tests, which have the options of their server.
impl From<PgConnectOptions> for Database {
    fn from(options: PgConnectOptions) -> Self {
        Self(options)
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get_socket() {
            Some(socket) => write!(f, "{}", socket.display())?,
            None => write!(f, "{}", self.0.get_host())?,
        }
        write!(f, ":{}/{} as {}", self.0.get_port(), self.name(), self.0.get_username())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

impl Database {
    /// The name of the database. Without one, `PostgreSQL` uses the name of the user.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.get_database().unwrap_or_else(|| self.0.get_username())
    }
}

/// The database of `DATABASE_URL`, or of the file that `DATABASE_URL_FILE` names.
pub(super) fn choose(
    faults: &mut ConfigFaults,
    raw: &RawSettings,
    read_file: &impl Fn(&Path) -> io::Result<String>,
) -> Option<Database> {
    let (setting, parsed) = match raw.database_url_file.as_deref().filter(|file| !file.is_empty()) {
        None => ("DATABASE_URL", parse(&raw.database_url)),
        Some(_) if raw.database_url != DATABASE_URL => {
            ("DATABASE_URL_FILE", Err("no DATABASE_URL together with it; give one of the two".to_owned()))
        }
        Some(file) => match read_file(Path::new(file)) {
            Ok(url) => ("DATABASE_URL_FILE", parse(url.trim()).map_err(|why| format!("a file that contains {why}"))),
            Err(error) => {
                let accepted = format!("a file that can be read: {error}");
                faults.add(ConfigFault { setting: "DATABASE_URL_FILE", given: Some(file.to_owned()), accepted });
                return None;
            }
        },
    };
    // No part of a URL that cannot be parsed is shown, because any part may be the password.
    parsed.map_err(|accepted| faults.add(ConfigFault { setting, given: None, accepted })).ok()
}

fn parse(url: &str) -> Result<Database, String> {
    let (scheme, rest) = url.split_once("://").ok_or(ACCEPTED)?;
    let scheme = scheme.split_once('+').map_or(scheme, |(scheme, _driver)| scheme);
    if !matches!(scheme, "postgresql" | "postgres") {
        return Err(ACCEPTED.to_owned());
    }
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        if !PARAMETERS.contains(&name) && !name.starts_with("options") {
            return Err(format!("{ACCEPTED}, with the parameters {} only", PARAMETERS.join(", ")));
        }
    }
    let options: PgConnectOptions =
        format!("{scheme}://{rest}").parse().map_err(|error| format!("{ACCEPTED} ({})", reason(&error)))?;
    Ok(Database(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("booking-history"),
    }))
}

/// Only the cause, which contains no part of the URL.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(cause) => cause.to_string(),
        _ => "it can't be parsed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let shown = match parse(url) {
            Ok(database) => format!("{database:?}"),
            Err(accepted) => accepted,
        };
        assert!(shown.contains(expected), "{url} gave {shown}");
        assert!(!shown.contains("secret"), "{url} gave {shown}");
    }

    #[test]
    fn a_driver_in_the_scheme_is_dropped() {
        check("postgresql+asyncpg://u:secret@db:5434/b", "Database(db:5434/b as u)");
        check("postgres://u:secret@db/b", "Database(db:5432/b as u)");
    }

    #[test]
    fn options_reach_the_connection() {
        let database = parse("postgresql://u@h/b?options=-c%20search_path%3Done&application_name=x").unwrap();
        assert_eq!(database.options().get_options(), Some("-c search_path=one"));
        assert_eq!(database.options().get_application_name(), Some("x"));
        let database = parse("postgresql://u@h/b?options[search_path]=two").unwrap();
        assert_eq!(database.options().get_options(), Some("-c search_path=two"));
    }

    #[test]
    fn a_bad_url_is_explained_without_showing_it() {
        check("mysql://u:secret@h/b", ACCEPTED);
        check("secret", ACCEPTED);
        check("postgresql://u:secret@h:99999/b", "invalid port number");
        check("postgresql://u:sec#secret@h/b", "invalid port number");
        check("postgresql://u:secret@h/b?ssl=require", "sslmode");
        check("postgresql://u:p@h/b?sslpassword=secret", "sslmode");
        check("postgresql://u:secret@h/b?sslmode=perhaps", "perhaps");
    }
}
