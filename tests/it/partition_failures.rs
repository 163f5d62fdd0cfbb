//! A failure in the database belongs to one partition: `/readyz` and the log name the partition, no other partition
//! waits, no record becomes a dead letter, and everything arrives when the cause ends.

use testbed::postgres::plain_user;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

async fn until_ready(service: &Service) {
    eventually(PATIENCE, Vec::is_empty, async || service.reasons()).await;
}

/// Two partitions, and a user with only the privileges that it needs. Two seconds of refusals end the service if they
/// concern the whole database.
async fn scene() -> (Scene, String) {
    let scene = Scene::new(2).await.with_http().with("STARTUP_TIMEOUT", "2s").with("RETRY_MAX", "2s");
    let (user, url) = plain_user(&scene.database).await;
    (scene.with("DATABASE_URL", &url), user)
}

/// One record in partition 0 that the database refuses after `fault`, between good records of one batch. `add` adds it
/// to the workload.
async fn only_one_partition_waits(
    (scene, fault, repair): (&Scene, &str, &str),
    add: impl Fn(&mut Workload),
    (sqlstate, word): (&str, &str),
) {
    let service = scene.start();
    let mut workload = scene.send_and_handle("before", 20).await;
    scene.execute(fault).await;

    let refused_at = 10 + 20;
    for index in 0..40 {
        if index == 20 {
            add(&mut workload);
        }
        workload.add_booking(&format!("around-{index}"), 0);
    }
    scene.send(workload.records.iter().skip(20)).await;
    let offsets = format!("offsets {refused_at} to {refused_at}");
    let partition = format!("partition 0 of {}", scene.topic.name);
    service.wait_for_reason(&[&partition, "commit failed", &offsets, sqlstate, word]).await;
    assert_eq!(scene.row(0).await.next_offset, refused_at, "the records before it are stored");
    let (from, to) = (refused_at.to_string(), (refused_at + 1).to_string());
    let fields = [
        ("topic", scene.topic.name.as_str()),
        ("partition", "0"),
        ("from", &from),
        ("to", &to),
        ("sqlstate", sqlstate),
    ];
    service.wait_for_event_with("database_unavailable", &fields);

    // The other partition continues.
    for number in 0..10 {
        workload.add_booking(&format!("neighbour-{number}"), 1);
        scene.send(workload.records.last()).await;
        scene.wait_until_at(1, 10 + number + 1).await;
    }
    let found = service.reasons();
    assert!(found.iter().all(|reason| reason.starts_with(&partition)) && !found.is_empty(), "{found:?}");
    assert_eq!(scene.lines("select count(*)::text from dead_letters").await, ["0"]);

    scene.execute(repair).await;
    scene.assert_exact(&workload).await;
    until_ready(&service).await;
    assert!(service.is_running(), "it was never restarted");
}

#[tokio::test]
async fn no_privilege_for_dead_letters() {
    let (scene, user) = scene().await;
    let fault = format!("revoke insert on dead_letters from \"{user}\"");
    let repair = format!("grant insert on dead_letters to \"{user}\"");
    let poison =
        |workload: &mut Workload| workload.add(0, Some("not json".to_owned()), |totals| &mut totals.dead_lettered);
    only_one_partition_waits((&scene, &fault, &repair), poison, ("42501", "dead_letters")).await;
}

#[tokio::test]
async fn a_policy_that_forbids_one_row() {
    let (scene, user) = scene().await;
    let fault = format!(
        "alter table booking_history enable row level security;
         create policy most on booking_history to \"{user}\" using (true) with check (booking_id <> 'forbidden')"
    );
    let repair = "alter table booking_history disable row level security";
    let forbidden = |workload: &mut Workload| workload.add_booking("forbidden", 0);
    only_one_partition_waits((&scene, &fault, repair), forbidden, ("42501", "row-level security")).await;
}

#[tokio::test]
async fn a_branch_of_a_trigger_that_calls_a_missing_function() {
    let (scene, _) = scene().await;
    let fault = "create function judge() returns trigger language plpgsql as $$
            begin if new.booking_id = 'forbidden' then perform no_such_function(); end if; return new; end $$;
        create trigger judge before insert on booking_history for each row execute function judge()";
    let repair = "drop trigger judge on booking_history";
    let forbidden = |workload: &mut Workload| workload.add_booking("forbidden", 0);
    only_one_partition_waits((&scene, fault, repair), forbidden, ("42883", "no_such_function")).await;
}

#[tokio::test]
async fn a_lock_on_the_row_of_one_partition() {
    let scene = Scene::new(2).await.with_http().with("RETRY_MAX", "2s").with("WRITERS", "1");
    let service = scene.start();
    let mut workload = scene.send_and_handle("before", 20).await;
    let lock = scene.hold("select from consumer_offsets where partition = 0 for update").await;
    for index in 0..40 {
        workload.add_booking(&format!("during-{index}"), index % 2);
    }
    scene.send(workload.records.iter().skip(20)).await;
    scene.wait_until_at(1, 30).await;
    service.wait_for_event_with("database_unavailable", &[("partition", "0"), ("sqlstate", "55P03")]);
    service.wait_for_reason(&["partition 0 of", "55P03"]).await;
    assert_eq!(scene.row(0).await.next_offset, 10);
    drop(lock);
    scene.assert_exact(&workload).await;
    until_ready(&service).await;
}

#[tokio::test]
async fn a_partition_that_fails_leaves_room_for_the_others() {
    let scene = Scene::new(2).await.with("RETRY_MAX", "2s").with("WRITERS", "1").with("BUFFER_MAX_BYTES", "1MiB");
    let service = scene.start();
    let mut workload = scene.send_and_handle("before", 20).await;
    let lock = scene.hold("select from consumer_offsets where partition = 0 for update").await;
    // Far more than the buffer and librdkafka's queue hold.
    for index in 0..30_000 {
        workload.add_booking(&format!("fails-{index}"), 0);
    }
    scene.send(workload.records.iter().skip(20)).await;
    service.wait_for_event_with("database_unavailable", &[("partition", "0"), ("sqlstate", "55P03")]);
    for number in 0..10 {
        workload.add_booking(&format!("neighbour-{number}"), 1);
        scene.send(workload.records.last()).await;
        scene.wait_until_at(1, 10 + number + 1).await;
    }
    assert_eq!(scene.row(0).await.next_offset, 10);
    drop(lock);
    scene.assert_exact(&workload).await;
}

#[tokio::test]
async fn a_redrive_without_its_privilege_is_reported_once_a_minute_and_counted() {
    let (scene, user) = scene().await;
    let scene = scene.with("LOG_RECORDS_PER_SECOND", "0");
    let service = scene.start();
    scene.send_values(["not json"]).await;
    scene.wait_until_read().await;
    assert!(service.events("record_dead_lettered").is_empty(), "a line about a dead letter counts as any other");
    scene.execute(&format!("revoke update on dead_letters from \"{user}\"")).await;
    let line = service.wait_for_event("redrive_postponed");
    assert!(line.has(&[("sqlstate", "42501")]) && line.field("error").contains("dead_letters"));
    service.wait_for_reason(&["dead letters are not redriven", "dead_letters"]).await;
    let failures = async || {
        let metrics = service.get("/metrics").body;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("booking_history_redrive_failures_total{reason=\"refused\"} "));
        line.unwrap().parse::<u32>().unwrap()
    };
    eventually(PATIENCE, |failures| *failures >= 3, failures).await;
    assert_eq!(service.events("redrive_postponed").len(), 1, "at most one line a minute");

    scene.send([Outgoing::to(1, booking("still-stored", "1"))]).await;
    scene.wait_until_read().await;
    scene.execute(&format!("grant update on dead_letters to \"{user}\"")).await;
    until_ready(&service).await;
}
