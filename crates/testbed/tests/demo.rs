//! The demo succeeds, and prints what the documentation shows.

use std::process::Command;

#[test]
fn the_demo_accounts_for_every_record_and_prints_what_its_page_shows() {
    let demo = Command::new(env!("CARGO_BIN_EXE_demo")).arg("--no-wait").output().unwrap();
    let text = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success(), "{text}{}", String::from_utf8_lossy(&demo.stderr));
    let (shown, further) = text.split_once("\nLook further:").unwrap();
    assert!(further.contains("psql"), "{further}");
    let lines: Vec<String> = shown.lines().map(str::to_owned).collect();
    testbed::pages::check("docs/guarantee.md", "demo", &lines);
}
