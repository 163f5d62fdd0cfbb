//! The samples of the page about dead letters: one record from its refusal to its row, and the breaker.

use super::walk::Walk;
use testbed::scene::Scene;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

pub const SAMPLES: &[&str] = &[
    "record-dead-lettered",
    "find-letter",
    "dead-letters-overview",
    "dead-letters-show",
    "correct",
    "requeue",
    "dead-letter-resolved",
    "proof",
    "discard",
    "waiting-letters",
    "attempts",
    "requeue-many",
    "breaker-log",
    "breaker-list",
    "breaker-resume",
    "breaker-resolved",
];

/// A booking of a hotel.
fn of_hotel(id: &str, hotel: &str, price: &str) -> String {
    booking(id, price).replace("hotel-1", hotel)
}

#[tokio::test]
async fn the_samples_of_dead_letters() {
    let scene = Scene::new(3).await.with("DEAD_LETTER_RETRY_INITIAL", "500ms");
    let service = scene.start();
    let refused = r#"{"event_type": "BookingCreated", "data": {"id": "booking-104", "user_id": "user-6", "hotel_id": "hotel-2", "price": 90.5, "promo_code": null, "discount_percent": 120, "created_at": "2026-02-15T14:44:34.859067+00:00"}}"#;
    let refused = Outgoing {
        key: Some(b"user-6".to_vec()),
        headers: vec![("source".to_owned(), Some(b"web".to_vec()))],
        ..Outgoing::to(1, refused)
    };
    let good = |partition, id: &str| Outgoing::to(partition, booking(id, "1"));
    let xml = Outgoing::to(0, "<booking/>");
    scene.send([good(0, "a"), good(1, "b"), good(1, "c"), good(2, "d"), refused]).await;
    scene.wait_until_read().await;
    // The lists show this letter first, because it is newer.
    scene.send([xml]).await;
    scene.wait_until_read().await;
    let letters = async || service.events("record_dead_lettered").len();
    eventually(PATIENCE, |letters| *letters == 2, letters).await;

    let mut walk = Walk::new("docs/operate/dead-letters.md", scene);
    walk.logged("record-dead-lettered", &[&service]);
    for name in ["dead-letters-overview", "dead-letters-show", "correct", "requeue"] {
        walk.run(name).await;
    }
    service.wait_for_event("dead_letter_resolved");
    for name in ["proof", "find-letter", "discard"] {
        walk.run(name).await;
    }
    walk.logged("dead-letter-resolved", &[&service]);

    // Bookings come before the hotels that they refer to.
    walk.scene
        .execute(
            "create table hotels (hotel_id text primary key);
             insert into hotels select distinct hotel_id from booking_history;
             alter table booking_history add constraint booking_history_hotel_fk
             foreign key (hotel_id) references hotels (hotel_id)",
        )
        .await;
    let early = [(0, "e", "hotel-5"), (1, "f", "hotel-5"), (2, "g", "hotel-4")];
    walk.scene.send(early.map(|(partition, id, hotel)| Outgoing::to(partition, of_hotel(id, hotel, "1")))).await;
    walk.scene.wait_until_read().await;
    walk.run("waiting-letters").await;
    let statuses = "select concat_ws(' ', status, count(*)) from dead_letters where sqlstate = '23503'
                    group by status order by status";
    walk.scene.wait_until_lines(statuses, &["parked 2", "resolved 1"]).await;
    walk.run("attempts").await;
    walk.run("requeue-many").await;
    walk.scene.wait_until_lines(statuses, &["resolved 3"]).await;

    // A CHECK that is too strict.
    walk.scene.execute("alter table booking_history add constraint price_ceiling check (price <= 100)").await;
    let dear = (0..120).map(|number| Outgoing::to(0, of_hotel(&format!("dear-{number}"), "hotel-1", "101")));
    walk.scene.send(dear).await;
    assert_eq!(walk.scene.wait_until_halted(0).await, "too_many_dead_letters");
    service.wait_for_event("partition_halted");
    walk.logged("breaker-log", &[&service]);
    walk.run("breaker-list").await;
    walk.run("breaker-resume").await;
    walk.scene.wait_until_lines("select count(*)::text from dead_letters where status = 'waiting'", &["0"]).await;
    walk.run("breaker-resolved").await;
}
