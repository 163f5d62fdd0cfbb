//! TLS and logins in Kafka.

use testbed::certificates::KEY_PASSWORD;
use testbed::kafka::{Kafka, USER, USER_PASSWORD};
use testbed::postgres::postgres;
use testbed::scene::Scene;
use testbed::token_endpoint::{CLIENT, CLIENT_SECRET, REFUSED_SCOPE, TokenEndpoint};
use testbed::wait::{PATIENCE, eventually};

use super::{assert_hidden, ends_with, talkative};

/// What no output may show: also the beginning of each token, and of a key.
const SECRETS: [&str; 5] = [USER_PASSWORD, CLIENT_SECRET, KEY_PASSWORD, "eyJhbGciOiJub25lIn0", "PRIVATE KEY"];

#[tokio::test]
async fn each_login_over_tls_works_and_each_fault_is_named() {
    let (kafka, ports) = Kafka::start_secure();
    let tokens = TokenEndpoint::start(kafka.directory());
    let (ca, other_ca) = (kafka.certificate("ca.pem"), kafka.certificate("other-ca.pem"));
    let trusted = format!("ssl.ca.location={ca}");
    let login = |mechanism: &str, password: &str| {
        format!(
            "security.protocol=sasl_ssl\n{trusted}\nsasl.mechanism={mechanism}\nsasl.username={USER}\nsasl.password={password}"
        )
    };
    let by_token = format!(
        "security.protocol=sasl_ssl\n{trusted}\nhttps.ca.location={ca}\nsasl.mechanism=OAUTHBEARER\n\
         sasl.oauthbearer.method=oidc\nsasl.oauthbearer.token.endpoint.url={}\nsasl.oauthbearer.client.id={CLIENT}\n\
         sasl.oauthbearer.client.secret={CLIENT_SECRET}\nsasl.oauthbearer.scope=bookings",
        tokens.url()
    );
    let by_certificate = format!(
        "security.protocol=ssl\n{trusted}\nssl.certificate.location={}\nssl.key.location={}\nssl.key.password={KEY_PASSWORD}",
        kafka.certificate("locked.pem"),
        kafka.certificate("locked.key")
    );
    let encrypted = format!("security.protocol=ssl\n{trusted}");
    let host = |name: &str, port: u16| format!("{name}:{port}");
    let at_login = host("localhost", ports.login);

    let right = [
        (at_login.clone(), login("PLAIN", USER_PASSWORD)),
        (at_login.clone(), login("SCRAM-SHA-512", USER_PASSWORD)),
        (at_login.clone(), by_token.clone()),
        (host("localhost", ports.mutual), by_certificate),
    ];
    let mut working = Vec::new();
    for (address, properties) in right {
        let scene = scene(&kafka, &address, &properties).await;
        working.push((scene.start(), scene));
    }

    let wrong_secret = by_token.replace(CLIENT_SECRET, &format!("wrong-{CLIENT_SECRET}"));
    let untrusted_endpoint =
        by_token.replace(&format!("https.ca.location={ca}"), &format!("https.ca.location={other_ca}"));
    let wrong: Vec<(String, String, &[&str])> = vec![
        (
            at_login.clone(),
            login("PLAIN", "wrong").replace(&ca, &other_ca),
            &["certificate verify failed", "ssl.ca.location"],
        ),
        (host("127.0.0.1", ports.login), login("PLAIN", USER_PASSWORD), &["certificate verify failed", "host name"]),
        (host("localhost", ports.expired), encrypted.clone(), &["certificate verify failed", "expired"]),
        (host("localhost", ports.mutual), encrypted, &["ssl.certificate.location"]),
        (at_login.clone(), login("PLAIN", &format!("wrong-{USER_PASSWORD}")), &["sasl.password"]),
        (at_login.clone(), login("SCRAM-SHA-512", &format!("wrong-{USER_PASSWORD}")), &["sasl.password"]),
        (at_login.clone(), wrong_secret, &["invalid_client", "check sasl.oauthbearer.client.id"]),
        (
            at_login.clone(),
            by_token.replace("bookings", REFUSED_SCOPE),
            &["invalid_token", "the broker refuses the token"],
        ),
        (at_login.clone(), untrusted_endpoint, &["certificate", "set https.ca.location"]),
    ];
    let mut refused = Vec::new();
    for (address, properties, words) in wrong {
        refused.push((scene(&kafka, &address, &properties).await.with("STARTUP_TIMEOUT", "3s").start(), words));
    }
    for (service, words) in refused {
        ends_with(service, words, &SECRETS);
    }

    // A token expires soon. The service gets a new one, and logs in again with it.
    eventually(PATIENCE, |renewed: &bool| *renewed, async || tokens.has_renewed()).await;
    for (service, scene) in &working {
        scene.send_and_handle("booking", 10).await;
        assert_eq!(scene.booking_ids().await.len(), 10);
        assert_hidden(service, &SECRETS);
        service.stop();
    }
}

/// A scene whose service has these properties in a file.
async fn scene(kafka: &Kafka, address: &str, properties: &str) -> Scene {
    let scene = talkative(Scene::on(kafka, postgres(), 1).await);
    let file = kafka.directory().join(testbed::unique("properties"));
    // As a secret store writes it: with line ends of another system.
    std::fs::write(&file, properties.replace('\n', "\r\n") + "\r\n").unwrap();
    let scene = scene.with("KAFKA_PROPERTIES_FILE", file.to_str().unwrap());
    scene.with("KAFKA_BOOTSTRAP_SERVERS", address)
}
