//! The view `dead_letters_readable` shows any possible letter, and shows it unchanged.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::{PgConnection, Row as _};

use super::migrated;

async fn text(connection: &mut PgConnection, bytes: &[u8]) -> String {
    sqlx::query_scalar("select dead_letters_text($1)").bind(bytes).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn json_is_indented_and_otherwise_unchanged() {
    let mut connection = migrated().await;
    for (sent, expected) in [
        ("13", "13"),
        (" \"a\" ", "\"a\""),
        ("{}", "{}"),
        ("[ [ ] , { } ]", "[\n  [],\n  {}\n]"),
        (r#"{"a":1,"b":[true,null]}"#, "{\n  \"a\": 1,\n  \"b\": [\n    true,\n    null\n  ]\n}"),
        // jsonb would change or refuse these texts.
        (r#"{"id":"1","id":"2"}"#, "{\n  \"id\": \"1\",\n  \"id\": \"2\"\n}"),
        ("[-0,9e1,90.000,1e400000]", "[\n  -0,\n  9e1,\n  90.000,\n  1e400000\n]"),
        (r#"["\u0000","\ud800"," {[:,]} \"\\"]"#, "[\n  \"\\u0000\",\n  \"\\ud800\",\n  \" {[:,]} \\\"\\\\\"\n]"),
    ] {
        assert_eq!(text(&mut connection, sent.as_bytes()).await, expected);
    }
}

#[tokio::test]
async fn other_text_is_shown_unchanged_and_other_bytes_are_escaped() {
    let mut connection = migrated().await;
    for (sent, expected) in [
        (&b""[..], ""),
        (b"{\"id\": \"13\"", "{\"id\": \"13\""),
        (b"{} more", "{} more"),
        ("é\t\u{1b}[31m\u{10ffff}".as_bytes(), "é\t\u{1b}[31m\u{10ffff}"),
        (b"a\0b", "a\\000b"),
        (b"\xff{\\", "\\377{\\\\"),
        (b"\xed\xa0\x80", "\\355\\240\\200"),
    ] {
        assert_eq!(text(&mut connection, sent).await, expected);
    }
}

#[tokio::test]
async fn json_that_is_too_long_when_indented_is_shown_unchanged() {
    let mut connection = migrated().await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(text(&mut connection, nested(3).as_bytes()).await, "[\n  [\n    []\n  ]\n]");
    assert!(text(&mut connection, nested(100).as_bytes()).await.contains('\n'));
    for levels in [101, 4_000, 500_000] {
        assert_eq!(text(&mut connection, nested(levels).as_bytes()).await, nested(levels), "{levels} levels");
    }
    let large = format!("[{}0]", "0,".repeat(500_000));
    assert_eq!(text(&mut connection, large.as_bytes()).await, large);
    let no_text = vec![0xff; 1 << 20];
    assert_eq!(text(&mut connection, &no_text).await, "\\377".repeat(1 << 20));
}

#[test]
fn any_letter_is_readable() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connection = RefCell::new(runtime.block_on(migrated()));
    let bytes = || {
        prop_oneof![
            vec(any::<u8>(), 0..40),
            any::<String>().prop_map(String::into_bytes),
            // Nearly JSON, and sometimes JSON.
            "[\\[\\]{}:,\" \\\\0-9eE+.\\-untrfals\u{0}\u{e9}]{0,24}".prop_map(String::into_bytes),
            vec("[\\[{]\"[a-z\\\\\\[ ]{0,3}\"[:,]|-?[0-9]e[0-9]{1,7},|[ \n]|[\\]}]", 0..8)
                .prop_map(|parts| parts.concat().into_bytes()),
        ]
    };
    let times = prop_oneof![any::<i64>(), -1i64 << 48..1 << 54, -300_000_000_000_000i64..300_000_000_000_000];
    let letters = vec((option::of(times), option::of(bytes()), option::of(bytes())), 1..50);
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let proven = runner.run(&letters, |letters| {
        runtime.block_on(check(&mut connection.borrow_mut(), &letters));
        Ok(())
    });
    proven.unwrap();
}

type Letter = (Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);

async fn check(connection: &mut PgConnection, letters: &[Letter]) {
    let (times, (keys, values)): (Vec<_>, (Vec<_>, Vec<_>)) =
        letters.iter().cloned().map(|(time, key, value)| (time, (key, value))).unzip();
    sqlx::query("delete from dead_letters").execute(&mut *connection).await.unwrap();
    sqlx::query(
        r#"insert into dead_letters (id, group_id, topic, partition, "offset", digest, record_timestamp_ms, key, value,
                                     reason, detail, status)
           select gen_random_uuid(), 'group', 'topic', 0, place, sha256(''), time, key, value, 'not_json', '', 'parked'
           from unnest($1::bigint[], $2::bytea[], $3::bytea[]) with ordinality as letter (time, key, value, place)"#,
    )
    .bind(times)
    .bind(keys)
    .bind(values)
    .execute(&mut *connection)
    .await
    .unwrap();
    let rows = sqlx::query(
        r#"select key_text, value_text, (extract(epoch from record_timestamp) * 1000)::bigint as millis,
                  record_timestamp is null as timeless
           from dead_letters_readable order by "offset""#,
    )
    .fetch_all(connection)
    .await
    .unwrap();
    assert_eq!(rows.len(), letters.len());
    for ((time, key, value), row) in letters.iter().zip(rows) {
        assert_readable(key.as_deref(), row.get("key_text"));
        assert_readable(value.as_deref(), row.get("value_text"));
        // From Julian day 0 to the year 294276.
        let known = time.filter(|time| (-210_866_803_200_000..9_224_318_016_000_000).contains(time));
        assert_eq!(row.get::<Option<i64>, _>("millis"), known, "{time:?}");
        assert_eq!(row.get::<bool, _>("timeless"), known.is_none(), "{time:?}");
    }
}

fn assert_readable(bytes: Option<&[u8]>, shown: Option<&str>) {
    let (Some(bytes), Some(shown)) = (bytes, shown) else {
        assert_eq!(bytes.is_none(), shown.is_none());
        return;
    };
    match std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')) {
        Some(text) if shown != text => assert_eq!(without_spaces(shown), without_spaces(text)),
        Some(_) => {}
        None => assert_eq!(shown, escaped(bytes)),
    }
}

/// JSON without the white space between its tokens.
fn without_spaces(json: &str) -> String {
    let (mut inside, mut escape) = (false, false);
    let mut kept = String::new();
    for c in json.chars() {
        if inside || !c.is_ascii_whitespace() {
            kept.push(c);
        }
        inside ^= c == '"' && !escape;
        escape = inside && c == '\\' && !escape;
    }
    kept
}

/// The result of `encode(…, 'escape')` for some bytes.
fn escaped(bytes: &[u8]) -> String {
    let each = bytes.iter().map(|byte| match byte {
        0 | 0x80.. => format!("\\{byte:03o}"),
        b'\\' => "\\\\".to_owned(),
        other => char::from(*other).to_string(),
    });
    each.collect()
}
