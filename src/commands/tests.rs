use super::*;

const ENV_EXAMPLE: &str = include_str!("../../.env.example");

/// The settings as clap knows them: name in the environment, default.
fn settings() -> Vec<(String, String)> {
    let command = CommandLine::described();
    let settings = command.get_arguments().filter_map(|arg| {
        let name = arg.get_env()?.to_str()?.to_owned();
        let default = arg.get_default_values().first().and_then(|value| value.to_str()).unwrap_or_default();
        Some((name, default.to_owned()))
    });
    settings.collect()
}

#[test]
fn clap_accepts_the_definition_of_the_arguments() {
    CommandLine::described().debug_assert();
}

#[test]
fn env_example_has_exactly_the_settings_with_their_defaults() {
    let lines = ENV_EXAMPLE.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
    let example: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, default)| (name.to_owned(), default.to_owned()))
        .collect();
    assert_eq!(example, settings());
}

#[test]
fn the_compose_file_passes_exactly_the_settings_on() {
    let lines = include_str!("../../docker/compose.include.yml").lines();
    let names = lines.filter_map(|line| line.strip_prefix("    - ")?.split('=').next());
    let settings = settings();
    assert_eq!(names.collect::<Vec<_>>(), settings.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
}

#[test]
fn the_page_of_settings_has_exactly_the_settings_with_their_defaults() {
    let rows = include_str!("../../docs/configuration.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = |row: &str| {
        let (name, rest) = row.split_once("` | ")?;
        let default = rest.split_once(" | ")?.0.trim_matches('`').to_owned();
        let is_setting = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        is_setting.then(|| (name.to_owned(), if default == "none" { String::new() } else { default }))
    };
    let described: Vec<_> = rows.filter_map(cells).collect();
    assert_eq!(described, settings());
}

#[test]
fn every_flag_is_its_variable_in_kebab_case() {
    for arg in CommandLine::described().get_arguments() {
        let Some(name) = arg.get_env().and_then(|name| name.to_str()) else { continue };
        assert_eq!(arg.get_long(), Some(name.to_lowercase().replace('_', "-").as_str()));
        assert!(arg.is_hide_env_values_set(), "help must not show the value of {name}");
    }
}

#[test]
fn a_flag_is_accepted_before_and_after_the_command() {
    let topic = |arguments: &[&str]| {
        let command = CommandLine::described().mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from(arguments).unwrap();
        CommandLine::from_arg_matches(&matches).unwrap().settings.kafka_topic
    };
    assert_eq!(topic(&["booking-history", "--kafka-topic", "a", "migrate", "status"]), "a");
    assert_eq!(topic(&["booking-history", "migrate", "--kafka-topic", "b", "up"]), "b");
    assert_eq!(topic(&["booking-history", "migrate", "up", "--kafka-topic=c"]), "c");
    assert_eq!(topic(&["booking-history", "migrate", "down", "2"]), "booking-events");
}

/// Each command and subcommand with its words, as help shows it.
fn every_command() -> Vec<(String, clap::Command)> {
    fn add(words: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
        for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
            let words = format!("{words} {}", one.get_name());
            add(&words, one, all);
            all.push((words.trim().to_owned(), one.clone().term_width(100)));
        }
    }
    let mut command = CommandLine::described();
    command.build();
    let mut all = vec![(String::new(), command.clone().term_width(100))];
    add("", &command, &mut all);
    all
}

#[test]
fn short_help_fits_on_one_screen_and_has_examples() {
    for (words, mut command) in every_command() {
        let help = command.render_help().to_string();
        assert!(help.lines().count() <= 40, "{words}: {} lines\n{help}", help.lines().count());
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{words}: {help}");
        assert!(help.contains(&format!("Examples:\n  booking-history {words}")), "{words}: {help}");
    }
}

#[test]
fn long_help_has_the_settings_that_the_command_uses_in_groups() {
    let check = |words: &str, headings: &[&str], shown: usize| {
        let (_, mut command) = every_command().into_iter().find(|(other, _)| other == words).unwrap();
        let help = command.render_long_help().to_string();
        let is_heading =
            |line: &&str| line.ends_with(':') && !line.starts_with(' ') && !matches!(*line, "Examples:" | "Options:");
        let found: Vec<&str> = help.lines().filter(is_heading).filter(|line| *line != "Arguments:").collect();
        assert_eq!(found, headings, "{help}");
        assert_eq!(help.matches("[env: ").count(), shown, "{help}");
    };
    let all = settings().len();
    check("run", &["Database:", "Kafka:", "Logs:", "Batches:", "Dead letters:", "HTTP:", "Start and stop:"], all);
    check("migrate down", &["Database:", "Logs:"], 5);
    check("offsets list", &["Database:", "Kafka:", "Logs:"], 10);
    check("check", &["Database:", "Kafka:", "Logs:"], 10);
    check("dead-letters show", &["Database:", "Kafka:", "Logs:"], 7);
}

#[test]
fn every_command_accepts_every_setting() {
    for (words, _) in every_command().into_iter().filter(|(_, command)| !command.has_subcommands()) {
        let argument = match words.as_str() {
            "dead-letters show" => " 0198a1c4-0000-7000-8000-000000000001",
            "offsets set" => " --all --to earliest",
            "offsets resume" => " --all",
            "completions" => " bash",
            "man" => " pages",
            _ => "",
        };
        let line = format!("booking-history {words}{argument} --writers 7");
        let command = CommandLine::described().mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from(line.split(' ')).unwrap();
        assert_eq!(CommandLine::from_arg_matches(&matches).unwrap().settings.writers, "7", "{line}");
    }
}

fn check_code(error: &CommandError, expected: i32) {
    assert_eq!(error.exit_code(), expected, "{error}");
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    check_code(&CommandError::Finding(String::new()), 1);
    check_code(&CommandError::Usage(String::new()), 2);
    check_code(&CommandError::Config(config::ConfigFaults::default()), 78);
    check_code(&CommandError::Unavailable(String::new()), 69);
    check_code(&CommandError::Internal(String::new()), 70);
}
