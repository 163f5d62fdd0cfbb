//! `dead-letters list` and `show`, by the built program.

use serde_json::{Value, json};

use testbed::postgres::database;
use testbed::scene::Scene;
use testbed::topic::Topic;

const PARKED: &str = "0198a1c4-0000-7000-8000-000000000001";
const WAITING: &str = "0198a1c4-0000-7000-8000-000000000002";
const RESOLVED: &str = "0198a1c4-0000-7000-8000-000000000003";
const STRANGE: &str = "0198a1c4-0000-7000-8000-000000000004";
const ELSEWHERE: &str = "0198a1c4-0000-7000-8000-000000000005";

/// Four letters of our group and topic, and one of another topic.
const LETTERS: &str = r#"
    insert into dead_letters (id, group_id, topic, partition, "offset", digest, record_timestamp_ms, timestamp_type,
                              key, value, headers, reason, field, detail, sqlstate, constraint_name, status, attempts,
                              next_attempt_at, first_failed_at, last_failed_at, resolved_at, resolved_by, note)
    values
        ('0198a1c4-0000-7000-8000-000000000001', 'group', 'topic', 0, 41, sha256('1'), 1771166254859, 'create_time',
         '13', '{"event_type":"BookingCreated","data":{"price":9.999}}',
         '[{"name": "trace", "value": "abc"}, {"name": "trace", "value": null}, {"name": "raw", "base64": "/wA="}]',
         'invalid_value', 'data.price', 'has more than 2 digits after the point', null, null, 'parked', 1, null,
         '2026-02-15 14:37:35.123456Z', '2026-02-15 14:37:35.123456Z', null, null, null),
        ('0198a1c4-0000-7000-8000-000000000002', 'group', 'topic', 1, 7, sha256('2'), null, null, null, null, '[]',
         'database_rejected', null, 'refused', '23503', 'booking_history_hotel', 'waiting', 2, 'infinity',
         '2026-02-15 15:00:00Z', '2026-02-15 15:00:01Z', null, null, null),
        ('0198a1c4-0000-7000-8000-000000000003', 'group', 'topic', 1, 8, sha256('3'), null, null, null, 'x', '[]',
         'not_json', null, 'is not JSON', null, null, 'resolved', 1, null,
         '2026-02-15 16:00:00Z', '2026-02-15 16:00:00Z', '2026-02-16 09:00:00Z', 'ann', 'by hand'),
        ('0198a1c4-0000-7000-8000-000000000004', 'group', 'topic', 2, 9223372036854775807, sha256('4'),
         -9223372036854775808, 'log_append_time', '\xff00', E'\\x1b5b324a', '[{"name_base64": "/g==", "value": "v"}]',
         'not_json', null, 'is not JSON', null, null, 'discarded', 1, null,
         '2026-02-15 17:00:00Z', '2026-02-15 17:00:00Z', '2026-02-16 09:00:00Z', E'a\nb', E'\x1b[31m'),
        ('0198a1c4-0000-7000-8000-000000000005', 'group', 'other', 0, 0, sha256('5'), null, null, null, null, '[]',
         'tombstone', null, 'has no value', null, null, 'parked', 1, null, now(), now(), null, null, null);
    insert into dead_letter_attempts (dead_letter_id, attempt, at, outcome, detail)
    select id, 1, first_failed_at, 'failed', detail from dead_letters;
    insert into dead_letter_attempts (dead_letter_id, attempt, at, outcome)
    select id, 2, resolved_at, 'duplicate' from dead_letters where status = 'resolved'"#;

/// A database with these letters.
async fn letters() -> Scene {
    let scene = scene(database().await);
    scene.migrate();
    scene.execute(LETTERS).await;
    scene
}

/// The group and the topic of the letters, in this database. These commands do not use Kafka.
fn scene(url: String) -> Scene {
    Scene::between(Topic::at("127.0.0.1:1".to_owned(), "topic"), url).with_group("group")
}

fn run(arguments: &str, scene: &Scene) -> (i32, Vec<String>) {
    scene.finish(&format!("dead-letters {arguments}"))
}

fn printed(arguments: &str, scene: &Scene) -> Vec<String> {
    let (code, lines) = run(arguments, scene);
    assert_eq!(code, 0, "{lines:#?}");
    lines
}

fn objects(arguments: &str, scene: &Scene) -> Vec<Value> {
    let lines = printed(&format!("{arguments} --output json 2>&-"), scene);
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn list_prints_the_letters_of_its_group_and_topic_in_columns() {
    let scene = letters().await;
    assert_eq!(
        printed("list", &scene),
        [
            "id                                    partition  offset               reason             field       status     attempts  first_failed_at       next_attempt_at",
            "0198a1c4-0000-7000-8000-000000000004  2          9223372036854775807  not_json                       discarded  1         2026-02-15T17:00:00Z",
            "0198a1c4-0000-7000-8000-000000000003  1          8                    not_json                       resolved   1         2026-02-15T16:00:00Z",
            "0198a1c4-0000-7000-8000-000000000002  1          7                    database_rejected              waiting    2         2026-02-15T15:00:00Z  infinity",
            "0198a1c4-0000-7000-8000-000000000001  0          41                   invalid_value      data.price  parked     1         2026-02-15T14:37:35Z",
        ]
    );
}

#[tokio::test]
async fn list_applies_its_filters() {
    let scene = letters().await;
    for (filters, expected) in [
        ("", &[STRANGE, RESOLVED, WAITING, PARKED][..]),
        ("--status parked", &[PARKED]),
        ("--reason not_json", &[STRANGE, RESOLVED]),
        ("--reason not_json --status resolved", &[RESOLVED]),
        ("--partition 1", &[RESOLVED, WAITING]),
        ("--since 2026-02-15T16:00:00Z", &[STRANGE, RESOLVED]),
        ("--since 2026-02-15T18:00:00.000001+02:00", &[STRANGE]),
        ("--limit 2", &[STRANGE, RESOLVED]),
        ("--limit 4", &[STRANGE, RESOLVED, WAITING, PARKED]),
        ("--kafka-topic other", &[ELSEWHERE]),
        ("--kafka-group-id other", &[]),
    ] {
        let found: Vec<Value> =
            objects(&format!("list {filters}"), &scene).iter_mut().map(|letter| letter["id"].take()).collect();
        assert_eq!(found, expected, "{filters}");
    }
    let remark = printed("list --limit 2 --output json 2>&1 >/dev/null", &scene);
    assert_eq!(remark, ["these are the newest 2; a larger --limit shows more"]);
    assert_eq!(printed("list --limit 4 2>&1 >/dev/null", &scene), [""; 0]);
    for output in ["table", "json"] {
        let list = format!("list --reason tombstone --output {output}");
        assert_eq!(printed(&format!("{list} 2>&-"), &scene), [""; 0]);
        assert_eq!(printed(&format!("{list} >&-"), &scene), ["no such dead letters of group group and topic topic"]);
    }
}

#[tokio::test]
async fn list_prints_one_json_object_per_line() {
    let scene = letters().await;
    assert_eq!(
        objects("list --status waiting", &scene),
        [json!({
            "id": WAITING, "group_id": "group", "topic": "topic", "partition": 1, "offset": 7,
            "record_timestamp_ms": null, "timestamp_type": null, "reason": "database_rejected", "field": null,
            "detail": "refused", "sqlstate": "23503", "constraint_name": "booking_history_hotel", "status": "waiting",
            "attempts": 2, "next_attempt_at": "infinity", "first_failed_at": "2026-02-15T15:00:00.000000Z",
            "last_failed_at": "2026-02-15T15:00:01.000000Z", "corrected_at": null, "resolved_at": null,
            "resolved_by": null, "note": null
        })]
    );
}

#[tokio::test]
async fn show_prints_one_complete_letter() {
    let scene = letters().await;
    let expected = "\
id               0198a1c4-0000-7000-8000-000000000001
group_id         group
topic            topic
partition        0
offset           41
timestamp        2026-02-15T14:37:34.859Z
timestamp_type   create_time
digest           6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b
reason           invalid_value
field            data.price
detail           has more than 2 digits after the point
status           parked
attempts         1
first_failed_at  2026-02-15T14:37:35.123456Z
last_failed_at   2026-02-15T14:37:35.123456Z

headers:
  trace: abc
  trace (null)
  raw: base64 /wA=

key:
  13

value:
  {
    \"event_type\": \"BookingCreated\",
    \"data\": {
      \"price\": 9.999
    }
  }

history:
  attempt  at                           outcome  detail
  1        2026-02-15T14:37:35.123456Z  failed   has more than 2 digits after the point

in psql:
  select * from dead_letters_correct('0198a1c4-0000-7000-8000-000000000001', convert_to('{…}', 'UTF8'));
  select * from dead_letters_requeue('{0198a1c4-0000-7000-8000-000000000001}');
  select * from dead_letters_discard('{0198a1c4-0000-7000-8000-000000000001}', 'why');";
    assert_eq!(printed(&format!("show {PARKED}"), &scene), expected.lines().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_statements_that_show_prints_can_be_executed() {
    let scene = letters().await;
    let mut connection = scene.connect().await;
    let lines = printed(&format!("show {PARKED}"), &scene);
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| line.starts_with("select")).collect();
    for (line, expected) in lines.iter().zip(["corrected", "requeued", "discarded"]) {
        let call = sqlx::AssertSqlSafe(line.trim_end_matches(';'));
        let (_, outcome): (uuid::Uuid, String) = sqlx::query_as(call).fetch_one(&mut connection).await.unwrap();
        assert!(outcome.starts_with(expected), "{outcome}");
    }
    assert_eq!(lines.len(), 3);
    let text = printed(&format!("show {PARKED}"), &scene).join("\n");
    assert!(text.contains("value:\n  {…}\n\noriginal_value:\n  {\n"), "{text}");
    assert!(text.contains("resolved_by      postgres\nnote             why"), "{text}");
}

#[tokio::test]
async fn show_prints_no_control_character_of_a_letter() {
    let scene = letters().await;
    let text = printed(&format!("show {STRANGE}"), &scene).join("\n");
    for line in [
        "timestamp        -9223372036854775808 ms",
        "resolved_by      a\\nb",
        "note             \\u{1b}[31m",
        "headers:\n  base64 /g==: v",
        "key:\n  \\377\\000",
        "value:\n  \\u{1b}[2J",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let text = printed(&format!("show {RESOLVED}"), &scene).join("\n");
    assert!(text.contains("headers: none\n\nkey: none\n\nvalue:\n  x\n") && !text.contains("in psql"), "{text}");
    assert!(text.contains("  2        2026-02-16T09:00:00.000000Z  duplicate"), "{text}");
}

#[tokio::test]
async fn show_prints_the_exact_bytes_as_json() {
    let scene = letters().await;
    let [letter] = objects(&format!("show {STRANGE}"), &scene).try_into().unwrap();
    let digest = "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a";
    assert_eq!(
        letter,
        json!({
            "id": STRANGE, "group_id": "group", "topic": "topic", "partition": 2, "offset": i64::MAX,
            "record_timestamp_ms": i64::MIN, "timestamp_type": "log_append_time", "reason": "not_json", "field": null,
            "detail": "is not JSON", "sqlstate": null, "constraint_name": null, "status": "discarded", "attempts": 1,
            "next_attempt_at": null, "first_failed_at": "2026-02-15T17:00:00.000000Z",
            "last_failed_at": "2026-02-15T17:00:00.000000Z", "corrected_at": null,
            "resolved_at": "2026-02-16T09:00:00.000000Z", "resolved_by": "a\nb", "note": "\u{1b}[31m",
            "digest": digest, "key": null, "key_base64": "/wA=", "value": "\u{1b}[2J", "value_base64": null,
            "original_value": null, "original_value_base64": null,
            "headers": [{"name_base64": "/g==", "value": "v"}],
            "history": [{"attempt": 1, "at": "2026-02-15T17:00:00.000000Z", "outcome": "failed", "detail": "is not JSON"}]
        })
    );
}

#[tokio::test]
async fn an_unknown_letter_a_wrong_argument_and_a_missing_table_have_their_exit_codes() {
    let scene = letters().await;
    for unknown in [ELSEWHERE, "0198a1c4-0000-7000-8000-00000000000f"] {
        for output in ["", "--output json"] {
            let (code, lines) = run(&format!("show {unknown} {output}"), &scene);
            let expected = format!("error: there is no dead letter {unknown} of group group and topic topic");
            assert_eq!((code, lines), (1, vec![expected]));
        }
    }
    for wrong in ["", "show", "show 13", "list --status lost", "list --reason x", "list --since now", "list --limit 0"]
    {
        assert_eq!(run(wrong, &scene).0, 2, "{wrong}");
    }
    let empty = self::scene(database().await);
    let (code, lines) = run("list", &empty);
    assert_eq!((code, lines.len()), (69, 1), "{lines:#?}");
    assert!(lines[0].contains("run `booking-history migrate up`"), "{lines:#?}");
    empty.migrate();
    assert_eq!(run("list", &empty).0, 0);
}

#[tokio::test]
async fn the_commands_need_only_the_privilege_to_read() {
    let scene = letters().await;
    let grants = "create role reader login password 'reader'; grant select on all tables in schema public to reader";
    scene.execute(grants).await;
    let (_, place) = scene.database.split_once('@').unwrap();
    let url = format!("postgresql://reader:reader@{place}");
    let scene = scene.with_database(url);
    assert_eq!(printed("list", &scene).len(), 5);
    assert_eq!(objects(&format!("show {WAITING}"), &scene).len(), 1);
}
