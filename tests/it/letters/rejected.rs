//! Records that `PostgreSQL` refuses.

use super::{CONTENT, letters};
use testbed::scene::Scene;
use testbed::workload::{Workload, booking};

/// An operator adds a rule to the table that refuses the bookings whose id begins with `bad`. They become letters, and
/// all others are stored.
async fn refused_by_postgres(rule: &str, sqlstate: Option<&str>, constraint: Option<&str>) {
    let scene = Scene::new(2).await;
    scene.execute(rule).await;
    let mut workload = Workload::default();
    let mut bad = Vec::new();
    for index in 0..400 {
        let partition = i32::from(index % 3 == 0);
        if matches!(index, 3 | 4 | 77 | 390) {
            let id = format!("bad-{index}");
            workload.add(partition, Some(booking(&id, "9999999999.99")), |totals| &mut totals.dead_lettered);
            bad.push(workload.records.last().unwrap().value.clone());
        } else {
            workload.add_booking(&format!("good-{index}"), partition);
        }
    }
    workload.expected.booking_ids.extend(scene.booking_ids().await);
    scene.send(&workload.records).await;
    let service = scene.start();
    scene.assert_exact(&workload).await;

    let mut values = Vec::new();
    for letter in letters(&scene).await {
        assert_eq!((letter.reason.as_str(), letter.field), ("database_rejected", None), "{rule}");
        assert_eq!((letter.sqlstate.as_deref(), letter.constraint_name.as_deref()), (sqlstate, constraint), "{rule}");
        assert!(!letter.detail.contains("bad-") && !letter.detail.contains(CONTENT), "{}", letter.detail);
        values.push(letter.value);
    }
    values.sort();
    bad.sort();
    assert_eq!(values, bad, "{rule}");
    let shows =
        |line: &String| line.contains(CONTENT) || line.contains("record_dead_lettered") && line.contains("bad-");
    assert!(!service.lines().iter().any(shows), "{:#?}", service.lines());
}

/// A trigger that runs `body` for these bookings.
fn trigger(kind: &str, body: &str) -> String {
    format!(
        "create function judge() returns trigger language plpgsql as $$
         begin if new.booking_id like 'bad-%' then {body} end if; return new; end $$;
         create {kind} on booking_history for each row execute function judge()"
    )
}

#[tokio::test]
async fn a_check_of_an_operator_refuses_single_records() {
    let rule = "alter table booking_history add constraint not_bad check (booking_id not like 'bad-%')";
    refused_by_postgres(rule, Some("23514"), Some("not_bad")).await;
    refused_by_postgres("alter table booking_history alter price type numeric(6, 2)", Some("22003"), None).await;
}

#[tokio::test]
async fn a_unique_key_on_another_column_refuses_single_records() {
    let rule = "create unique index one_per_user on booking_history (user_id);
                insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                select 'other-' || n, 'user-bad-' || n, 'hotel', 0, 1, '2026-02-15T14:37:34Z'
                from unnest(array[3, 4, 77, 390]) n";
    refused_by_postgres(rule, Some("23505"), Some("one_per_user")).await;
}

#[tokio::test]
async fn a_foreign_key_refuses_single_records_at_once_or_deferred() {
    for when in ["", "deferrable initially deferred"] {
        let rule = format!(
            "create table users (id text primary key);
             insert into users select 'user-good-' || n from generate_series(0, 400) n;
             alter table booking_history
             add constraint known_user foreign key (user_id) references users {when}"
        );
        refused_by_postgres(&rule, Some("23503"), Some("known_user")).await;
    }
}

#[tokio::test]
async fn a_trigger_that_raises_refuses_single_records() {
    let raise = format!("raise exception '{CONTENT}: % is bad', new.booking_id;");
    refused_by_postgres(&trigger("trigger judge before insert", &raise), Some("P0001"), None).await;
    let deferred = "constraint trigger judge after insert";
    let deferred = trigger(deferred, &raise).replacen("for each row", "deferrable initially deferred for each row", 1);
    refused_by_postgres(&deferred, Some("P0001"), None).await;
}

#[tokio::test]
async fn a_trigger_that_drops_the_row_refuses_single_records() {
    refused_by_postgres(&trigger("trigger judge before insert", "return null;"), None, None).await;
}
