//! TLS to `PostgreSQL`.

use std::fs;

use testbed::Postgres;
use testbed::certificates::KEY_PASSWORD;
use testbed::kafka::kafka;
use testbed::postgres::{PASSWORD, grant_least_privileges, plain_user};
use testbed::postgres_server::TLS;
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};

use super::{assert_hidden, ends_with, talkative};

#[tokio::test]
async fn tls_to_postgresql_works_and_each_fault_of_a_certificate_is_named() {
    let server = Postgres::start_new(TLS).unwrap();
    let scene = talkative(Scene::on(kafka(), &server, 1).await).with("RETRY_MAX", "200ms");
    let (user, _) = plain_user(&scene.database).await;
    grant_least_privileges(&scene.database, "by_certificate");
    let (_, database) = scene.database.rsplit_once('/').unwrap();
    let by_password = format!("{user}:{PASSWORD}");
    let with = |host: &str, login: &str, parameters: &str| {
        let url = format!("postgresql://{login}@{host}:{}/{database}?{parameters}", server.port());
        scene.clone().with("DATABASE_URL", &url)
    };
    let verified = format!("sslmode=verify-full&sslrootcert={}", server.certificate("ca.pem"));
    let certificate =
        format!("sslcert={}&sslkey={}", server.certificate("client.pem"), server.certificate("client.key"));

    // What is right works. The server refuses these users without TLS.
    let by_certificate = with("localhost", "by_certificate", &format!("{verified}&{certificate}")).start();
    scene.send_and_handle("certificate", 10).await;
    assert_hidden(&by_certificate, &[KEY_PASSWORD, "PRIVATE KEY"]);
    by_certificate.stop();
    let settings = with("localhost", &by_password, &verified).with("STARTUP_TIMEOUT", "2s");
    let working = settings.start();
    scene.send_and_handle("password", 10).await;
    assert_eq!(scene.booking_ids().await.len(), 20);

    let other_ca = format!("sslmode=verify-full&sslrootcert={}", server.certificate("other-ca.pem"));
    let trust = "set sslrootcert in DATABASE_URL";
    let cases: [(&str, &str, &str, &[&str]); 6] = [
        ("localhost", &by_password, &other_ca, &["certificate verify failed", trust]),
        ("localhost", &by_password, "sslmode=verify-full", &["certificate verify failed", trust]),
        ("127.0.0.1", &by_password, &verified, &["IP address mismatch", "for another host"]),
        ("localhost", &format!("{user}:wrong-{PASSWORD}"), &verified, &["28P01", "check user and password"]),
        ("localhost", &by_password, "sslmode=disable", &["28000", "no encryption"]),
        ("localhost", "by_certificate", &verified, &["28000", "valid client certificate"]),
    ];
    let start = |scene: Scene| scene.with("STARTUP_TIMEOUT", "0s").start();
    let wrong: Vec<_> = cases.iter().map(|(host, login, url, words)| (start(with(host, login, url)), words)).collect();
    for (service, words) in wrong {
        ends_with(service, words, &[PASSWORD]);
    }

    // The certificate expires while a service works: it has its connections, until they end.
    for file in ["pem", "key"] {
        fs::copy(server.certificate(&format!("expired.{file}")), server.certificate(&format!("server.{file}")))
            .unwrap();
    }
    scene.execute("select pg_reload_conf()").await;
    let until_expired = async || {
        let (_, lines) = settings.finish("migrate status");
        lines.last().cloned().unwrap_or_default()
    };
    let named = |line: &String| line.contains("certificate has expired") && line.contains("renew the certificate");
    eventually(PATIENCE, named, until_expired).await;
    assert_hidden(&working, &[PASSWORD]);
    scene.execute(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'")).await;
    let unready = |answer: &String| answer.contains("certificate has expired") && !answer.contains(PASSWORD);
    eventually(PATIENCE, unready, async || working.get("/readyz").body).await;
    ends_with(working, &["certificate has expired", "renew the certificate"], &[PASSWORD]);
}
