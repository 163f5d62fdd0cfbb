//! The servers and the guardian on which the other tests rely.

use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdout};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use sqlx::{Connection as _, PgConnection};
use testbed::Guardian;

use testbed::kafka::{Kafka, kafka};
use testbed::postgres::{database, own_postgres};
use testbed::proxy::Proxy;
use testbed::topic::{Outgoing, Topic};
use testbed::wait::{PATIENCE, eventually};

#[tokio::test]
async fn a_topic_is_made_filled_grown_trimmed_and_deleted() {
    let topic = Topic::create(kafka(), 2).await;
    let places = topic.producer(&[]).send((0..3).map(|n| Outgoing::to(1, format!("record {n}")))).await;
    assert_eq!(places, [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(topic.ends(), [(0, 0), (1, 3)].into());
    topic.grow(3).await;
    assert_eq!(topic.ends(), [(0, 0), (1, 3), (2, 0)].into());
    topic.delete_records(1, 2).await;
    assert_eq!(topic.watermarks()[&1], (2, 3));
    assert_eq!(topic.committed("no-such-group"), [].into());
    topic.delete().await;
    topic.create_again(1, &[]).await;
    assert_eq!(topic.ends(), [(0, 0)].into());
}

#[tokio::test]
async fn the_markers_of_transactions_take_offsets() {
    let topic = Topic::create(kafka(), 1).await;
    let producer = topic.transactional_producer();
    producer.begin();
    producer.send([Outgoing::to(0, "seen")]).await;
    producer.commit();
    producer.begin();
    producer.send([Outgoing::to(0, "unseen")]).await;
    producer.abort();
    eventually(PATIENCE, |ends| *ends == [(0, 4)].into(), async || topic.ends()).await;
}

#[tokio::test]
async fn a_killed_broker_comes_back_with_its_records() {
    let kafka = Kafka::start_new();
    let topic = Topic::create(&kafka, 1).await;
    topic.producer(&[]).send([Outgoing::to(0, "kept")]).await;
    let killed = kafka.pid();
    kafka.kill();
    kafka.start();
    assert_ne!(kafka.pid(), killed);
    eventually(PATIENCE, |ends| *ends == [(0, 1)].into(), async || topic.ends()).await;
    kafka.freeze();
    kafka.thaw();
    kafka.stop();
    kafka.start();
    eventually(PATIENCE, |ends| *ends == [(0, 1)].into(), async || topic.ends()).await;
}

#[tokio::test]
async fn a_broker_behind_a_proxy_is_read_through_it() {
    let (kafka, proxy) = Kafka::start_behind_proxy();
    let topic = Topic::create(&kafka, 1).await;
    topic.producer(&[]).send([Outgoing::to(0, "record")]).await;
    proxy.black_hole(true);
    let behind = Topic::at(proxy.address(), &topic.name);
    let end = thread::spawn(move || behind.ends());
    assert_eq!(topic.ends(), [(0, 1)].into(), "the broker's own address passes the proxy by");
    assert!(!end.is_finished());
    proxy.black_hole(false);
    assert_eq!(end.join().unwrap(), [(0, 1)].into());
}

#[test]
fn a_proxy_limits_the_rate_of_all_connections_keeps_bytes_back_and_cuts() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap().port());
    let connect = || (TcpStream::connect(proxy.address()).unwrap(), server.accept().unwrap().0);
    let [(mut one, mut one_served), (mut two, mut two_served)] = [connect(), connect()];
    let started = Instant::now();
    proxy.limit(Some(40_000));
    one_served.write_all(&[1; 10_000]).unwrap();
    two_served.write_all(&[2; 10_000]).unwrap();
    for end in [&mut one, &mut two] {
        end.read_exact(&mut [0; 10_000]).unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());

    proxy.limit(None);
    proxy.black_hole(true);
    one.write_all(b"kept").unwrap();
    one_served.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    one_served.read_exact(&mut [0; 4]).unwrap_err();
    proxy.black_hole(false);
    one_served.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut kept = [0; 4];
    one_served.read_exact(&mut kept).unwrap();
    assert_eq!(&kept, b"kept");

    proxy.cut();
    assert_eq!(one.read(&mut [0; 4]).unwrap(), 0);
    let (mut three, mut three_served) = connect();
    three.write_all(b"new").unwrap();
    three_served.read_exact(&mut [0; 3]).unwrap();
}

#[tokio::test]
async fn each_test_has_its_own_database() {
    for _ in 0..2 {
        let mut connection = PgConnection::connect(&database().await).await.unwrap();
        sqlx::query("create table a_table ()").execute(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn a_crashed_database_comes_back_with_what_was_committed() {
    let postgres = own_postgres();
    let url = postgres.create_database("crash").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("create table kept as select 7 as number").execute(&mut connection).await.unwrap();
    let crashed = postgres.pid();
    postgres.stop_immediate().unwrap();
    sqlx::query("select 1").execute(&mut connection).await.unwrap_err();
    postgres.start().unwrap();
    assert_ne!(postgres.pid(), crashed);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (number,): (i32,) = sqlx::query_as("select number from kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(number, 7);
    postgres.restart().unwrap();
    let directory = postgres.directory().to_owned();
    drop(postgres);
    assert!(!directory.exists(), "{} was left behind", directory.display());
}

#[test]
fn a_guardian_reports_how_its_server_ended() {
    let guardian = Guardian::new("TERM", None).unwrap();
    assert_eq!(guardian.run("exit 3").unwrap(), 3);
    guardian.start("exec sleep 600").unwrap();
    assert_eq!(guardian.exit_status().unwrap(), None);
    assert!(guardian.signal("KILL").unwrap());
    assert_eq!(guardian.wait(PATIENCE).unwrap(), 128 + 9);
    assert!(!guardian.signal("KILL").unwrap(), "it has ended");
    assert_eq!(guardian.exit_status().unwrap(), Some(128 + 9), "asked again");
    guardian.start("exit 5").unwrap();
    assert_eq!(guardian.wait(PATIENCE).unwrap(), 5);
}

#[test]
fn servers_do_not_outlive_a_killed_owner() {
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "servers::owns_servers_until_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let left: Vec<String> =
        lines.find_map(|line| Some(line.split_once("OWNS ")?.1.split(' ').map(str::to_owned).collect())).unwrap();
    assert!(left.len() == 4 && left.iter().all(|path| Path::new(path).exists()), "{left:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = || left.iter().all(|path| fs::metadata(path).is_err());
    for _ in 0..PATIENCE.as_millis() / 50 {
        if gone() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("left behind: {left:?}");
}

#[test]
#[ignore = "the owner that `servers_do_not_outlive_a_killed_owner` kills"]
fn owns_servers_until_killed() {
    let postgres = own_postgres();
    let frozen = Guardian::new("TERM", None).unwrap();
    let pid = frozen.start("exec sh -c 'trap \"\" TERM; kill -s STOP $$; exec sleep 600'").unwrap();
    let (data, work) = (postgres.directory().display(), frozen.directory().display());
    let mut out = stdout();
    writeln!(out, "OWNS {data} {work} /proc/{} /proc/{pid}", postgres.pid()).unwrap();
    // The owner is killed while it waits for an answer of the guardian: the broken pipe must not end the guardian. Run
    // by hand, this test takes that long.
    frozen.wait(PATIENCE).unwrap_err();
}
