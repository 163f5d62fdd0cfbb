//! Each kind of damage on its own.

use super::{VerifyOutput, read_all, scene, verify};
use testbed::scene::Scene;
use testbed::topic::Outgoing;
use testbed::workload::booking;

/// Damages the tables, verifies, and restores all of them.
pub async fn and_undo(scene: &Scene, damage: &str, check: impl FnOnce(VerifyOutput)) {
    const TABLES: [&str; 4] = ["booking_history", "dead_letters", "dead_letter_attempts", "consumer_offsets"];
    for table in TABLES {
        scene.execute(&format!("create table kept_{table} as table {table}")).await;
    }
    scene.execute(damage).await;
    check(verify(scene, ""));
    scene.execute("truncate booking_history, dead_letters, dead_letter_attempts, consumer_offsets").await;
    for table in TABLES {
        scene
            .execute(&format!(
                "insert into {table} overriding system value table kept_{table}; drop table kept_{table}"
            ))
            .await;
    }
}

/// The damage; the finding, its partition and offset, its booking, and the text of its detail.
type Damage = (String, &'static str, (i64, i64), Option<&'static str>, &'static str);

#[tokio::test]
async fn each_kind_of_damage_is_named_exactly() {
    let scene = scene(2).await;
    let promo = |code: &str| booking("promo", "5").replace("\"promo_code\":null", &format!("\"promo_code\":{code}"));
    let sent = [
        Outgoing::to(0, booking("a", "90.0")),
        Outgoing::to(0, booking("b", "90.10")),
        Outgoing::to(0, booking("a", "90")),
        Outgoing::to(0, booking("a", "91")),
        Outgoing {
            key: Some(b"key".to_vec()),
            headers: vec![("trace".to_owned(), Some(vec![0xff])), ("trace".to_owned(), None)],
            timestamp: Some(1_771_166_254_859),
            ..Outgoing::to(1, "poison")
        },
        Outgoing { partition: Some(1), ..Outgoing::default() },
        Outgoing::to(1, r#"{"event_type":"BookingCancelled"}"#),
        Outgoing::to(1, promo("\"\"")),
        Outgoing::to(
            1,
            promo("\"\"").replace("\"promo\"", "\"promo2\"").replace("\"promo_code\":\"\"", "\"promo_code\":null"),
        ),
    ];
    let records = sent.len();
    scene.send(sent).await;
    read_all(&scene).await;
    verify(&scene, "").assert_clean(records);

    let row = |what: &str| format!("update booking_history set {what}");
    let letter = |what: &str| format!("update dead_letters set {what} where partition = 1 and \"offset\" = 0");
    let (altered, missing) = ("altered", "missing");
    let cases: Vec<Damage> = vec![
        ("delete from booking_history where booking_id = 'b'".into(), missing, (0, 1), Some("b"), "no row"),
        (row("price = price + 0.01 where booking_id = 'b'"), altered, (0, 1), Some("b"), "has other content"),
        (row("discount_percent = 2.51 where booking_id = 'b'"), altered, (0, 1), Some("b"), "other content"),
        (row("user_id = 'user-B' where booking_id = 'b'"), altered, (0, 1), Some("b"), "other content"),
        (row("hotel_id = 'hotel-1 ' where booking_id = 'b'"), altered, (0, 1), Some("b"), "other content"),
        (
            row("created_at = created_at + interval '1 microsecond' where booking_id = 'b'"),
            altered,
            (0, 1),
            Some("b"),
            "",
        ),
        (row("promo_code = null where booking_id = 'promo'"), altered, (1, 3), Some("promo"), "other content"),
        (row("promo_code = '' where booking_id = 'promo2'"), altered, (1, 4), Some("promo2"), "other content"),
        ("delete from dead_letters where partition = 0".into(), altered, (0, 3), Some("a"), "no dead letter"),
        ("delete from dead_letters where partition = 1 and \"offset\" = 0".into(), missing, (1, 0), None, "not_json"),
        ("delete from dead_letters where partition = 1 and \"offset\" = 1".into(), missing, (1, 1), None, "tombstone"),
        (letter("value = 'Poison'"), altered, (1, 0), None, "another value"),
        (letter("value = null"), altered, (1, 0), None, "another value"),
        (letter("key = 'kez'"), altered, (1, 0), None, "another key"),
        (letter("headers = headers - 1"), altered, (1, 0), None, "another headers"),
        (letter("record_timestamp_ms = record_timestamp_ms + 1"), altered, (1, 0), None, "another record_timestamp_ms"),
        (letter("timestamp_type = 'log_append_time'"), altered, (1, 0), None, "another timestamp_type"),
        (letter("digest = decode(repeat('00', 32), 'hex')"), missing, (1, 0), None, "no dead letter"),
        (letter("group_id = 'another'"), missing, (1, 0), None, "no dead letter"),
    ];
    for (damage, what, place, id, detail) in cases {
        and_undo(&scene, &damage, |output| output.assert_one(what, Some(place), id, detail)).await;
    }
    for column in ["stored", "duplicates", "ignored", "dead_lettered"] {
        let damage = format!("update consumer_offsets set {column} = {column} + 1 where partition = 0");
        and_undo(&scene, &damage, |output| output.assert_one("total", Some((0, -1)), None, column)).await;
    }
    let moved = "update consumer_offsets set stored = stored - 1, ignored = ignored + 1 where partition = 1";
    and_undo(&scene, moved, |output| output.assert_one("total", Some((1, -1)), None, "ignored is 2, the log has 1"))
        .await;
    let added = "insert into booking_history (id, booking_id, user_id, hotel_id, discount_percent, price, created_at)
                 values (1000000, 'forged', 'u', 'h', 0, 1, '2026-02-15T14:37:34Z')";
    and_undo(&scene, added, |output| output.assert_one("extra", None, Some("forged"), "row 1000000")).await;
    // The booking has a duplicate, so two records differ from its row.
    and_undo(&scene, "update booking_history set price = 90.01 where booking_id = 'a'", |output| {
        let found = |offset| ("altered".to_owned(), Some(0), Some(offset), Some("a".to_owned()));
        assert_eq!((output.code, output.findings.as_slice()), (1, &[found(0), found(2)][..]), "{output:#?}");
    })
    .await;
    verify(&scene, "").assert_clean(records);

    // The table shows the same.
    scene.execute("delete from booking_history where booking_id = 'b'").await;
    let (code, lines) = scene.finish("verify");
    assert_eq!(code, 1, "{lines:#?}");
    let wanted = [
        "finding  partition  offset      booking_id            detail",
        "missing  0          1           b                     there is no row of it, and no dead letter",
        "9 records compared, 1 finding",
        "error: the tables differ from the topic: 1 finding",
    ];
    assert_eq!(lines, wanted);
}
