//! Headless Chromium with one page, controlled by the `DevTools` protocol over two named pipes.
#![expect(clippy::indexing_slicing, reason = "a missing field of an answer is null")]

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Guardian;

/// Where `scripts/tools.sh` puts axe.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/axe/axe_playwright_python/axe.min.js");

/// A browser. It ends when this value is dropped, or when the test binary ends in any way.
pub struct Browser {
    pipes: RefCell<DevToolsPipes>,
    session: Value,
    _guardian: Guardian,
}

struct DevToolsPipes {
    commands: File,
    answers: BufReader<File>,
    calls: u64,
}

impl Browser {
    /// Opens a page of this size, in CSS pixels.
    pub fn open(url: &str, width: u32, height: u32) -> Self {
        let guardian = Guardian::new("TERM", None).unwrap();
        assert_eq!(guardian.run("mkfifo commands answers").unwrap(), 0);
        // A browser has no sandbox of its own as root. It shows only pages of the service.
        // The pipes close at its end, so a browser that hangs does not hold the test.
        let words = "exec timeout --kill-after=9 600 $(command -v chromium || command -v google-chrome) --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
                     --user-data-dir=\"$PWD/profile\" --remote-debugging-pipe about:blank 3<commands 4>answers 2>log";
        guardian.start(words).unwrap();
        // The browser opens its ends in the same order. Each `open` waits for the other end.
        let commands = File::options().write(true).open(guardian.directory().join("commands")).unwrap();
        let answers = BufReader::new(File::open(guardian.directory().join("answers")).unwrap());
        let pipes = RefCell::new(DevToolsPipes { commands, answers, calls: 0 });
        let mut browser = Self { pipes, session: Value::Null, _guardian: guardian };
        let page = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", &attach)["sessionId"].clone();
        browser.resize(width, height);
        browser.call("Page.navigate", &json!({"url": url}));
        browser
    }

    /// Changes the size of the page, in CSS pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Chooses the colours that the page shows: `light` or `dark`.
    pub fn prefer_colours(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// The value of a JavaScript expression, or of its promise.
    pub fn evaluate(&self, expression: &str) -> Value {
        let arguments = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", &arguments);
        assert_eq!(answer.get("exceptionDetails"), None, "{expression:.200}");
        answer["result"]["value"].take()
    }

    /// The visible text of the page.
    pub fn text(&self) -> String {
        self.evaluate("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// The rules of accessibility that the page violates, each with its elements.
    pub fn axe_violations(&self) -> Vec<Value> {
        let axe = fs::read_to_string(AXE).unwrap_or_else(|error| panic!("{AXE}: {error}: scripts/tools.sh"));
        self.evaluate(&format!("{axe}; 0"));
        let run = "axe.run().then(found => found.violations.map(one => [one.id, ...one.nodes.map(node => node.html)]))";
        self.evaluate(run).as_array().unwrap().clone()
    }

    /// Writes a picture of the page as a PNG file.
    pub fn screenshot(&self, file: &Path) {
        let picture = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        fs::write(file, STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()).unwrap();
    }

    /// Calls a method of the protocol and waits for its result. Messages end with a zero byte.
    fn call(&self, method: &str, parameters: &Value) -> Value {
        let mut pipes = self.pipes.borrow_mut();
        pipes.calls += 1;
        let id = pipes.calls;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        pipes.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = Vec::new();
            pipes.answers.read_until(0, &mut answer).unwrap();
            answer.pop();
            let mut answer: Value = serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("chromium has ended"));
            if answer["id"] == id {
                assert_eq!(answer.get("error"), None, "{method}");
                return answer["result"].take();
            }
        }
    }
}
