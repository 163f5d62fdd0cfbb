//! The parameters of a URL: those of libpq, and the ones of other drivers that people have in their URLs. Pure.
//!
//! A parameter that asks for what the service does is accepted. Any other one is refused by name: an ignored `ssl=require`
//! would be a connection without TLS.

use std::{io, net::IpAddr, path::Path, time::Duration};

use fenced_sink::TargetSession;
use url::form_urlencoded;

use super::UrlFault;

const TARGETS: [TargetSession; 6] = [
    TargetSession::Any,
    TargetSession::ReadWrite,
    TargetSession::ReadOnly,
    TargetSession::Primary,
    TargetSession::Standby,
    TargetSession::PreferStandby,
];
const TLS_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// A longer value of a parameter that names a file can be the file's content, which may be a key.
const LONGEST_PATH: usize = 150;

/// Variables of libpq whose value is checked as the parameter of this name, if the URL does not have the parameter.
const VARIABLES: [(&str, &str); 8] = [
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
];

/// What the parameters of a URL say.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// `host` or `hostaddr`, each with the lists that are given. `SQLAlchemy` repeats `host`.
    pub(super) hosts: Vec<String>,
    /// `port`.
    pub(super) ports: Option<String>,
    /// `PGPORT`.
    pub(super) ports_of_variable: Option<String>,
    /// Whether `hosts` are those of `hostaddr`.
    pub(super) has_address: bool,
    /// `target_session_attrs`.
    pub(super) target: Option<TargetSession>,
    /// `connect_timeout`; `None`: not given, or no limit.
    pub(super) connect_timeout: Option<Duration>,
    /// Whether there is a `user`.
    pub(super) has_user: bool,
    /// Whether the URL names a certificate authority.
    pub(super) has_root_certificate: bool,
    /// The parameters that sqlx reads.
    pub(super) for_sqlx: Vec<(String, String)>,
}

/// One parameter, or the variable that stands for it.
struct Given {
    name: String,
    value: String,
    variable: Option<&'static str>,
}

impl Given {
    /// A fault of this parameter. Its value may be a secret.
    fn fault(&self, accepted: impl Into<String>) -> UrlFault {
        let given = match self.variable {
            Some(variable) => format!("{variable} in the environment"),
            None => format!("{}=…", self.name),
        };
        UrlFault { given: Some(given), accepted: accepted.into() }
    }

    /// A fault of a parameter that takes certain words. A word is no secret.
    fn fault_of_value(&self, accepted: impl Into<String>) -> UrlFault {
        let fault = self.fault(accepted);
        let is_word =
            self.value.len() <= 20 && self.value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        match self.variable {
            None if is_word => UrlFault { given: Some(format!("{}={}", self.name, self.value)), ..fault },
            _ => fault,
        }
    }
}

impl Parameters {
    /// Reads the parameters of a URL, and the variables of libpq that stand for parameters.
    pub(super) fn parse(
        query: &str,
        variable: &impl Fn(&str) -> Option<String>,
        read_file: &impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, UrlFault> {
        if query.split('&').any(|part| !part.is_empty() && !part.contains('=')) {
            return Err("parameters as name=value, separated by &".into());
        }
        let of_url = form_urlencoded::parse(query.as_bytes());
        let mut all: Vec<Given> = of_url
            .map(|(name, value)| Given {
                name: name_in_libpq(&name).to_owned(),
                value: value.into_owned(),
                variable: None,
            })
            .collect();
        for (variable_name, name) in VARIABLES {
            let value = variable(variable_name).filter(|_| all.iter().all(|given| given.name != name));
            all.extend(value.map(|value| Given { name: name.to_owned(), value, variable: Some(variable_name) }));
        }
        let mut parameters = Self::default();
        let mut addresses = Vec::new();
        for given in &all {
            let value = given.value.as_str();
            match given.name.as_str() {
                "host" => parameters.hosts.push(value.to_owned()),
                "hostaddr" if value.split(',').any(|address| address.parse::<IpAddr>().is_err()) => {
                    return Err(given.fault("hostaddr=IP-ADDRESS, or host=NAME"));
                }
                "hostaddr" => addresses.push(value.to_owned()),
                "port" => parameters.ports = Some(value.to_owned()),
                "connect_timeout" => {
                    let seconds: i32 = value.parse().map_err(|_| given.fault("connect_timeout=SECONDS"))?;
                    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
                    parameters.connect_timeout = seconds.map(Duration::from_secs);
                }
                "target_session_attrs" => {
                    let target = TARGETS.into_iter().find(|target| target.name() == value);
                    let names = || format!("target_session_attrs={}", one_of(&TARGETS.map(TargetSession::name)));
                    parameters.target = Some(target.ok_or_else(|| given.fault_of_value(names()))?);
                }
                "sslmode" if !TLS_MODES.iter().any(|mode| mode.eq_ignore_ascii_case(value)) => {
                    return Err(given.fault_of_value(format!("sslmode={}", one_of(TLS_MODES))));
                }
                "sslrootcert" if value == "system" && given.variable.is_none() => {}
                "sslrootcert" | "sslcert" | "sslkey" => {
                    check_file(given, read_file)?;
                    parameters.has_root_certificate |= given.name == "sslrootcert";
                    parameters.pass(given);
                }
                "statement-cache-capacity" if value.parse::<usize>().is_err() => {
                    return Err(given.fault_of_value("statement-cache-capacity=NUMBER"));
                }
                "sslmode"
                | "statement-cache-capacity"
                | "dbname"
                | "user"
                | "password"
                | "application_name"
                | "options" => {
                    parameters.pass(given);
                }
                name if name.starts_with("options[") && name.ends_with(']') => parameters.pass(given),
                "fallback_application_name" => {
                    if all.iter().all(|other| other.name != "application_name") {
                        parameters.for_sqlx.push(("application_name".to_owned(), value.to_owned()));
                    }
                }
                name => check_other(given, name)?,
            }
        }
        if !addresses.is_empty() {
            parameters.hosts = addresses;
            parameters.has_address = true;
        }
        parameters.ports_of_variable = variable("PGPORT").filter(|ports| !ports.is_empty());
        parameters.has_user = all.iter().any(|given| given.name == "user" && !given.value.is_empty());
        parameters.check_tls(&all)?;
        Ok(parameters)
    }

    /// sqlx reads the variables by itself.
    fn pass(&mut self, given: &Given) {
        if given.variable.is_none() {
            self.for_sqlx.push((given.name.clone(), given.value.clone()));
        }
    }

    /// The rules about several parameters of TLS.
    fn check_tls(&mut self, all: &[Given]) -> Result<(), UrlFault> {
        let find = |name: &str| all.iter().rfind(|given| given.name == name);
        match (find("sslcert"), find("sslkey")) {
            (Some(alone), None) | (None, Some(alone)) => return Err(alone.fault("sslcert and sslkey together")),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if find("sslrootcert").is_some_and(|given| given.value == "system" && given.variable.is_none()) {
            match find("sslmode") {
                None => self.for_sqlx.push(("sslmode".to_owned(), "verify-full".to_owned())),
                Some(mode) if !mode.value.eq_ignore_ascii_case("verify-full") => {
                    return Err(mode.fault_of_value("sslmode=verify-full with sslrootcert=system"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// sqlx has more names for some parameters.
fn name_in_libpq(name: &str) -> &str {
    match name {
        "ssl-mode" => "sslmode",
        "ssl-root-cert" | "ssl-ca" => "sslrootcert",
        "ssl-cert" => "sslcert",
        "ssl-key" => "sslkey",
        other => other,
    }
}

/// Finds a file of the wrong kind now, because a later error of the connection does not name the file.
fn check_file(given: &Given, read_file: &impl Fn(&Path) -> io::Result<String>) -> Result<(), UrlFault> {
    let Given { name, value, variable } = given;
    // As in sqlx, a variable can have the content of the file. It must not be shown, and no text that can be one.
    if variable.is_some() && value.trim_start().starts_with("-----BEGIN") {
        return Ok(());
    }
    if value.contains("-----BEGIN") || value.len() > LONGEST_PATH {
        return Err(given.fault(format!("{name}=FILE, the path of a file, not its content")));
    }
    let wrong = |accepted: String| UrlFault { given: Some(format!("{}={value}", variable.unwrap_or(name))), accepted };
    let content = read_file(Path::new(value)).map_err(|error| wrong(format!("a file that can be read: {error}")))?;
    let certificates = content.matches("-----BEGIN CERTIFICATE-----").count();
    match (name.as_str(), certificates) {
        // sqlx knows no other form of a key.
        ("sslkey", _) if !content.starts_with("-----BEGIN PRIVATE KEY-----") => Err(wrong(
            "a file that begins with -----BEGIN PRIVATE KEY-----; to convert a key: openssl pkcs8 -topk8 -nocrypt -in OLD \
             -out NEW"
                .to_owned(),
        )),
        ("sslrootcert" | "sslcert", 0) => {
            Err(wrong("a file with a certificate: a line -----BEGIN CERTIFICATE----- and so on".to_owned()))
        }
        // sqlx would use the first one only.
        ("sslrootcert", 2..) => Err(wrong(format!(
            "a file with one certificate; this one has {certificates}: set SSL_CERT_FILE in the environment to it, and \
             leave sslrootcert out"
        ))),
        _ => Ok(()),
    }
}

/// A parameter that neither sqlx nor this module uses.
fn check_other(given: &Given, name: &str) -> Result<(), UrlFault> {
    if let Some((values, reason)) = accepted_values(name) {
        if values.iter().any(|value| value.eq_ignore_ascii_case(&given.value)) {
            return Ok(());
        }
        return Err(given.fault_of_value(format!("{name}={}, {reason}", one_of(values))));
    }
    if name == "ssl" {
        let mode = TLS_MODES.iter().find(|mode| **mode == given.value).unwrap_or(&"require");
        return Err(given.fault_of_value(format!("sslmode={mode} instead")));
    }
    if let Some(instead) = instead(name) {
        return Err(given.fault(instead));
    }
    let is_name = name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let accepted = "a URL without this parameter: the service does not know it";
    Err(if is_name { given.fault(accepted) } else { accepted.into() })
}

/// Parameters of libpq without an effect on this service: the values that ask for what it does, and the reason why no other
/// value is accepted.
fn accepted_values(name: &str) -> Option<(&'static [&'static str], &'static str)> {
    Some(match name {
        "channel_binding" => (
            &["prefer", "disable"],
            "because the service has no channel binding; sslmode=verify-full checks the server, too",
        ),
        "sslnegotiation" => (&["postgres"], "because the service asks the server for TLS first"),
        "gssencmode" => (&["prefer", "disable"], "because the service has no GSSAPI"),
        "gssdelegation" => (&["0"], "because the service has no GSSAPI"),
        "sslcompression" => (&["0"], "because TLS without compression is safer"),
        "sslcertmode" => (&["allow"], "because the service sends a certificate if sslcert names one"),
        "sslsni" => (&["1"], "because the service sends the name of the host"),
        "ssl_min_protocol_version" => (&["TLSv1.2"], "because the service accepts TLS 1.2 and later"),
        "min_protocol_version" | "max_protocol_version" => (&["3.0"], "because the service has no other version"),
        "client_encoding" => (&["utf8", "utf-8"], "because the service sends and receives UTF-8"),
        "keepalives" => {
            (&["0"], "because only the server sends keepalives: set options=-c%20tcp_keepalives_idle%3DSECONDS")
        }
        "replication" => (&["false", "off", "no", "0"], "because the service reads and writes tables"),
        "load_balance_hosts" => (&["disable"], "because the hosts are tried in their order"),
        _ => return None,
    })
}

/// What to write instead of a parameter, of libpq or of another driver.
fn instead(name: &str) -> Option<&'static str> {
    Some(match name {
        "keepalives_idle" => "options=-c%20tcp_keepalives_idle%3DSECONDS instead: the server sends keepalives",
        "keepalives_interval" => "options=-c%20tcp_keepalives_interval%3DSECONDS instead: the server sends keepalives",
        "keepalives_count" => "options=-c%20tcp_keepalives_count%3DNUMBER instead: the server sends keepalives",
        "tcp_user_timeout" | "command_timeout" | "statement_timeout" | "socketTimeout" => {
            "the setting DATABASE_TIMEOUT instead"
        }
        "timeout" | "connectTimeout" | "loginTimeout" => "connect_timeout=SECONDS instead",
        "passfile" => "the variable PGPASSFILE instead",
        "sslpassword" => "a key without a password",
        "sslcrl" | "sslcrldir" => "a URL without it: the service reads no revocation list",
        "require_auth" => "a URL without it: demand the method in pg_hba.conf of the server",
        "requirepeer" => "a URL without it: the service does not ask who owns the socket",
        "service" | "servicefile" => "host, port, user and database in the URL instead",
        "requiressl" => "sslmode=require instead",
        "prepared_statement_cache_size" | "statement_cache_size" => "statement-cache-capacity=NUMBER instead",
        "ApplicationName" => "application_name=NAME instead",
        "currentSchema" | "search_path" | "schema" => "options=-c%20search_path%3DNAME instead",
        "targetServerType" => "target_session_attrs=primary instead, or another of its values",
        "pool_size" | "max_overflow" | "min_size" | "max_size" | "connection_limit" => "the setting WRITERS instead",
        _ => return None,
    })
}

fn one_of(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.join(""),
    }
}
