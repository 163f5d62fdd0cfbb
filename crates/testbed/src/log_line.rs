//! One line of the service's log, in either format: its event and its fields.

use std::collections::BTreeMap;

use serde_json::Value;

/// What the service logged in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub time: String,
    pub level: String,
    /// The fixed name of the event.
    pub event: String,
    /// The fields by name, without quotes and escapes.
    pub fields: BTreeMap<String, String>,
    /// The path of the module that logged it.
    pub module: String,
}

impl LogLine {
    /// `None` if the line is no event, such as the error that a command ends with.
    pub fn parse(line: &str) -> Option<Self> {
        if line.starts_with('{') { Self::parse_json(line) } else { Self::parse_text(line) }
    }

    /// The value of a field; panics if the line does not have it.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("no field {name} in {self:#?}"))
    }

    /// Whether the line has each of these fields with this value.
    pub fn has(&self, fields: &[(&str, &str)]) -> bool {
        fields.iter().all(|(name, value)| self.fields.get(*name).is_some_and(|found| found == value))
    }

    /// `TIME [LEVEL] EVENT name=value name="quoted value" [MODULE:LINE]`
    fn parse_text(line: &str) -> Option<Self> {
        let (time, rest) = line.split_once(" [")?;
        let (level, rest) = rest.split_once("] ")?;
        let (rest, source) = rest.strip_suffix(']')?.rsplit_once(" [")?;
        let (module, _) = source.rsplit_once(':')?;
        let (event, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = rest.split_once('=') {
            let (value, after) = text_value(value)?;
            fields.insert(name.to_owned(), value);
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        let owned = str::to_owned;
        let (level, module) = (level.trim_end().to_owned(), owned(module));
        Some(Self { time: owned(time), level, event: owned(event), fields, module })
    }

    fn parse_json(line: &str) -> Option<Self> {
        let Value::Object(mut object) = serde_json::from_str(line).ok()? else { return None };
        let mut take = |name| match object.remove(name)? {
            Value::String(text) => Some(text),
            value => Some(value.to_string()),
        };
        let (time, level, event, module) = (take("timestamp")?, take("level")?, take("event")?, take("module")?);
        take("line")?;
        let names: Vec<String> = object.keys().cloned().collect();
        let fields = names.into_iter().map(|name| {
            let value = object.remove(&name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
            (name, value.unwrap_or_default())
        });
        Some(Self { time, level, event, fields: fields.collect(), module })
    }
}

/// The value at the beginning of a text, and what follows it.
fn text_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::LogLine;

    #[test]
    fn a_line_has_the_same_content_in_both_formats() {
        let text =
            r#"2026-02-15T14:37:35.123456Z [info     ] event partition=1 hint="wait, or \"stop\" = [it]" [a::b:7]"#;
        let json = r#"{"timestamp":"2026-02-15T14:37:35.123456Z","level":"info","event":"event","partition":1,"hint":"wait, or \"stop\" = [it]","module":"a::b","line":7}"#;
        let line = LogLine::parse(text).unwrap();
        assert_eq!(Some(&line), LogLine::parse(json).as_ref());
        assert_eq!((line.level.as_str(), line.event.as_str(), line.module.as_str()), ("info", "event", "a::b"));
        assert_eq!((line.field("partition"), line.field("hint")), ("1", "wait, or \"stop\" = [it]"));
        assert!(line.has(&[("partition", "1")]) && !line.has(&[("partition", "2")]) && !line.has(&[("offset", "1")]));
    }

    #[test]
    fn a_text_that_is_no_event_is_not_parsed() {
        for line in ["", "error: the schema is older", r#"{"offset":1}"#, "[1]", "a [info] b [c]"] {
            assert_eq!(LogLine::parse(line), None, "{line}");
        }
    }
}
