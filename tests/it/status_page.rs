//! The status page in a browser: what it shows of a service that works in part, and of one that has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use testbed::browser::Browser;
use testbed::scene::Scene;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

/// Waits until the page has all of these texts, each in its line of the section.
async fn until_shown(browser: &Browser, lines: &[&[&str]]) {
    let shown =
        |text: &String| lines.iter().all(|words| text.lines().any(|line| words.iter().all(|word| line.contains(word))));
    eventually(PATIENCE, shown, async || browser.text()).await;
}

fn assert_accessible(browser: &Browser) {
    for scheme in ["light", "dark"] {
        browser.prefer_colours(scheme);
        assert_eq!(browser.axe_violations(), [Value::Null; 0], "{scheme}");
    }
}

#[tokio::test]
async fn the_page_shows_what_works_what_is_halted_and_that_the_service_has_ended() {
    let scene = Scene::new(2).await.with_http().with("BREAKER_CONSECUTIVE", "3");
    let service = scene.start();
    service.wait_until_started(2).await;
    let first: Value = serde_json::from_str(&service.get("/status.json").body).unwrap();
    assert_eq!(first["open_work"], Value::Null, "without a visitor the service has read nothing");
    let browser = Browser::open(&format!("http://{}/", service.http_address()), 1_000, 900);
    scene.execute(&unacknowledged_gap(&scene)).await;
    scene.send((0..5).map(|n| Outgoing::to(0, booking(&format!("b-{n}"), "1")))).await;
    scene.send((0..3).map(|n| Outgoing::to(1, format!("poison {n}")))).await;

    let acknowledge = "update offset_gaps set acknowledged_at = now()";
    until_shown(
        &browser,
        &[
            &["Not ready"],
            &[&format!("partition 1 of {} is halted: too_many_dead_letters", scene.topic.name)],
            &["0", "running", "5", "5", "0"],
            &["1", "halted", "3", "3", "0"],
            &["1", "too_many_dead_letters", "booking-history offsets resume --partition 1"],
            &["not_json", "3", "0", "booking-history dead-letters list --reason not_json"],
            &["0", "retention_gap", "2", "4", acknowledge],
        ],
    )
    .await;
    assert_accessible(&browser);
    scene.execute("alter table offset_gaps rename to gaps_out_of_reach").await;
    let gaps_unread = ["They cannot be read", "relation \"offset_gaps\" does not exist"];
    until_shown(&browser, &[&gaps_unread, &["not_json", "3", "0"]]).await;
    scene.execute("alter table gaps_out_of_reach rename to offset_gaps").await;
    scene.execute("update dead_letters set reason = '<i id=injected>' where \"offset\" = 0").await;
    until_shown(&browser, &[&["<i id=injected>", "1", "0", "booking-history dead-letters list"]]).await;
    browser.resize(320, 600);
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.evaluate(overflow), 0, "only the tables scroll sideways");
    let page = service.get("/");
    assert!(page.head.contains("default-src 'none'; script-src 'self'"), "{}", page.head);

    service.kill9();
    until_shown(&browser, &[&["No answer since", "these figures are old"]]).await;
    assert_accessible(&browser);
}

/// As `KAFKA_GAP_POLICY=skip` records one.
fn unacknowledged_gap(scene: &Scene) -> String {
    let (group, topic) = (&scene.group, &scene.topic.name);
    format!(
        "insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
         values ('{group}', '{topic}', 0, 2, 4, 'retention_gap')"
    )
}

/// Renews `docs/operate/status-page.png`.
#[tokio::test]
#[ignore = "not a test: it takes two minutes for a picture; cargo test --test it picture -- --ignored"]
async fn the_picture_of_the_page() {
    let scene = Scene::new(3).await.with_http().with("BREAKER_CONSECUTIVE", "12");
    let service = scene.start();
    let browser = Browser::open(&format!("http://{}/", service.http_address()), 1_000, 1_080);
    scene.execute(&unacknowledged_gap(&scene)).await;
    let (started, mut sent) = (Instant::now(), 0);
    let mut poison = (0..12).map(|n| Outgoing::to(1, format!("poison {n}")));
    while started.elapsed() < Duration::from_secs(118) {
        let seconds = started.elapsed().as_secs_f64();
        let mut records: Vec<Outgoing> = Vec::new();
        for (partition, period) in [(0, 6.0), (1, 9.0), (2, 12.0)] {
            let rate = 120.0 + 80.0 * (seconds / period).sin();
            records.extend(
                (0..200)
                    .filter(|n| f64::from(*n) < rate)
                    .map(|n| Outgoing::to(partition, booking(&format!("{partition}-{sent}-{n}"), "1"))),
            );
        }
        sent += 1;
        if seconds > 60.0 {
            records.extend(poison.by_ref());
            records.extend((sent % 30 == 0).then(|| Outgoing::to(0, booking("0-0-1", "2"))));
        }
        scene.send(records).await;
    }
    // The names of an example instead of those of the test, until the next answer.
    browser.evaluate(&format!(
        "document.getElementById('group').textContent = 'booking-history-service';
         document.getElementById('topic').textContent = 'booking-events';
         document.getElementById('instance').textContent = 'app-1/7222';
         const line = document.querySelector('#reasons li');
         line.textContent = line.textContent.replace('{}', 'booking-events');",
        scene.topic.name
    ));
    browser.screenshot(Path::new("docs/operate/status-page.png"));
}
