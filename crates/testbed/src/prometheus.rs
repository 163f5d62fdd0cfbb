//! A private Prometheus.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{Guardian, free_ports, http};

/// Long enough for a machine under load.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running Prometheus. It ends when this value is dropped or this process ends.
#[derive(Debug)]
pub struct Prometheus {
    _guardian: Guardian,
    address: String,
}

impl Prometheus {
    /// Starts a server on a free port of 127.0.0.1, in a directory that holds these files, by name and content. One of
    /// them is `prometheus.yml`.
    pub fn start(files: &[(&str, &str)]) -> Self {
        let guardian = Guardian::new("TERM", None).unwrap();
        for (name, content) in files {
            fs::write(guardian.directory().join(name), content).unwrap();
        }
        let [port] = free_ports().unwrap();
        let address = format!("127.0.0.1:{port}");
        let arguments = format!("--config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address={address}");
        guardian.start(&format!("exec prometheus {arguments} >>log 2>&1")).unwrap();
        let accepts = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let is_ready = || accepts() && http::get_whole(&address, "/-/ready").status == 200;
        guardian
            .wait_until(is_ready, PATIENCE, "log")
            .unwrap_or_else(|error| panic!("{error}\nTo install what is missing: make test"));
        Self { _guardian: guardian, address }
    }

    /// The series that an expression has now, each with `metric` and `value`.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        match self.get(&format!("query?query={}", encoded(expression))).get_mut("result").map(Value::take) {
            Some(Value::Array(series)) => series,
            other => panic!("{expression}: {other:?}"),
        }
    }

    /// The values of a label of the series that a selector matches.
    pub fn label_values(&self, label: &str, selector: &str) -> Value {
        self.get(&format!("label/{label}/values?match[]={}", encoded(selector)))
    }

    /// All rules of all groups.
    pub fn rules(&self) -> Vec<Value> {
        let data = self.get("rules");
        let groups = data.get("groups").and_then(Value::as_array).unwrap();
        groups.iter().flat_map(|group| group.get("rules").and_then(Value::as_array).unwrap()).cloned().collect()
    }

    /// The names of the alerts that fire now.
    pub fn firing(&self) -> Vec<String> {
        let name = |series: &Value| series.pointer("/metric/alertname").and_then(Value::as_str).unwrap().to_owned();
        self.query("group by (alertname) (ALERTS{alertstate=\"firing\"})").iter().map(name).collect()
    }

    fn get(&self, path: &str) -> Value {
        let answer = http::get_whole(&self.address, &format!("/api/v1/{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let mut answer: Value = serde_json::from_str(&answer.body).unwrap();
        answer.get_mut("data").map(Value::take).unwrap()
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
