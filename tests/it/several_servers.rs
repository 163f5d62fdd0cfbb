//! `DATABASE_URL` names servers in every usual form, and the service finds the one that can write.

use super::check::Checked;
use testbed::Postgres;
use testbed::kafka::kafka;
use testbed::postgres::own_postgres;
use testbed::proxy::Proxy;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::steady_flow::SteadyFlow;
use testbed::topic::Topic;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// A primary that is lost before its standby has everything: the tables go back in time, and the service reads the records
/// again from Kafka. A host that does not answer is the first one, and the standby stands before the primary.
#[tokio::test]
async fn the_service_continues_on_a_standby_that_was_promoted_and_loses_nothing() {
    let primary = own_postgres();
    let scene = Scene::on(kafka(), &primary, 3).await;
    let replication = Proxy::start(primary.port());
    let standby = Postgres::start_standby(&primary, replication.port()).unwrap();
    let silent = Proxy::start(standby.port());
    silent.black_hole(true);

    let owner = scene.database.clone();
    let (login, place) = owner.split_once('@').unwrap();
    let database = place.split_once('/').unwrap().1;
    let hosts = [silent.port(), standby.port(), primary.port()].map(|port| format!("127.0.0.1:{port}"));
    let servers = hosts.join(",");
    let url = format!("{login}@{servers}/{database}");
    let promoted = scene.clone().with_database(standby.url(database));
    let scene = scene.with("DATABASE_URL", &url).with("DATABASE_TIMEOUT", "3s").with("RETRY_MAX", "1s");
    scene.command("migrate up");
    let service = scene.start();
    let workload = Workload::mixed("failover", 3_000, 3);
    let parts: Vec<_> = workload.records.chunks(workload.records.len().div_ceil(3)).collect();
    let producer = scene.topic.producer(&[]);
    producer.send(parts[0]).await;
    scene.wait_until_read().await;
    scene.command("offsets list");
    let everything = scene.totals().await;
    eventually(PATIENCE, |totals| *totals == everything, async || promoted.totals().await).await;

    let of_standby = format!("{url}?target_session_attrs=standby");
    scene
        .clone()
        .with("DATABASE_URL", &of_standby)
        .with("LOG_LEVEL", "DEBUG")
        .start_command("offsets list")
        .wait_for_event_with("database_connected", &[("server", &hosts[1])]);

    Checked::ends_with(&scene, 0)
        .assert("database_connection", "warning", &hosts[0])
        .assert("database_connection", "ok", "a standby")
        .assert("database_writable", "ok", "a primary");
    Checked::ends_with(&scene.clone().with("DATABASE_URL", &standby.url(database)), 1)
        .assert("database_writable", "failed", "the server is a standby")
        .assert("database_schema", "ok", "");

    replication.black_hole(true);
    producer.send(parts[1]).await;
    scene.wait_until_read().await;
    assert_eq!(promoted.totals().await, everything, "the standby is behind");
    primary.stop_immediate().unwrap();
    let failed = service.wait_for_event_with("database_unavailable", &[("server", &servers)]);
    for host in hosts {
        assert!(failed.field("error").contains(&format!("{host}: ")), "{failed:?}");
    }
    replication.cut();
    promoted.execute("select pg_promote()").await;
    producer.send(parts[2]).await;
    promoted.assert_exact(&workload).await;
    assert!(service.is_running(), "it was never restarted");
    assert!(
        !service.lines().iter().any(|line| line.contains(login.rsplit_once(':').unwrap().1)),
        "a password is shown"
    );

    // The kind of session that a URL asks for.
    let any = format!("{}?target_session_attrs=prefer-standby", standby.url(database));
    scene.clone().with("DATABASE_URL", &any).command("offsets list");
    let other = format!("{}?target_session_attrs=standby", standby.url(database));
    let scene = scene.with("DATABASE_URL", &other);
    for arguments in ["run", "migrate up", "migrate down", "offsets resume --all"] {
        let (code, lines) = scene.finish(arguments);
        let text = lines.join("\n");
        assert!(code == 78 && text.contains("target_session_attrs=read-write, primary or any"), "{text}");
    }
    let (code, lines) = scene.finish("offsets list");
    let text = lines.join("\n");
    assert_eq!(code, 69, "{text}");
    assert!(
        text.contains("this server is a primary that can write, and target_session_attrs=standby is wanted"),
        "{text}"
    );
}

/// The network separates the primary from the service and from its standby, which is promoted. The standby lacks the newest
/// commits, and no record comes that would show it. Then the old primary is reachable again, and a lost connection
/// takes the service back to it: two primaries. Each of them is exact up to its own position, so either can be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_split_each_primary_is_exact_and_the_one_that_is_kept_gets_all_records() {
    let primary = own_postgres();
    let scene = Scene::on(kafka(), &primary, 3).await;
    let replication = Proxy::start(primary.port());
    let standby = Postgres::start_standby(&primary, replication.port()).unwrap();
    let network = Proxy::start(primary.port());
    let (login, place) = scene.database.split_once('@').unwrap();
    let database = place.split_once('/').unwrap().1.to_owned();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", network.port(), standby.port());
    let url = format!("{login}@{hosts}/{database}?target_session_attrs=read-write&connect_timeout=1");
    let promoted = scene.clone().with_database(standby.url(&database));
    let scene = scene.with("DATABASE_URL", &url);
    let service = scene.start();
    let flow = SteadyFlow::start(scene.topic.clone(), 3);
    let handled = async |scene: &Scene| scene.totals().await.sum();
    eventually(PATIENCE, |count| *count > 100, async || handled(&promoted).await).await;

    replication.black_hole(true);
    let known = handled(&promoted).await;
    eventually(PATIENCE, |count| *count > known + 200, async || handled(&scene).await).await;
    let first = flow.stop().await;
    scene.assert_exact(&first).await;
    let epochs =
        async |scene: &Scene| -> Vec<i64> { scene.audit().rows().await.into_values().map(|row| row.epoch).collect() };
    assert_eq!(epochs(&promoted).await, epochs(&scene).await, "only the positions differ");
    assert!(handled(&promoted).await < handled(&scene).await, "the standby is behind");

    network.black_hole(true);
    network.cut();
    promoted.execute("select pg_promote()").await;
    promoted.assert_exact(&first).await;
    promoted.command("verify");

    network.black_hole(false);
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    promoted.execute(end).await;
    let second = Workload::bookings("second", 300, 3);
    scene.send(&second.records).await;
    let mut all = first;
    all.expected.extend(second.expected);
    scene.assert_exact(&all).await;
    scene.clone().with_database(scene.database.clone()).command("verify");
    assert!(handled(&promoted).await < handled(&scene).await, "the records went to the old primary");
    service.stop();

    let service = promoted.start();
    promoted.assert_exact(&all).await;
    promoted.command("verify");
    service.stop();
}

/// A proxy that is up while its server is not accepts a connection and ends it. With `STARTUP_TIMEOUT=0s`, each error that
/// needs an operator would end a run at once.
#[tokio::test]
async fn an_outage_behind_a_proxy_is_an_outage_at_the_start_and_later() {
    let server = own_postgres();
    let scene = Scene::on(kafka(), &server, 1).await;
    let proxy = Proxy::start(server.port());
    let url = scene.database.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let scene = scene.with("DATABASE_URL", &url).with("STARTUP_TIMEOUT", "0s").with("RETRY_MAX", "100ms");
    let running = scene.start();
    let workload = Workload::bookings("outage", 200, 1);
    let (before, after) = workload.records.split_at(100);
    scene.send(before).await;
    scene.wait_until_read().await;

    server.stop_fast().unwrap();
    let starting = scene.start();
    scene.send(after).await;
    let outages = async |service: &Service| {
        let of_proxy = |service: &Service| {
            let failed = service.events("database_unavailable");
            failed.iter().filter(|line| line.field("error").contains("unexpected response from SSLRequest")).count()
        };
        eventually(PATIENCE, |count| *count >= 3, async || of_proxy(service)).await;
    };
    outages(&starting).await;
    outages(&running).await;
    server.start().unwrap();
    scene.assert_exact(&workload).await;
    running.stop();
    starting.stop();
}

/// In a failover, one server can have wrong settings: the next one is tried, and a retry waits for the others.
#[tokio::test]
async fn a_server_that_refuses_the_user_does_not_hide_the_others() {
    let server = own_postgres();
    let scene = Scene::on(kafka(), &server, 1).await.with("STARTUP_TIMEOUT", "0s").with("RETRY_MAX", "100ms");
    let refusing = own_postgres();
    let owner = scene.database.clone();
    let (login, place) = owner.split_once('@').unwrap();
    let url = format!("{login}@127.0.0.1:{},{place}", refusing.port());
    assert_ne!(server.password(), refusing.password());
    let scene = scene.with("DATABASE_URL", &url);
    scene.command("offsets list");
    server.stop_fast().unwrap();
    let service = scene.start();
    let failed = service.wait_for_event("database_unavailable");
    assert!(failed.field("error").contains("password authentication failed"), "{failed:?}");
    server.start().unwrap();
    let workload = Workload::bookings("refused", 10, 1);
    scene.send(&workload.records).await;
    scene.assert_exact(&workload).await;
    service.stop();

    let url = format!("{}@127.0.0.1:{},{place}", login.replace(server.password(), "wrong"), refusing.port());
    let (code, lines) = scene.with("DATABASE_URL", &url).finish("run");
    assert_eq!(code, 69, "{lines:#?}");
}

/// Each form of a URL for one server: migrate, run and a command connect with it.
#[tokio::test]
async fn a_server_is_found_by_an_ipv6_address_and_by_each_form_of_a_socket() {
    let settings = [("unix_socket_directories", ".."), ("listen_addresses", "127.0.0.1,::1")];
    let server = Postgres::start_new(&settings).unwrap();
    let path = server.directory().to_str().unwrap();
    let url = server.url("postgres");
    let (login, _) = url.split_once('@').unwrap();
    let (port, login) = (server.port(), login.replace("postgresql://", "postgresql+asyncpg://"));
    let encoded = path.replace('/', "%2F");
    for (number, url) in [
        format!("{login}@[::1]:{port}/DATABASE"),
        format!("{login}@[::1]:1,[::1]:{port}/DATABASE"),
        format!("{login}@/DATABASE?host={path}&port={port}"),
        format!("{login}@:{port}/DATABASE?host={path}"),
        format!("{login}@{encoded}:{port}/DATABASE?sslmode=require"),
    ]
    .iter()
    .enumerate()
    {
        let database = format!("form{number}");
        let owner = server.create_database(&database).await.unwrap();
        let scene = Scene::between(Topic::create(kafka(), 1).await, owner);
        let scene = scene.with("DATABASE_URL", &url.replace("DATABASE", &database));
        scene.command("migrate up");
        let service = scene.start();
        let workload = Workload::bookings("form", 10, 1);
        scene.send(&workload.records).await;
        scene.assert_exact(&workload).await;
        service.stop();
        scene.command("offsets list");
    }
}
