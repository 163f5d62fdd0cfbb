//! `deploy/prometheus` and `deploy/grafana` on a real Prometheus that scrapes the service. `promtool` tests the times of
//! the alerts: `scripts/deploy.sh`.
#![expect(clippy::indexing_slicing, reason = "a missing field of an answer is null")]

mod picture;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use testbed::pages;
use testbed::prometheus::Prometheus;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/booking-history.json";
const PAGE: &str = "docs/operate/monitoring.md";

/// The panels of the dashboard, without the headings of its rows.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&pages::read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    panels.iter().filter(|panel| panel["type"] != "row").cloned().collect()
}

/// The title and each query of the panels, as Grafana sends them.
fn queries() -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let resolved = |expression: &str| {
        let expression = expression.replace("$job", "booking-history").replace("$instance", ".*");
        let expression = expression.replace("$__rate_interval", "1m");
        assert!(!expression.contains('$'), "{expression}");
        expression
    };
    let queries = |panel: &Value| -> Vec<(String, String)> {
        let targets = panel["targets"].as_array().unwrap();
        targets.iter().map(|target| (text(&panel["title"]), resolved(target["expr"].as_str().unwrap()))).collect()
    };
    panels().iter().flat_map(queries).collect()
}

/// The files of `deploy/prometheus`: with one instance instead of those of Compose, each second instead of each 15 s,
/// and alerts that do not wait.
fn prometheus(service: &Service) -> Prometheus {
    let discovery = "dns_sd_configs:\n      - names: [booking-history]\n        type: A\n        port: 8080\n        \
                     refresh_interval: 15s";
    let target = format!("static_configs:\n      - targets: ['{}']", service.http_address());
    let config = pages::read("deploy/prometheus/prometheus.yml").replace(discovery, &target).replace("15s", "1s");
    assert!(config.contains(&target), "{config}");
    let alerts = pages::read(ALERTS).replace("[2m]", "[5s]");
    let at_once = |line: &str| if line.trim_start().starts_with("for: ") { String::new() } else { format!("{line}\n") };
    let alerts: String = alerts.lines().map(at_once).collect();
    Prometheus::start(&[("prometheus.yml", &config), ("alerts.yml", &alerts)])
}

fn has_data(series: &[Value]) -> bool {
    series.iter().any(|series| series["value"][1].as_str().unwrap().parse::<f64>().unwrap().is_finite())
}

/// Waits until this alert fires, or until it does not.
async fn wait_for_alert(prometheus: &Prometheus, name: &str, fires: bool) {
    let as_wanted = |firing: &Vec<String>| firing.iter().any(|firing| firing == name) == fires;
    eventually(2 * PATIENCE, as_wanted, async || prometheus.firing()).await;
}

#[tokio::test]
async fn every_panel_has_data_and_the_alerts_fire_and_end() {
    let scene = Scene::new(3).await.with_http().with("BREAKER_CONSECUTIVE", "50");
    let service = scene.start();
    let prometheus = prometheus(&service);
    wait_for_alert(&prometheus, "BookingHistoryNoInstance", false).await;

    // The rates need records in several samples. The table of the alerts has one, because letters are parked.
    scene.send(&Workload::mixed("monitoring", 200, 3).records).await;
    let mut rounds = 0;
    let mut without_data = queries();
    while !without_data.is_empty() {
        assert!(rounds < 100, "these panels have no data: {without_data:#?}");
        rounds += 1;
        scene.send_and_handle(&format!("round-{rounds}"), 30).await;
        without_data.retain(|(_, query)| !has_data(&prometheus.query(query)));
    }
    let instances = prometheus.label_values("instance", r#"booking_history_ready{job="booking-history"}"#);
    assert_eq!(instances, Value::from(vec![service.http_address()]));
    // No other alert fires. On a machine under load, a scrape can fail.
    let only_parked = |firing: &Vec<String>| firing == &["BookingHistoryDeadLettersParked"];
    eventually(PATIENCE, only_parked, async || prometheus.firing()).await;

    scene.send((0..60).map(|n| Outgoing::to(1, format!("poison {n}")))).await;
    wait_for_alert(&prometheus, "BookingHistoryHalted", true).await;
    wait_for_alert(&prometheus, "BookingHistoryNotReady", true).await;
    scene.command("offsets resume --partition 1");
    wait_for_alert(&prometheus, "BookingHistoryHalted", false).await;
    wait_for_alert(&prometheus, "BookingHistoryNotReady", false).await;
    scene.execute("select dead_letters_discard(array(select id from dead_letters), 'of a test')").await;
    eventually(PATIENCE, |firing: &Vec<String>| firing.is_empty(), async || prometheus.firing()).await;

    service.stop();
    wait_for_alert(&prometheus, "BookingHistoryNoInstance", true).await;
    wait_for_alert(&prometheus, "BookingHistoryInstanceDown", true).await;

    each_alert_names_a_command_and_its_section(&prometheus.rules());
}

fn each_alert_names_a_command_and_its_section(rules: &[Value]) {
    let page = pages::read(PAGE);
    let headings: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut names = BTreeSet::new();
    for rule in rules {
        let field = |pointer: &str| rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let name = field("/name");
        assert_eq!(field("/health"), "ok", "{name}: {}", field("/lastError"));
        assert!(["critical", "warning"].contains(&field("/labels/severity")), "{name} has no severity");
        assert!(!field("/annotations/summary").is_empty(), "{name} has no summary");
        let description = field("/annotations/description");
        assert!(description.contains("`booking-history ") || description.contains("`docker "), "{name}: no command");
        let paths = description.split(['(', ')', ' ', '#']).filter(|word| word.starts_with("docs/"));
        let paths: Vec<&str> = paths.map(|word| word.trim_end_matches(['.', ','])).collect();
        assert!(!paths.is_empty() && paths.iter().all(|path| pages::root().join(path).is_file()), "{name}: {paths:?}");
        assert_eq!(field("/annotations/page"), format!("{PAGE}#{}", name.to_lowercase()));
        names.insert(name);
    }
    assert_eq!(names, headings, "the alerts, and their sections in {PAGE}");
}

#[test]
fn the_dashboard_shows_every_metric() {
    let page = pages::read("docs/operate/metrics.md");
    let (_, table) = page.split_once("## All metrics").unwrap();
    let names = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    assert!(names.contains(&"records_total"), "{names:?}");
    let queries = queries();
    for name in names {
        let shown = queries.iter().any(|(_, query)| query.contains(&format!("booking_history_{name}")));
        assert!(shown, "no panel shows {name}");
    }
}

#[test]
fn the_kubernetes_manifests_name_only_settings_of_the_program() {
    let settings = pages::read(".env.example");
    let settings: BTreeSet<&str> = settings
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim_start_matches('#'))
        .collect();
    let is_setting = |name: &str| name.chars().all(|char| char.is_ascii_uppercase() || char == '_') && !name.is_empty();
    let mut named = Vec::new();
    for file in fs::read_dir(pages::root().join("deploy/kubernetes")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let keys = text.lines().filter_map(|line| line.trim_start_matches(['#', ' ']).split_once(':'));
        named.extend(keys.map(|(name, _)| name.to_owned()).filter(|name| is_setting(name)));
    }
    assert!(named.len() > 3, "{named:?}");
    assert!(named.iter().all(|name| settings.contains(name.as_str())), "{named:?}");
}
