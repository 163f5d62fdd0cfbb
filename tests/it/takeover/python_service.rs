//! The whole way from the Python service to this one and back, with the libraries of that service.

use std::collections::BTreeSet;

use testbed::scene::Scene;
use testbed::service::{Service, environment};
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

const LIBRARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/old-service");

fn python(scene: &Scene, argument: &str) -> Service {
    let mut variables = scene.environment.clone();
    variables.extend(environment(&[("PYTHONPATH", LIBRARIES)]));
    let program = [("old_service.py", include_str!("old_service.py"))];
    Service::start_program("/bin/sh", &program, &format!("-c 'exec python3 old_service.py {argument}'"), &variables)
}

/// What the Python service did with its records.
fn lines_with(python: &Service, word: &str) -> BTreeSet<String> {
    let lines = python.lines();
    lines.iter().filter_map(|line| Some(line.strip_prefix(word)?.trim().to_owned())).collect()
}

/// The sum of the positions that the group has committed to Kafka.
async fn wait_until_committed(scene: &Scene, expected: i64) {
    let sum = async || scene.topic.committed(&scene.group).values().map(|(position, _)| position).sum::<i64>();
    eventually(PATIENCE, |sum| *sum == expected, sum).await;
}

async fn wait_until_stored(scene: &Scene, expected: usize) {
    eventually(PATIENCE, |ids: &Vec<String>| ids.len() == expected, async || scene.booking_ids().await).await;
}

#[tokio::test]
async fn what_the_python_service_lost_is_named_and_stored_and_the_way_back_continues_where_this_service_stopped() {
    let scene = Scene::without_tables(2).await;
    let url = scene.database.replace("postgresql://", "postgresql+asyncpg://");
    let scene = scene.with("DATABASE_URL", &url);
    assert_eq!(python(&scene, "--create").wait_exit(), 0);
    let old = python(&scene, "");
    let send = async |prefix: &str, count: usize| {
        let workload = Workload::bookings(prefix, count, 2);
        scene.send(&workload.records).await;
        workload.expected.booking_ids
    };

    let mut all = send("stored", 40).await;
    wait_until_stored(&scene, 40).await;
    scene.execute("alter table booking_history rename to away").await;
    let mut lost = send("refused", 20).await;
    // It commits the records although it has not stored them.
    wait_until_committed(&scene, 60).await;
    scene.execute("alter table away rename to booking_history").await;
    assert_eq!(lines_with(&old, "failed").len(), 20, "{:#?}", old.lines());
    // It is killed while the insert of one record waits, whose offset is committed.
    let lock = scene.hold("lock table booking_history in access exclusive mode").await;
    let in_flight = send("in-flight", 2).await;
    wait_until_committed(&scene, 61).await;
    old.kill9();
    drop(lock);
    let committed = scene.topic.committed(&scene.group);
    let taken: Vec<_> = (0..2).filter(|partition| committed[partition].0 == 31).collect();
    assert_eq!(taken.len(), 1, "{committed:?}");
    lost.insert(format!("in-flight-{}", taken[0]));
    all.extend(lost.iter().cloned().chain(in_flight));

    // Its environment file, as an editor of Windows leaves it. Its session of the database ends when the server notices that
    // the process is gone.
    let file = format!(
        "\u{feff}# The bookings\r\nexport DATABASE_URL=\"{url}\"  # of all hotels\r\n\r\nKAFKA_BOOTSTRAP_SERVERS = '{}'\r\n\
         KAFKA_TOPIC={}\r\nexport KAFKA_GROUP_ID='{}'\r\nHTTP_ADDR=\r\n",
        scene.topic.broker(),
        scene.topic.name,
        scene.group
    );
    let with_file = |command| Service::start_in(&[(".env", &file)], command, &environment(&[]));
    eventually(PATIENCE, |code| *code == 0, async || with_file("migrate up").finished().0).await;
    let service = with_file("run");
    all.extend(send("new", 10).await);
    wait_until_stored(&scene, all.len() - lost.len()).await;
    scene.wait_until_read().await;
    for (partition, row) in scene.audit().rows().await {
        assert_eq!(row.counted_from, committed[&partition].0, "partition {partition}");
        assert_eq!(row.totals.sum(), row.totals.stored, "no record was read twice");
    }

    let missing = |expected: &BTreeSet<String>| {
        let (code, lines) = scene.finish("verify --from 0 --output json");
        let findings = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let missing = findings.filter(|finding| finding["finding"] == "missing");
        let missing: BTreeSet<_> = missing.map(|finding| finding["booking_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!((code, &missing), (i32::from(!expected.is_empty()), expected), "{lines:#?}");
    };
    missing(&lost);
    scene.command("offsets set --all --to earliest");
    wait_until_stored(&scene, all.len()).await;
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await, all.iter().cloned().collect::<Vec<_>>());
    missing(&BTreeSet::new());

    service.stop();
    wait_until_committed(&scene, 72).await;
    scene.command("migrate down 100 --yes");
    let old = python(&scene, "");
    all.extend(send("back", 10).await);
    wait_until_stored(&scene, all.len()).await;
    wait_until_committed(&scene, 82).await;
    let read: BTreeSet<String> = (36..41).flat_map(|offset| [format!("0/{offset}"), format!("1/{offset}")]).collect();
    assert_eq!(lines_with(&old, "saved"), read, "{:#?}", old.lines());
    assert_eq!(lines_with(&old, "failed"), BTreeSet::new());
    old.kill9();

    // And once more: its positions count, and not those that this service had.
    eventually(PATIENCE, |code| *code == 0, async || scene.finish("migrate up").0).await;
    let service = scene.start();
    all.extend(send("again", 10).await);
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await, all.into_iter().collect::<Vec<_>>());
    assert_eq!(scene.totals().await.sum(), 10);
    missing(&BTreeSet::new());
    service.stop();
}
