//! Encryption, login and privileges on real servers: what is right works, what is wrong is named, and no secret is shown.

mod postgres_tls;
mod kafka_login;
mod least_privilege;

use testbed::scene::Scene;
use testbed::service::Service;

/// A scene whose service logs everything that it can, as do its libraries.
fn talkative(scene: Scene) -> Scene {
    scene.with_http().with("LOG_LEVEL", "trace,hyper=info")
}

/// Fails if one of the secrets is in the output of the service, in its answers or among its arguments, which every user of
/// the machine can read.
fn assert_hidden(service: &Service, secrets: &[&str]) {
    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", service.pid())).unwrap();
    let answers = ["/readyz", "/metrics"].map(|path| service.get(path).body);
    assert_none(&[service.lines(), answers.to_vec(), vec![arguments]].concat(), secrets);
}

fn assert_none(lines: &[String], secrets: &[&str]) {
    for line in lines {
        let shown = secrets.iter().find(|secret| line.contains(**secret));
        assert_eq!(shown, None, "a secret is in the line: {line}");
    }
}

/// Waits for the end with 69. The last line has all of these words, and no line has a secret.
fn ends_with(service: Service, words: &[&str], secrets: &[&str]) {
    let (code, lines) = service.finished();
    let last = lines.last().unwrap();
    assert_eq!(code, 69, "{words:?}: {last}");
    assert!(last.starts_with("error: ") && words.iter().all(|word| last.contains(word)), "{words:?}: {last}");
    assert_none(&lines, secrets);
}
