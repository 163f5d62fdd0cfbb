//! The numbers of the id column end: no record is the cause.

use testbed::postgres::plain_user;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// Stores records to the end of the numbers, widens the column and its sequence, and stores the others.
async fn ends_and_continues(scene: &Scene, sqlstate: Option<&str>) {
    let mut service = scene.start();
    let warning = service.wait_for_event("id_column_nearly_full");
    assert!(warning.field("hint").contains("booking_history.id (integer)"), "{warning:?}");
    let (_, lines) = Service::finish("migrate up", &scene.environment);
    assert!(lines.iter().any(|line| line.contains("warning: the sequence ids of the column")), "{lines:#?}");

    let workload = Workload::bookings("end", 40, 1);
    scene.send(&workload.records).await;
    let word = sqlstate.unwrap_or("the sequence ids of the column booking_history.id (integer) is at ");
    let named = |text: &String| text.contains(word) && text.contains("type bigint");
    eventually(PATIENCE, named, async || service.get("/readyz").body).await;
    assert_eq!(service.wait_exit(), 69);
    service.wait_for_error(word);
    service.wait_for_error("type bigint");
    assert_eq!(scene.lines("select count(*)::text from dead_letters").await, ["0"]);

    let widen = "alter table booking_history alter column id type bigint; alter sequence ids as bigint no maxvalue";
    scene.execute(widen).await;
    service.start_again();
    scene.assert_exact(&workload).await;
    assert!(service.events("id_column_nearly_full").is_empty());
}

/// The column gets its numbers from a sequence of this type.
async fn scene(sequence_type: &str) -> Scene {
    let scene = Scene::new(1).await.with_http().with("STARTUP_TIMEOUT", "15s").with("RETRY_MAX", "1s");
    let narrow = format!(
        "alter table booking_history alter column id drop identity;
         alter table booking_history alter column id type integer;
         create sequence ids as {sequence_type} start 2147483641;
         select nextval('ids'), setval('ids', 2147483640);
         alter table booking_history alter column id set default nextval('ids')"
    );
    scene.execute(&narrow).await;
    scene
}

#[tokio::test]
async fn a_column_smaller_than_its_sequence_makes_no_dead_letter_at_its_end() {
    ends_and_continues(&scene("bigint").await, None).await;
}

#[tokio::test]
async fn a_sequence_at_its_end_makes_no_dead_letter() {
    ends_and_continues(&scene("integer").await, Some("2200H")).await;
}

#[tokio::test]
async fn a_full_column_of_another_service_is_not_the_cause_of_an_error_of_a_record() {
    let scene = Scene::new(1).await;
    let other = "
        create sequence other_ids start 2147483648;
        create table other (id integer default nextval('other_ids'));
        select nextval('other_ids');
        create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'out of range' using errcode = '22003'; end $$;
        create trigger refuse before insert on booking_history
            for each row when (new.booking_id = 'refused') execute function refuse()";
    scene.execute(other).await;
    let service = scene.start();
    scene.send([Outgoing::to(0, booking("refused", "1")), Outgoing::to(0, booking("kept", "1"))]).await;
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await, ["kept"]);
    assert_eq!(scene.lines("select sqlstate from dead_letters").await, ["22003"]);
    assert!(service.events("id_column_nearly_full").is_empty());
}

#[tokio::test]
async fn a_user_that_cannot_read_the_sequence_gets_a_grant() {
    let scene = scene("bigint").await.with_http().with("STARTUP_TIMEOUT", "1s");
    let (user, url) = plain_user(&scene.database).await;
    scene
        .execute(&format!("revoke usage on sequence ids from \"{user}\"; grant update on sequence ids to \"{user}\""))
        .await;
    let with_user = scene.clone().with("DATABASE_URL", &url);
    let (code, lines) = with_user.finish("run");
    let lacks = "grant usage on sequence ids to";
    assert!(code == 69 && lines.iter().any(|line| line.contains(lacks)), "{code} {lines:#?}");
    scene.execute(&format!("grant select on sequence ids to \"{user}\"")).await;
    with_user.start().wait_for_event("id_column_nearly_full");
}
