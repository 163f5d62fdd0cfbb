use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::sqlstate::SqlState;
use crate::postgres::error::classify;

/// `code class name` in each line.
const EVERY_CODE: &str = include_str!("every_code.txt");

fn every_code() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = EVERY_CODE.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap(), words.next().unwrap())
    })
}

fn shown(class: ErrorClass) -> String {
    match class {
        ErrorClass::Retry(cause) => cause.name().to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_code_of_postgres_has_its_class() {
    let mut seen = BTreeSet::new();
    for (code, expected) in every_code() {
        let state = SqlState::parse(code).unwrap();
        assert_eq!(shown(classify_sqlstate(state, None)), expected, "{code}");
        assert!(seen.insert(code), "{code} is listed twice");
    }
    assert_eq!(seen.len(), 263, "260 of version 15, and 25P04, 10608 and 58P03");
}

#[test]
fn only_data_faults_blame_a_record() {
    let blamed: BTreeSet<_> =
        every_code().filter(|(_, class)| *class == "Record").map(|(code, _)| &code[..2]).collect();
    assert_eq!(blamed, BTreeSet::from(["22", "23", "54", "P0"]));
}

#[test]
fn only_a_stale_plan_needs_more_than_its_code() {
    let unsupported = SqlState::parse("0A000").unwrap();
    assert_eq!(classify_sqlstate(unsupported, Some("RevalidateCachedQuery")), ErrorClass::NewConnection);
    assert_eq!(classify_sqlstate(unsupported, Some("transformOnConflictClause")), ErrorClass::Operator);
}

#[test]
fn a_refusal_of_a_pooler_needs_an_operator_and_its_outage_does_not() {
    let check = |code, message, expected| assert_eq!(pooler_refuses(SqlState::parse(code).unwrap(), message), expected);
    check("08P01", "unsupported startup parameter: extra_float_digits", true);
    check("08P01", "unsupported startup parameter in options: search_path", true);
    check("08P01", "SASL authentication failed", true);
    check("08P01", "password authentication failed for user \"u\"", true);
    check("08P01", "database \"b\" does not exist", true);
    check("08P01", "server login has been failing, try again later (server_login_retry)", false);
    check("08P01", "query_wait_timeout", false);
    check("08P01", "no more connections allowed (max_client_conn)", false);
    check("42P01", "relation \"bookings\" does not exist", false);
}

#[test]
fn two_codes_may_succeed_in_a_retry() {
    let healing = every_code().map(|(code, _)| code).filter(|code| SqlState::parse(code).unwrap().may_heal());
    assert_eq!(healing.collect::<Vec<_>>(), ["23503", "P0001"]);
}

fn check(error: &sqlx::Error, expected: ErrorClass) {
    assert_eq!(classify(error), expected, "{error:?}");
}

#[test]
fn each_error_of_the_driver_has_its_class() {
    let io = || io::Error::from(io::ErrorKind::ConnectionReset);
    check(&sqlx::Error::Io(io()), ErrorClass::Retry(RetryCause::Connection));
    check(&sqlx::Error::Tls(Box::new(io())), ErrorClass::Retry(RetryCause::Connection));
    check(&sqlx::Error::Tls("certificate not trusted".into()), ErrorClass::Operator);
    check(&sqlx::Error::Protocol(String::new()), ErrorClass::NewConnection);
    check(&sqlx::Error::BeginFailed, ErrorClass::NewConnection);
    check(&sqlx::Error::PoolTimedOut, ErrorClass::Retry(RetryCause::Timeout));
    check(&sqlx::Error::Encode("too large".into()), ErrorClass::Record);
    check(&sqlx::Error::Configuration("no host".into()), ErrorClass::Operator);
    check(&sqlx::Error::TypeNotFound { type_name: "money".to_owned() }, ErrorClass::Operator);
    check(&sqlx::Error::ColumnNotFound("id".to_owned()), ErrorClass::Operator);
    check(&sqlx::Error::ColumnIndexOutOfBounds { index: 1, len: 1 }, ErrorClass::Operator);
    check(&sqlx::Error::ColumnDecode { index: "0".to_owned(), source: "null".into() }, ErrorClass::Operator);
    check(&sqlx::Error::Decode("null".into()), ErrorClass::Operator);
    check(&sqlx::Error::RowNotFound, ErrorClass::Unknown);
    check(&sqlx::Error::InvalidArgument(String::new()), ErrorClass::Unknown);
    check(&sqlx::Error::PoolClosed, ErrorClass::Unknown);
    check(&sqlx::Error::WorkerCrashed, ErrorClass::Unknown);
    check(&sqlx::Error::InvalidSavePointStatement, ErrorClass::Unknown);
    check(&sqlx::Error::AnyDriverError("other".into()), ErrorClass::Unknown);
}

#[test]
fn an_operation_without_records_blames_none() {
    for (code, _) in every_code() {
        let class = classify_sqlstate(SqlState::parse(code).unwrap(), None).without_a_record();
        assert!(!matches!(class, ErrorClass::Record | ErrorClass::Unknown | ErrorClass::TooSlow), "{code}");
    }
}

proptest! {
    #[test]
    fn a_code_is_five_digits_or_capitals(text in any::<String>()) {
        let legal = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        prop_assert_eq!(SqlState::parse(&text).map(|state| state.to_string()), legal.then_some(text));
    }

    #[test]
    fn an_undefined_code_is_unknown(code in "[6-9Q-W][0-9A-Z]{4}") {
        prop_assert_eq!(classify_sqlstate(SqlState::parse(&code).unwrap(), None), ErrorClass::Unknown);
    }
}
