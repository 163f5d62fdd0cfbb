//! Completions and man pages, as the tools that read them see them.

use std::fs;
use std::process::Command;

use testbed::service::program;

/// The output of a shell command, which must succeed: standard output and standard error.
fn shell(command: &str) -> String {
    let output = Command::new("bash").args(["-c", &format!("exec 2>&1\n{command}")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command}: {text}");
    text
}

#[test]
fn bash_completes_commands_settings_and_values() {
    let script = format!("source <('{}' completions bash)", program());
    let complete = |words: &[&str]| {
        let [.., before, last] = words else { panic!("{words:?}") };
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let state = format!("COMP_WORDS=({}); COMP_CWORD={}", quoted.join(" "), words.len() - 1);
        // As bash calls it: the function stands in `complete -p`.
        let call = "$(complete -p booking-history | sed 's/.* -F \\([^ ]*\\) .*/\\1/')";
        let text = shell(&format!(
            "{script}; {state}; {call} booking-history '{last}' '{before}'; echo \"${{COMPREPLY[*]}}\""
        ));
        text.trim().to_owned()
    };
    assert_eq!(complete(&["booking-history", "offsets", "l"]), "list");
    assert_eq!(complete(&["booking-history", "offsets", "list", "--output", ""]), "table json");
    assert_eq!(complete(&["booking-history", "run", "--wri"]), "--writers");
    for shell in ["zsh", "fish"] {
        let script = Command::new(program()).args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8(script.stdout).unwrap().contains("offsets"), "{shell}");
    }
}

#[test]
fn each_command_has_a_man_page_that_groff_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let status = Command::new(program()).arg("man").arg(&pages).status().unwrap();
    assert!(status.success());
    let files: Vec<_> = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 12, "{files:?}");
    for file in files {
        let warnings = shell(&format!("groff -man -ww -Kutf8 -Tutf8 -z '{}'", file.display()));
        assert_eq!(warnings, "", "{file:?}");
    }
    let page = shell(&format!(
        "groff -man -Kutf8 -Tutf8 '{}/booking-history-run.1' | sed 's/\x1b\\[[0-9;]*m//g'",
        pages.display()
    ));
    for part in ["--until-end", "--writers", "The number of database connections that commit", "Examples:"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
