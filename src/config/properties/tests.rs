use super::*;
use crate::config::tests::{settings, settings_with_files};

fn check_entries(text: &str, expected: &[&str]) {
    assert_eq!(entries(text), expected, "{text:?}");
}

#[test]
fn entries_are_separated_by_lines_or_by_commas() {
    check_entries("", &[]);
    check_entries("a.b=1", &["a.b=1"]);
    check_entries("a.b=1,c.d=2,", &["a.b=1", "c.d=2"]);
    check_entries("# why\na.b=1\n\n  c.d=2\r\n", &["a.b=1", "c.d=2"]);
    check_entries("client.id=a,b,c.d=2", &["client.id=a,b", "c.d=2"]);
    check_entries("sasl.password=x,y.z=1\nc.d=2", &["sasl.password=x,y.z=1", "c.d=2"]);
}

#[test]
fn properties_in_one_value_show_no_secret() {
    let file = |text: &'static str| {
        settings_with_files(|raw| raw.kafka_properties_file = Some("f".to_owned()), move |_| Ok(text.to_owned()))
    };
    let error = file("security.protocol=sasl_ssl,sasl.password=s3cret").unwrap_err().to_string();
    assert!(error.contains("entry 1 has several") && !error.contains("s3cret"), "{error}");
    assert_eq!(file("sasl.password=a,x=1").unwrap().kafka_properties.get("sasl.password"), Some("a,x=1"));

    let settings = settings(|raw| raw.kafka_properties = Some("acks=1;sasl.password=s3cret".to_owned())).unwrap();
    let error = "acks: Invalid value \"1;sasl.password=s3cret\"";
    assert_eq!(settings.kafka_properties.without_secrets(error), "acks: Invalid value \"(hidden)\"");
    let error = file("enable.auto.commit=true;sasl.password=s3cret").unwrap_err().to_string();
    assert!(!error.contains("s3cret"), "{error}");
}

fn check_refused(property: &str, reason: &str) {
    let faults = settings(|raw| raw.kafka_properties = Some(property.to_owned())).unwrap_err().to_string();
    assert!(faults.contains(reason), "{property} gave {faults}");
}

#[test]
fn a_property_that_would_break_the_guarantee_is_refused_by_name() {
    for (name, ..) in GUARANTEED {
        check_refused(&format!("{name}=other"), name);
        check_refused(&format!("topic.{name}=other"), name);
    }
    for (name, _) in REFUSED {
        check_refused(&format!("{name}=x"), name);
    }
    check_refused("auto.offset.reset=latest", "see KAFKA_START");
    check_refused("debug=cgrp,topic", "LOG_LEVEL=DEBUG");
    check_refused("log_level=7", "use LOG_LEVEL");
    check_refused("group.protocol=Consumer,session.timeout.ms=1", "the broker sets it");
    check_refused("a.b=1,a.b=2", "a.b is given twice");
    check_refused("s3cret", "entry 1 has no =");
    check_refused("ssl.ca.location=/no/such.pem", "given \"ssl.ca.location=/no/such.pem\"");
}

#[test]
fn our_own_value_is_accepted() {
    let given = GUARANTEED.map(|(name, value, _)| format!("{name}={value}")).join(",");
    assert!(settings(|raw| raw.kafka_properties = Some(given)).is_ok());
}

fn check_final(given: &str, expected: &[(&str, Option<&str>)]) {
    let settings = settings(|raw| raw.kafka_properties = Some(given.to_owned())).unwrap();
    let all = consumer_properties(&settings);
    for (name, value) in expected {
        assert_eq!(all.get(name), *value, "{name} with {given:?}");
    }
}

#[test]
fn guaranteed_properties_are_fixed_and_the_user_may_change_the_others() {
    check_final(
        "fetch.wait.max.ms=5,security.protocol=ssl",
        &[
            ("enable.auto.commit", Some("false")),
            ("enable.auto.offset.store", Some("false")),
            ("auto.offset.reset", Some("error")),
            ("isolation.level", Some("read_committed")),
            ("partition.assignment.strategy", Some("cooperative-sticky")),
            ("check.crcs", Some("true")),
            ("bootstrap.servers", Some("localhost:9092")),
            ("group.id", Some("booking-history-service")),
            ("session.timeout.ms", Some("10000")),
            ("heartbeat.interval.ms", Some("1000")),
            ("topic.metadata.refresh.interval.ms", Some("10000")),
            ("fetch.wait.max.ms", Some("5")),
            ("queued.max.messages.kbytes", Some("512")),
            ("fetch.max.bytes", Some("2097152")),
            ("security.protocol", Some("ssl")),
        ],
    );
}

#[test]
fn our_properties_do_not_contradict_those_of_the_user() {
    check_final("reconnect.backoff.ms=2000", &[("reconnect.backoff.max.ms", None)]);
    check_final("message.max.bytes=20000000", &[("fetch.max.bytes", None)]);
    check_final("fetch.max.bytes=1,message.max.bytes=1000", &[("fetch.max.bytes", Some("1"))]);
    check_final("fetch.message.max.bytes=20000000", &[("fetch.max.bytes", Some("2097152"))]);
    check_final(
        "max.partition.fetch.bytes=7000",
        &[("fetch.message.max.bytes", None), ("max.partition.fetch.bytes", Some("7000"))],
    );
}

#[test]
fn the_new_group_protocol_drops_the_properties_that_the_broker_sets() {
    check_final(
        "group.protocol=consumer,group.remote.assignor=uniform",
        &[
            ("partition.assignment.strategy", None),
            ("session.timeout.ms", None),
            ("heartbeat.interval.ms", None),
            ("group.protocol", Some("consumer")),
            ("group.remote.assignor", Some("uniform")),
            ("enable.auto.commit", Some("false")),
        ],
    );
}

#[test]
fn secrets_come_from_a_file_and_are_never_shown() {
    let change = |raw: &mut RawSettings| {
        raw.kafka_properties = Some("sasl.username=me".to_owned());
        raw.kafka_properties_file = Some("/secret".to_owned());
    };
    let settings = settings_with_files(change, |_| Ok("sasl.password=s3cret,a=b\r\n".to_owned())).unwrap();
    assert_eq!(consumer_properties(&settings).get("sasl.password"), Some("s3cret,a=b"));
    let shown = format!("{settings:?} {:?}", consumer_properties(&settings));
    assert!(shown.contains("(hidden)") && !shown.contains("s3cret"), "{shown}");
}
