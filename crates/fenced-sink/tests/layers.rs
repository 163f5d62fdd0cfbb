//! The layers of the engine, and which layers each may use. The compiler does not check layers inside a crate, so this
//! test reads the paths in the code.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::fs;
use std::path::{Path, PathBuf};

/// A layer and the layers that it may use. A single file is a layer, too.
const LAYERS: [(&str, &[&str]); 8] = [
    ("model", &[]),
    ("event", &["model"]),
    ("observe", &["model"]),
    ("kafka", &["model", "event"]),
    ("postgres", &["model", "event"]),
    ("pipeline", &["model", "event", "observe", "kafka", "postgres"]),
    ("verify", &["model", "event", "kafka", "postgres", "pipeline"]),
    ("admin", &["model", "kafka", "postgres"]),
];

/// A crate and the one place that may name it.
const CRATES: [(&str, &str); 3] =
    [("rdkafka::", "kafka/"), ("sqlx::query", "postgres/"), ("use backoff::", "postgres/retry.rs")];

#[test]
fn a_layer_uses_only_the_layers_that_it_may_use() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for (path, text) in sources() {
        let layer = path.split(['/', '.']).next().unwrap().to_owned();
        let Some((_, may_use)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            assert_eq!(path, "lib.rs", "this file is in no layer");
            continue;
        };
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1).filter_map(|rest| rest.split("::").next()) {
                checked += 1;
                if used != layer && !may_use.contains(&used) {
                    wrong.push(format!("{path}: {line}"));
                }
            }
        }
    }
    assert!(checked > 200, "imports were found");
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_crate_is_named_in_one_place() {
    for (name, place) in CRATES {
        let users: Vec<String> =
            sources().into_iter().filter(|(_, text)| text.contains(name)).map(|(path, _)| path).collect();
        assert!(!users.is_empty(), "{name} is named");
        let elsewhere: Vec<&String> = users.iter().filter(|path| !path.starts_with(place)).collect();
        assert_eq!(elsewhere, [""; 0], "{name} is named in {place} only");
    }
}

/// Each file below `src` with its path and its text up to the tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut open, mut found): (Vec<PathBuf>, Vec<_>) = (vec![root.clone()], Vec::new());
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            found.push((path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), code));
        }
    }
    found
}
