use clap::Parser;
use fenced_sink::StartPolicy;
use proptest::prelude::*;

use super::*;

/// The settings without a command.
#[derive(Parser)]
struct SettingsOnly {
    #[command(flatten)]
    raw: RawSettings,
}

/// The defaults with one change, and without files.
pub(super) fn settings(change: impl FnOnce(&mut RawSettings)) -> Result<Settings, ConfigFaults> {
    settings_with_files(change, |_| Err(io::ErrorKind::NotFound.into()))
}

pub(super) fn settings_with_files(
    change: impl FnOnce(&mut RawSettings),
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Settings, ConfigFaults> {
    let command = <SettingsOnly as clap::CommandFactory>::command().mut_args(|arg| arg.env(None::<&str>));
    let matches = command.try_get_matches_from(["booking-history"]).unwrap();
    let mut raw = <SettingsOnly as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().raw;
    change(&mut raw);
    Settings::from_raw(&raw, read_file)
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = settings(|_| ()).unwrap();
    assert_eq!(settings.database.to_string(), "localhost:5434/booking_history as postgres");
    assert_eq!(settings.kafka_topic, "booking-events");
    assert_eq!(settings.kafka_start, StartPolicy::Earliest);
    assert_eq!(settings.log_level.directives(), "warn,booking_history=info,fenced_sink=info");
    assert_eq!(settings.batch_max_bytes.get(), 8 * 1024 * 1024);
    assert_eq!(settings.buffer_max_bytes.get(), 16 * 1024 * 1024);
    assert_eq!(settings.database_timeout, Duration::from_secs(30));
    assert_eq!(settings.retry_initial, Duration::from_millis(100));
}

#[test]
fn every_bad_value_is_reported_at_once_and_no_secret_is_shown() {
    let faults = settings(|raw| {
        raw.database_url = "postgresql://u:s3cret@h:port/b".to_owned();
        raw.kafka_topic = "^all".to_owned();
        raw.log_level = "loud".to_owned();
        raw.kafka_start = "newest".to_owned();
        raw.kafka_properties = Some("auto.offset.reset=latest\nsasl.password s3cret".to_owned());
        raw.writers = "0".to_owned();
        raw.batch_max_bytes = "8 bananas".to_owned();
        raw.database_timeout = "30".to_owned();
        raw.retry_initial = "1m".to_owned();
        raw.http_addr = "localhost".to_owned();
    })
    .unwrap_err();
    let named: Vec<_> = faults.iter().map(|fault| fault.setting).collect();
    assert_eq!(
        named,
        [
            "DATABASE_URL",
            "KAFKA_TOPIC",
            "LOG_LEVEL",
            "KAFKA_START",
            "KAFKA_PROPERTIES",
            "KAFKA_PROPERTIES",
            "WRITERS",
            "BATCH_MAX_BYTES",
            "DATABASE_TIMEOUT",
            "RETRY_INITIAL",
            "HTTP_ADDR"
        ]
    );
    let text = faults.to_string();
    assert!(text.contains(r#"KAFKA_START: given "newest", accepted: earliest, latest or fail"#), "{text}");
    assert!(text.contains("at most RETRY_MAX, 30s"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn the_url_may_come_from_a_file_but_not_from_both() {
    let read = |_: &Path| Ok("postgresql://u:p@elsewhere/b\n".to_owned());
    let from_file = |raw: &mut RawSettings| raw.database_url_file = Some("/run/secrets/url".to_owned());
    let settings = settings_with_files(from_file, read).unwrap();
    assert_eq!(settings.database.to_string(), "elsewhere:5432/b as u");

    let both = |raw: &mut RawSettings| {
        from_file(raw);
        raw.database_url = "postgresql://u:p@h/b".to_owned();
    };
    let faults = settings_with_files(both, read).unwrap_err().to_string();
    assert!(faults.contains("give one of the two"), "{faults}");
}

fn check_level(given: &str, expected: Option<&str>) {
    let found = settings(|raw| raw.log_level = given.to_owned()).ok();
    assert_eq!(found.as_ref().map(|settings| settings.log_level.directives()), expected, "{given}");
}

#[test]
fn levels_have_the_names_of_python_and_of_tracing() {
    check_level("Warning", Some("warn"));
    check_level("CRITICAL", Some("error"));
    check_level("debug", Some("warn,booking_history=debug,fenced_sink=debug"));
    check_level("info,sqlx=debug", Some("info,sqlx=debug"));
    check_level("info, ୟ=debug", Some("info,ୟ=debug"));
    check_level("fenced_sink::pipeline=TRACE", Some("fenced_sink::pipeline=TRACE"));
    check_level("info, booking_history=debug", Some("info,booking_history=debug,fenced_sink=debug"));
    check_level("booking_history=debug,fenced_sink=warn", Some("booking_history=debug,fenced_sink=warn"));
    check_level("verbose", None);
    check_level("info,verbose", None);
    check_level("sqlx=loud", None);
    check_level("", None);
}

fn check_address(given: &str, accepted: bool) {
    assert_eq!(settings(|raw| raw.http_addr = given.to_owned()).is_ok(), accepted, "{given}");
}

#[test]
fn an_http_address_has_an_ip_address_and_a_port_or_is_empty() {
    assert_eq!(settings(|_| ()).unwrap().http_addr, Some(([127, 0, 0, 1], 8080).into()));
    assert_eq!(settings(|raw| raw.http_addr = String::new()).unwrap().http_addr, None);
    check_address("0.0.0.0:80", true);
    check_address("[::]:8080", true);
    check_address("127.0.0.1:0", true);
    check_address("127.0.0.1", false);
    check_address(":8080", false);
    check_address("localhost:8080", false);
    check_address("127.0.0.1:70000", false);
}

fn servers(given: &str, properties: &str) -> Result<String, String> {
    let change = |raw: &mut RawSettings| {
        raw.kafka_bootstrap_servers = given.to_owned();
        raw.kafka_properties = Some(properties.to_owned());
    };
    settings(change).map(|settings| settings.kafka_bootstrap_servers).map_err(|faults| faults.to_string())
}

#[test]
fn servers_are_hosts_with_ports() {
    let accepted = ["localhost:9092", "a_b.example:1,c", "127.0.0.1:9092", "[::1]:9092", "[fe80::1%eth0]:1,[::1]"];
    for given in accepted {
        assert_eq!(servers(given, ""), Ok(given.to_owned()));
    }
    assert_eq!(servers("a:1 , b:2", ""), Ok("a:1,b:2".to_owned()), "librdkafka would keep the blank in the name");
    let refused = [
        "", ",", "a:1,,b:2", "a:0", "a:65536", "a:-1", "a:", ":9092", "a:port", "::1", "[::1", "[a]:1", "a b:1",
        "a:1/b", "a/b", "a:1?x=y", "a:1:2", "ä:1", "\"a:1\"",
    ];
    for given in refused {
        let error = servers(given, "").unwrap_err();
        assert!(error.contains("KAFKA_BOOTSTRAP_SERVERS: given") && error.contains("host:port"), "{given}: {error}");
    }
}

#[test]
fn a_protocol_before_a_server_is_accepted_only_if_librdkafka_uses_it() {
    let (tls, sasl_tls) = ("security.protocol=ssl", "security.protocol=sasl_ssl");
    assert!(servers("PLAINTEXT://a:1,b:2", "").is_ok());
    assert!(servers("ssl://a:1", tls).is_ok());
    assert!(servers("SASL_SSL://a:1", sasl_tls).is_ok());
    for (given, properties, hint) in [
        ("kafka://a:1", "", None),
        ("tcp://a:1", "", None),
        ("PLAINTEXT://a:1", tls, None),
        ("://a:1", "", None),
        ("kafka+ssl://a:1,kafka+ssl://b:2", "", Some(tls)),
        ("a:1,SSL://b:2", "", Some(tls)),
        ("https://a:443/path", "", Some(tls)),
        ("SASL_SSL://a:1", tls, Some(sasl_tls)),
    ] {
        let error = servers(given, properties).unwrap_err();
        assert!(error.contains("host:port, separated by commas, without protocol"), "{error}");
        assert_eq!(error.contains("; for TLS"), hint.is_some(), "{error}");
        assert!(error.contains(hint.unwrap_or_default()), "{error}");
    }
    let with_password = servers("kafka+ssl://user:s3cret@a:1", "").unwrap_err();
    assert!(!with_password.contains("s3cret"), "{with_password}");
}

#[test]
fn words_are_accepted_in_any_case() {
    let change = |raw: &mut RawSettings| {
        raw.log_format = "JSON".to_owned();
        raw.kafka_start = "Latest".to_owned();
        raw.kafka_gap_policy = "SKIP".to_owned();
    };
    let settings = settings(change).unwrap();
    let found = (settings.log_format, settings.kafka_start, settings.kafka_gap_policy);
    assert_eq!(found, (LogFormat::Json, StartPolicy::Latest, GapPolicy::Skip));
}

fn check_dotenv(text: &str, expected: Option<&str>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".env");
    std::fs::write(&path, text).unwrap();
    let found = load_dotenv(&path).map_err(|faults| faults.to_string()).err();
    match expected {
        None => assert_eq!(found, None),
        Some(expected) => assert!(found.as_ref().is_some_and(|text| text.contains(expected)), "{found:?}"),
    }
    assert!(!found.unwrap_or_default().contains("s3cret"));
}

/// The layouts that python-dotenv accepts: read with the same value, or refused by name.
#[test]
fn an_env_file_of_the_python_service_is_read_or_refused_by_name() {
    let read = |line: &str| dotenv::variables(line);
    for (line, value) in [
        ("KAFKA_TOPIC=bookings\r\n", "bookings"),
        ("\u{feff}KAFKA_TOPIC=bookings", "bookings"),
        ("export KAFKA_TOPIC=bookings", "bookings"),
        ("  export   KAFKA_TOPIC = \"bookings\"  # comment\r\n", "bookings"),
        ("KAFKA_TOPIC='a # b $c'\r\n# comment\r\n\r\n", "a # b $c"),
        ("KAFKA_TOPIC=bookings # comment", "bookings"),
        ("KAFKA_TOPIC=bookings#1", "bookings#1"),
        ("KAFKA_TOPIC=", ""),
        ("KAFKA_TOPIC=\"a\nb\"", "a\nb"),
        ("KAFKA_TOPIC=\"a\\\\b\"", "a\\b"),
        ("KAFKA_TOPIC='a\\b' # it's", "a\\b"),
        ("KAFKA_TOPIC=a${BOOKING_HISTORY_TEST}b", "ab"),
    ] {
        assert_eq!(read(line), Ok(vec![("KAFKA_TOPIC".to_owned(), value.to_owned())]), "{line:?}");
    }
    for (lines, expected) in [
        ("KAFKA_TOPIC=two words", "the line of KAFKA_TOPIC can't be read"),
        ("KAFKA_TOPIC='open\r\nWRITERS=2\r\n", "the line of KAFKA_TOPIC can't be read"),
        ("WRITERS=2\nKAFKA_TOPIC", "line 2 is another one"),
        ("KAFKA_TOPIC: bookings", "line 1 is another one"),
        ("DATABASE_URL=postgresql://u:s3$cret@h/d", "the value of DATABASE_URL in single quotes"),
        ("DATABASE_URL=\"postgresql://u:s3cret$$@h/d\"", "the value of DATABASE_URL in single quotes"),
        ("WRITERS=s3cret\nWRITERS=2", "each name once; WRITERS is there twice"),
        ("database_url=s3cret", "DATABASE_URL in upper case"),
        ("DATABASE_URL=postgresql://u:s3cret\\\\@h/d", "the value of DATABASE_URL without a backslash"),
        ("DATABASE_URL=\"s3cret\\$b\"", "the value of DATABASE_URL "),
        ("DATABASE_URL='s3cret\\\\b'", "the value of DATABASE_URL without a backslash"),
        ("DATABASE_URL=s3cret\"b\"", "the value of DATABASE_URL without a backslash"),
        ("DATABASE_URL='s3cret${HOST}'", "the value of DATABASE_URL without a backslash"),
        ("DATABASE_URL=\"s3cret\"b", "the value of DATABASE_URL without a backslash"),
        ("KAFKA_TOPIC=two words # comment", "the line of KAFKA_TOPIC can't be read"),
        ("DATABASE_URL=s3cret${HOST:-localhost}", "the value of DATABASE_URL without a backslash"),
    ] {
        let error = read(lines).unwrap_err();
        assert!(error.contains(expected) && !error.contains("cret"), "{lines:?}: {error}");
    }
}

/// Docker's `--env-file` keeps quotes, and the end of a Windows line, as a part of the value.
#[test]
fn a_name_with_quotes_or_with_the_end_of_a_windows_line_is_refused() {
    for value in ["\"bookings\"", "'bookings'", "bookings\r"] {
        let error = settings(|raw| {
            raw.kafka_topic = value.to_owned();
            raw.kafka_group_id = value.to_owned();
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("KAFKA_TOPIC: given") && error.contains("KAFKA_GROUP_ID: given"), "{value:?}: {error}");
    }
    for url in ["\"postgresql://u:s3cret@h/d\"", "'postgresql://u:s3cret@h/d'"] {
        let error = settings(|raw| raw.database_url = url.to_owned()).unwrap_err().to_string();
        assert!(error.contains("DATABASE_URL: given") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn the_error_of_a_malformed_env_file_shows_no_value() {
    check_dotenv("# nothing\n", None);
    check_dotenv("BOOKING_HISTORY_TEST='s3cret\n", Some("the line of BOOKING_HISTORY_TEST can't be read"));
    check_dotenv("# s3cret\n\ns3cret\n", Some("line 3 is another one"));
    check_dotenv("A=b\nexport BOOKING_HISTORY_TEST=FOO=s3cret word\n", Some("the line of BOOKING_HISTORY_TEST"));
    assert_eq!(load_dotenv(Path::new("/nowhere/.env")), Ok(()));
}

proptest! {
    #[test]
    fn no_text_makes_the_settings_panic(text in any::<String>()) {
        let result = settings(|raw| {
            raw.database_url.clone_from(&text);
            raw.kafka_bootstrap_servers.clone_from(&text);
            raw.log_level.clone_from(&text);
            raw.kafka_properties = Some(text.clone());
            raw.batch_max_bytes.clone_from(&text);
            raw.retry_max.clone_from(&text);
        });
        prop_assert!(result.is_err());
    }

    #[test]
    fn sizes_and_times_are_exact(size in 1_u32..=256, millis in 1_u32..=30_000) {
        let settings = settings(|raw| {
            raw.batch_max_bytes = format!("{size}MiB");
            raw.retry_initial = format!("{millis}ms");
        }).unwrap();
        prop_assert_eq!(settings.batch_max_bytes.get(), usize::try_from(size).unwrap() << 20);
        prop_assert_eq!(settings.retry_initial, Duration::from_millis(millis.into()));
    }
}
