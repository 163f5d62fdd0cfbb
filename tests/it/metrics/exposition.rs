//! A strict parser of the text format of Prometheus (0.0.4). It fails where a scraper or `promtool check metrics` would
//! only warn.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a panic is the report, and names the line")]

use std::collections::BTreeMap;

/// Each sample by its name and labels as printed, `name{label="value"}`.
pub type Samples = BTreeMap<String, f64>;

/// One family, as its `# HELP` and `# TYPE` lines define it.
struct Family<'t> {
    name: &'t str,
    kind: &'t str,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// All samples of a text. Fails if the text breaks a rule.
pub fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has no line break");
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(is_name(name, true) && !help.trim().is_empty(), "{line}");
        let line = lines.next().expect("a TYPE follows");
        let kind = line.strip_prefix(&format!("# TYPE {name} ")).expect(line);
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        assert!(families.iter().all(|family| family.name != name), "{name} occurs twice");
        let mut family = Family { name, kind, samples: Vec::new() };
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            family.samples.push(sample(line));
        }
        family.check();
        families.push(family);
    }
    let mut all = Samples::new();
    for sample in families.into_iter().flat_map(|family| family.samples) {
        let labels: Vec<String> = sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let series = if labels.is_empty() { sample.name } else { format!("{}{{{}}}", sample.name, labels.join(",")) };
        assert_eq!(all.insert(series.clone(), sample.value), None, "{series} occurs twice");
    }
    all
}

impl Family<'_> {
    fn check(&self) {
        for sample in &self.samples {
            let suffix = sample.name.strip_prefix(self.name).expect(&sample.name);
            let allowed: &[&str] = if self.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&suffix), "{} in {}", sample.name, self.name);
            assert!(sample.value >= 0.0, "{} is {}", sample.name, sample.value);
            assert_eq!(suffix == "_bucket", sample.labels.iter().any(|(name, _)| name == "le"), "{}", sample.name);
        }
        if self.kind == "histogram" {
            let of = |suffix: &'static str| self.samples.iter().filter(move |sample| sample.name.ends_with(suffix));
            let buckets: Vec<(f64, f64)> =
                of("_bucket").map(|sample| (number(&sample.labels[0].1), sample.value)).collect();
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{}: {buckets:?}", self.name);
            let (last, all) = *buckets.last().unwrap();
            assert!(last.is_infinite(), "{}", self.name);
            assert_eq!(of("_count").map(|sample| sample.value).collect::<Vec<_>>(), [all], "{}", self.name);
            assert_eq!(of("_sum").count(), 1, "{}", self.name);
        }
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, true), "{line}");
    let mut labels = Vec::new();
    if let Some(mut list) = rest.strip_prefix('{') {
        loop {
            let (label, after) = list.split_once("=\"").expect(line);
            assert!(is_name(label, false) && labels.iter().all(|(known, _)| known != label), "{line}");
            let (value, after) = label_value(after).expect(line);
            labels.push((label.to_owned(), value));
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            list = after.strip_prefix(',').expect(line);
        }
    }
    let value = number(rest.strip_prefix(' ').expect(line));
    Sample { name: name.to_owned(), labels, value }
}

/// The text up to the closing quote, and the text after it.
fn label_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            char => value.push(char),
        }
    }
    None
}

fn number(text: &str) -> f64 {
    if text == "+Inf" { f64::INFINITY } else { text.parse().expect(text) }
}

fn is_name(name: &str, colons: bool) -> bool {
    let is_letter = |char: char| char.is_ascii_alphabetic() || char == '_' || (colons && char == ':');
    let mut chars = name.chars();
    chars.next().is_some_and(is_letter) && chars.all(|char| is_letter(char) || char.is_ascii_digit())
}

#[test]
fn a_text_that_breaks_a_rule_is_refused() {
    let gauge = "# HELP a_b Help\n# TYPE a_b gauge\n";
    let histogram = "# HELP h Help\n# TYPE h histogram\n";
    let well = format!("{gauge}a_b{{c=\"d\\\"\\n\",e=\"\"}} 1\na_b{{c=\"d\",e=\"\"}} 2.5\n");
    let series = r#"a_b{c="d\"\n",e=""}"#;
    assert_eq!(parse(&well).get(series), Some(&1.0));
    let filled = "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 9.5\nh_count 3\n";
    assert_eq!(parse(&format!("{histogram}{filled}")).len(), 4);
    for wrong in [
        format!("{gauge}a_b 1"),
        format!("{gauge}a_b one\n"),
        format!("{gauge}a_b 1\na_b 1\n"),
        format!("{gauge}a_c 1\n"),
        format!("{gauge}a_b{{c=\"d\"e=\"\"}} 1\n"),
        format!("{gauge}a_b{{c=\"\\d\"}} 1\n"),
        format!("{gauge}a_b{{1c=\"d\"}} 1\n"),
        format!("{gauge}a_b 1\n{gauge}a_b{{c=\"d\"}} 1\n"),
        "# TYPE a_b gauge\na_b 1\n".to_owned(),
        "a_b 1\n".to_owned(),
        "# HELP a_b Help\n# TYPE a_b counter\na_b 1\n".to_owned(),
        "# HELP a_total Help\n# TYPE a_total counter\na_total -1\n".to_owned(),
        format!("{histogram}{}", filled.replace("h_count 3", "h_count 4")),
        format!("{histogram}{}", filled.replace("\"1\"} 1", "\"1\"} 4")),
        format!("{histogram}{}", filled.replace("h_bucket{le=\"+Inf\"} 3\n", "")),
    ] {
        assert!(std::panic::catch_unwind(|| parse(&wrong)).is_err(), "{wrong}");
    }
}
