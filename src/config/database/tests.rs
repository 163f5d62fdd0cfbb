use super::*;
use proptest::prelude::*;

/// Files with a certificate, a key, and something else.
fn read_file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/ca.pem" | "/cert.pem") => Ok("# our CA\n-----BEGIN CERTIFICATE-----\n".to_owned()),
        Some("/key.pem") => Ok("-----BEGIN PRIVATE KEY-----\n".to_owned()),
        Some("/old-key.pem") => Ok("-----BEGIN RSA PRIVATE KEY-----\nsecret\n".to_owned()),
        Some("/bundle.pem") => Ok("-----BEGIN CERTIFICATE-----\n".repeat(2)),
        Some("/empty.pem") => Ok(String::new()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn parsed(url: &str) -> Result<Database, UrlFault> {
    parse(url, &|_| None, &read_file)
}

fn shown(parsed: Result<Database, UrlFault>) -> String {
    match parsed {
        Ok(database) => format!("{database:?}"),
        Err(UrlFault { given: Some(given), accepted }) => format!("{given}: {accepted}"),
        Err(UrlFault { given: None, accepted }) => accepted,
    }
}

fn check(url: &str, expected: &str) {
    let shown = shown(parsed(url));
    assert!(shown.contains(expected), "{url} gave {shown}, not {expected}");
    assert!(!shown.contains("secret"), "{url} gave {shown}");
}

#[test]
fn a_driver_in_the_scheme_is_dropped() {
    check("postgresql+asyncpg://u:secret@db:5434/b", "Database(db:5434/b as u, any)");
    check("postgres://u:secret@db/b", "Database(db:5432/b as u, any)");
    check("postgres://u:p%40%2F%3Fsecret@db/b", "Database(db:5432/b as u, any)");
}

#[test]
fn several_hosts_are_tried_in_their_order_and_the_one_that_can_write_is_taken() {
    check("postgresql://u:p@db-0,db-1:5433/b", "Database(db-0:5432,db-1:5433/b as u, read-write)");
    check("postgresql://u:p@/b?host=a,b&port=1,2", "Database(a:1,b:2/b as u, read-write)");
    check("postgresql://u:p@/b?host=a,b&port=6432", "Database(a:6432,b:6432/b as u, read-write)");
    check("postgresql://u:p@/b?host=a:1&host=b:2&host=c", "Database(a:1,b:2,c:5432/b as u, read-write)");
    check("postgresql://u:p@x:7/b?host=a,b", "Database(a:7,b:7/b as u, read-write)");
    check(
        "postgresql://u:p@x/b?hostaddr=10.0.0.1,::1&port=,5433",
        "Database(10.0.0.1:5432,[::1]:5433/b as u, read-write)",
    );
    check("postgresql://u:p@a,b/b?port=1,2,3", "one for each host");
    check("postgresql://u:p@a:1,b:2/b?host=c,d,e", "one for each host");
    for target in ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] {
        check(&format!("postgresql://u:p@a,b/b?target_session_attrs={target}"), &format!("b:5432/b as u, {target})"));
    }
    check("postgresql://u:p@a/b?target_session_attrs=read-write", "Database(a:5432/b as u, read-write)");
    check(
        "postgresql://u:p@a/b?target_session_attrs=master",
        "target_session_attrs=master: target_session_attrs=any, ",
    );
}

#[test]
fn a_url_without_a_host_has_the_default_hosts() {
    let address = |host: &str, port| ServerAddress { host: host.to_owned(), port };
    let chosen = |authority, default| hosts::choose(authority, &Parameters::default(), default).unwrap();
    assert_eq!(chosen("", "/run/postgresql"), [address("/run/postgresql", None)]);
    assert_eq!(chosen(":5433", "a,b"), [address("a", Some(5433)), address("b", Some(5433))], "of PGHOST");
}

#[test]
fn addresses_of_ipv6_lose_their_brackets() {
    check("postgresql://u:p@[::1]:5433/b", "Database([::1]:5433/b as u, any)");
    assert_eq!(parsed("postgresql://u:p@[::1]/b").unwrap().servers().iter().next().unwrap().get_host(), "::1");
    check("postgresql://u:p@[fe80::1%25eth0],[::2]:1/b", "Database([fe80::1%eth0]:5432,[::2]:1/b as u, read-write)");
    check("postgresql://u:p@/b?host=::1", "Database([::1]:5432/b as u, any)");
    check("postgresql://u:p@[db]/b", "hosts as NAME:PORT");
    check("postgresql://u:p@[::1/b", "hosts as NAME:PORT");
    check("postgresql://u:p@::1/b", "hosts as NAME:PORT");
}

#[test]
fn a_socket_is_a_directory_in_any_of_its_forms() {
    for url in [
        "postgresql+asyncpg://u:secret@/b?host=/run/pg&port=5433",
        "postgresql+asyncpg://u:secret@:5433/b?host=/run/pg",
        "postgresql://u:secret@%2Frun%2Fpg:5433/b",
        "postgresql://u:secret@localhost:5433/b?host=%2Frun%2Fpg",
        "postgresql:///b?host=/run/pg&port=5433&user=u",
        "postgresql:///?host=/run/pg&port=5433&user=u&dbname=b&sslmode=verify-full",
    ] {
        check(url, "Database(/run/pg:5433/b as u, any)");
        let database = parsed(url).unwrap();
        let server = database.servers().iter().next().unwrap();
        assert_eq!(server.get_socket().unwrap(), Path::new("/run/pg"));
        assert!(matches!(server.get_ssl_mode(), PgSslMode::Disable), "as in libpq");
    }
    check("postgresql://u:p@%2Frun%2Fpg,db/b", "Database(/run/pg:5432,db:5432/b as u, read-write)");
}

#[test]
fn a_directory_of_a_socket_can_have_colons() {
    for url in [
        "postgresql://u:p@/b?host=/cloudsql/proj:region:inst",
        "postgresql://u:p@localhost/b?host=/cloudsql/proj:region:inst",
        "postgresql://u:p@%2Fcloudsql%2Fproj%3Aregion%3Ainst/b",
        "postgresql://u:p@%2Fcloudsql%2Fproj%3Aregion%3Ainst:5432/b",
    ] {
        check(url, "Database(/cloudsql/proj:region:inst:5432/b as u, any)");
        let database = parsed(url).unwrap();
        let socket = database.servers().iter().next().unwrap().get_socket().cloned();
        assert_eq!(socket.unwrap(), Path::new("/cloudsql/proj:region:inst"));
    }
    let of_variable = hosts::choose("", &Parameters::default(), "/cloudsql/p:r:i").unwrap();
    assert_eq!(of_variable, [ServerAddress { host: "/cloudsql/p:r:i".to_owned(), port: None }], "of PGHOST");
}

#[test]
fn a_host_is_never_cut() {
    check("postgresql://u:p@h=x:1/b", "Database(h=x:1/b as u, any)");
    check("postgresql://u:p@h&x+y:1/b", "Database(h&x+y:1/b as u, any)");
    check("postgresql://u:p@h%20h/b", "hosts as NAME:PORT");
    check("postgresql://u:p@h%3A1/b", "hosts as NAME:PORT");
    check("postgresql://u:p@h%ff/b", "hosts as NAME:PORT");
}

#[test]
fn the_ports_of_a_variable_are_for_a_url_without_ports() {
    let check = |url: &str, default: &str, expected: &str| {
        let hosts = url.split_once('?').unwrap_or((url, ""));
        let variable = |asked: &str| (asked == "PGPORT").then(|| "1,2".to_owned());
        let parameters = Parameters::parse(hosts.1, &variable, &read_file).unwrap();
        let chosen = hosts::choose(hosts.0, &parameters, default).map(|servers| {
            let shown = servers.iter().map(|server| format!("{}:{}", server.host, server.port.unwrap_or(5432)));
            shown.collect::<Vec<_>>().join(",")
        });
        let chosen = chosen.unwrap_or_else(|fault| format!("{}: {}", fault.given.unwrap_or_default(), fault.accepted));
        assert!(chosen.contains(expected), "{url} gave {chosen}, not {expected}");
    };
    check("", "a,b", "a:1,b:2");
    check("c,d", "a,b", "c:1,d:2");
    check("?host=c,d", "a,b", "c:1,d:2");
    check("c:3,d", "a,b", "c:3,d:5432");
    check("c,d?port=3", "a,b", "c:3,d:3");
    check("?port=3,4", "a,b", "a:3,b:4");
    check(":3", "a,b", "a:3,b:3");
    check("c", "a,b", "PGPORT in the environment: ports from 1 to 65535, one for each host");
}

#[test]
fn the_content_of_a_key_is_never_shown() {
    for value in
        ["-----BEGIN%20PRIVATE%20KEY-----%0Asecret", "%22-----BEGIN%20PRIVATE%20KEY-----", &"secret".repeat(40)]
    {
        for name in ["sslrootcert", "sslcert", "sslkey"] {
            check(&format!("postgresql://u:p@h/b?{name}={value}"), &format!("{name}=…: {name}=FILE, the path"));
        }
    }
    let variable = |asked: &str| (asked == "PGSSLKEY").then(|| "'-----BEGIN PRIVATE KEY-----secret'".to_owned());
    let shown = shown(parse("postgresql://u:p@h/b", &variable, &read_file));
    assert!(shown.starts_with("PGSSLKEY in the environment: sslkey=FILE"), "{shown}");
}

#[test]
fn a_certificate_is_not_compared_with_the_address_of_a_named_host() {
    let verified = "postgresql://u:p@db/b?hostaddr=10.0.0.1&sslmode=verify-full";
    check(verified, "hostaddr=…: host=NAME with sslmode=verify-full");
    check("postgresql://u:p@/b?hostaddr=10.0.0.1&sslrootcert=system", "hostaddr=…: host=NAME");
    check("postgresql://u:p@db/b?hostaddr=10.0.0.1&sslmode=verify-ca", "Database(10.0.0.1:5432/b as u, any)");
    check("postgresql://u:p@/b?host=10.0.0.1&sslmode=verify-full", "Database(10.0.0.1:5432/b as u, any)");
}

#[test]
fn options_reach_every_connection() {
    let options = |url: &str| -> Vec<_> {
        let servers = parsed(url).unwrap().servers().clone();
        let of = |server: &PgConnectOptions| {
            let options = server.get_options().unwrap_or_default().to_owned();
            (options, server.get_application_name().unwrap_or_default().to_owned())
        };
        servers.iter().map(of).collect()
    };
    let expected = |options: &str, name: &str| (options.to_owned(), name.to_owned());
    let found = options("postgresql://u@h,i/b?options=-c%20search_path%3Done&application_name=x");
    assert_eq!(found, [expected("-c search_path=one", "x"), expected("-c search_path=one", "x")]);
    let found = options("postgresql://u@h/b?options[search_path]=two&fallback_application_name=y");
    assert_eq!(found, [expected("-c search_path=two", "y")]);
    assert_eq!(options("postgresql://u@h/b"), [expected("", "booking-history")]);
}

#[test]
fn a_parameter_that_asks_for_what_the_service_does_is_accepted() {
    for parameter in [
        "channel_binding=prefer",
        "channel_binding=disable",
        "sslnegotiation=postgres",
        "gssencmode=prefer",
        "gssencmode=disable",
        "connect_timeout=10",
        "connect_timeout=0",
        "connect_timeout=-1",
        "client_encoding=UTF8",
        "keepalives=0",
        "sslcompression=0",
        "sslsni=1",
        "ssl_min_protocol_version=TLSv1.2",
        "load_balance_hosts=disable",
        "replication=false",
        "statement-cache-capacity=50",
        "sslmode=Verify-Full",
        "ssl-mode=disable",
        "sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/cert.pem&sslkey=/key.pem",
        "sslrootcert=system",
        "",
        "&",
    ] {
        check(&format!("postgresql://u:secret@h/b?{parameter}"), "Database(h:5432/b as u, any)");
    }
}

#[test]
fn every_other_parameter_is_refused_by_name_with_what_to_write_instead() {
    for (parameter, expected) in [
        ("ssl=require", "ssl=require: sslmode=require instead"),
        ("ssl=verify-full", "ssl=verify-full: sslmode=verify-full instead"),
        ("ssl=true", "ssl=true: sslmode=require instead"),
        ("sslmode=perhaps", "sslmode=perhaps: sslmode=disable, allow, prefer, require, verify-ca or verify-full"),
        ("channel_binding=require", "channel_binding=require: channel_binding=prefer or disable, because "),
        ("sslnegotiation=direct", "sslnegotiation=direct: sslnegotiation=postgres, because"),
        ("gssencmode=require", "gssencmode=require: "),
        ("connect_timeout=10s", "connect_timeout=…: connect_timeout=SECONDS"),
        ("keepalives_idle=30", "keepalives_idle=…: options=-c%20tcp_keepalives_idle%3DSECONDS instead"),
        ("sslpassword=secret", "sslpassword=…: a key without a password"),
        ("passfile=/x", "passfile=…: the variable PGPASSFILE"),
        ("command_timeout=60", "command_timeout=…: the setting DATABASE_TIMEOUT instead"),
        ("prepared_statement_cache_size=0", "prepared_statement_cache_size=…: statement-cache-capacity=NUMBER"),
        ("statement-cache-capacity=all", "statement-cache-capacity=all: statement-cache-capacity=NUMBER"),
        ("currentSchema=s", "currentSchema=…: options=-c%20search_path%3DNAME instead"),
        ("sslcert=/cert.pem", "sslcert=…: sslcert and sslkey together"),
        ("sslkey=/key.pem", "sslkey=…: sslcert and sslkey together"),
        ("sslrootcert=system&sslmode=require", "sslmode=require: sslmode=verify-full with sslrootcert=system"),
        ("sslrootcert=/none.pem", "sslrootcert=/none.pem: a file that can be read: entity not found"),
        ("sslrootcert=/empty.pem", "sslrootcert=/empty.pem: a file with a certificate"),
        ("sslrootcert=/bundle.pem", "sslrootcert=/bundle.pem: a file with one certificate; this one has 2"),
        (
            "sslcert=/cert.pem&sslkey=/old-key.pem",
            "sslkey=/old-key.pem: a file that begins with -----BEGIN PRIVATE KEY",
        ),
        ("hostaddr=db", "hostaddr=…: hostaddr=IP-ADDRESS, or host=NAME"),
        ("frobnicate=secret", "frobnicate=…: a URL without this parameter"),
        ("a%20secret=1", "a URL without this parameter"),
        ("secret", "parameters as name=value"),
    ] {
        check(&format!("postgresql://u:p@h/b?{parameter}"), expected);
    }
}

#[test]
fn a_certificate_authority_makes_require_check_the_certificate() {
    let mode = |parameters: &str| {
        let database = parsed(&format!("postgresql://u:p@h/b?{parameters}")).unwrap();
        format!("{:?}", database.servers().iter().next().unwrap().get_ssl_mode())
    };
    assert_eq!(mode("sslmode=require"), "Require");
    assert_eq!(mode("sslmode=require&sslrootcert=/ca.pem"), "VerifyCa");
    assert_eq!(mode("sslmode=allow"), "Prefer", "sqlx would never use TLS");
    assert_eq!(mode("sslrootcert=system"), "VerifyFull");
    assert_eq!(mode("sslmode=disable"), "Disable");
}

#[test]
fn a_bad_url_is_explained_without_showing_it() {
    check("mysql://u:secret@h/b", ACCEPTED);
    check("secret", ACCEPTED);
    check("postgresql://u:secret@h:99999/b", "ports from 1 to 65535");
    check("postgresql://u:secret@h:0/b", "ports from 1 to 65535");
    check("postgresql://u:secret@h h/b", "hosts as NAME:PORT");
    // Passwords that are not encoded.
    check("postgresql://u:sec#secret@h/b", "encoded, as %2F %3F %23 and %40");
    check("postgresql://u:5/secret@h/b", "encoded, as %2F %3F %23 and %40");
    check("postgresql://u:5?secret@h/b", "encoded, as %2F %3F %23 and %40");
    check("postgresql://u:5?secret=1@h/b", "encoded, as %2F %3F %23 and %40");
    check("postgresql://u:secret@x?secret@h/b", "encoded, as %2F %3F %23 and %40");
}

#[test]
fn a_url_needs_a_user() {
    check("postgresql://h/b", "a URL with a user");
    check("postgresql://:secret@h/b", "a URL with a user");
    check("postgresql://h/b?user=", "a URL with a user");
    check("postgresql://h/b?user=me", "Database(h:5432/b as me, any)");
    check("postgresql://anonymous@h/b", "Database(h:5432/b as anonymous, any)");
}

#[test]
fn a_variable_of_libpq_stands_for_the_parameter_that_the_url_does_not_have() {
    let check = |name: &'static str, value: &str, parameters: &str, expected: &str| {
        let variable = |asked: &str| (asked == name).then(|| value.to_owned());
        let shown = shown(parse(&format!("postgresql://u:secret@h/b?{parameters}"), &variable, &read_file));
        assert!(shown.contains(expected), "{name}={value} gave {shown}");
    };
    check("PGPORT", "none", "", "PGPORT in the environment: ports from 1 to 65535");
    check("PGSSLMODE", "verify_full", "", "PGSSLMODE in the environment: sslmode=disable, ");
    check("PGSSLMODE", "verify_full", "sslmode=verify-full", "Database(h:5432/b as u, any)");
    check("PGCHANNELBINDING", "require", "", "PGCHANNELBINDING in the environment: channel_binding=prefer");
    check("PGSSLROOTCERT", "/none.pem", "", "PGSSLROOTCERT=/none.pem: a file that can be read: entity not found");
    check("PGSSLROOTCERT", "/ca.pem", "", "Database(h:5432/b as u, any)");
    check("PGTARGETSESSIONATTRS", "standby", "", "Database(h:5432/b as u, standby)");
    check("PGTARGETSESSIONATTRS", "standby", "target_session_attrs=any", "Database(h:5432/b as u, any)");
}

proptest! {
    #[test]
    fn no_url_is_a_panic_or_shows_its_password(
        password in "[a-z/?#@:&=%,.]{0,12}",
        hosts in "[a-z0-9:,/@%.\\[\\]]{0,12}",
        query in "[a-z=&%,/:]{0,20}",
    ) {
        let shown = shown(parsed(&format!("postgresql://u:{password}SECRET@{hosts}/b?{query}")));
        prop_assert!(!shown.contains("SECRET"), "{shown}");
    }
}
