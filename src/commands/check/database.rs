//! The parts of `check` that ask `PostgreSQL`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fenced_sink::admin::{
    ColumnCollation, PartitionRow, ServerFacts, ServerProblem, Session, SessionSetting, connect_and_check,
    language_collations, nearly_full_columns, session_settings,
};
use fenced_sink::{DatabaseServers, Event as _};
use sqlx::Connection as _;

use super::super::failure::DatabaseProblem;
use super::super::{SchemaState, database::missing_grants_of, offsets, schema_state};
use super::report::{CheckLine, CheckResult, complete};
use crate::booking::{Booking, IdSequence, id_sequence};
use crate::config::Settings;

/// Each server: connect and log in.
const CONNECTION: &str = "database_connection";
const SESSION: &str = "database_session";
const VERSION: &str = "database_version";
const WRITABLE: &str = "database_writable";
const ENCODING: &str = "database_encoding";
const CLOCK: &str = "database_clock";
const SETTINGS: &str = "database_settings";
const SCHEMA: &str = "database_schema";
const PRIVILEGES: &str = "database_privileges";
const COLLATION: &str = "database_collation";
const SEQUENCE: &str = "database_sequence";

const PARTS: [&str; 11] =
    [CONNECTION, SESSION, VERSION, WRITABLE, ENCODING, CLOCK, SETTINGS, SCHEMA, PRIVILEGES, COLLATION, SEQUENCE];

/// The oldest version that the tests use.
const OLDEST_VERSION: i32 = 140_000;

/// A larger difference between the clocks makes times in logs and metrics misleading.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(2);

/// What the parts found.
pub(super) struct DatabaseChecks {
    pub(super) lines: Vec<CheckLine>,
    /// The stored positions, or the part because of which they can't be read.
    pub(super) rows: Result<Vec<PartitionRow>, &'static str>,
}

/// Checks all parts. Each statement and each connect ends within the limit.
pub(super) async fn check(settings: &Settings, limit: Duration) -> DatabaseChecks {
    let servers = settings.database.servers();
    let target = settings.database.to_string();
    let mut lines = check_servers(servers, limit).await;
    let mut rows = Err(CONNECTION);
    if lines.iter().any(|line| line.result == CheckResult::Ok) {
        let found = match connect_and_check(servers, limit).await {
            Err(error) => Err(Stopped::Error(SESSION, error)),
            Ok((_, problems)) if problems.contains(&ServerProblem::SharedSession) => {
                lines.push(problem(SESSION, &target, &ServerProblem::SharedSession));
                Err(Stopped::After(SESSION))
            }
            Ok((mut session, problems)) => {
                lines.push(CheckLine::ok(SESSION, &target, "each connection has a session of its own"));
                lines.push(match problems.first() {
                    Some(found) => problem(ENCODING, &target, found),
                    None => CheckLine::ok(ENCODING, &target, "the encoding has every character"),
                });
                check_session(&mut session, settings, &target, &mut lines).await
            }
        };
        rows = found.map_err(|stopped| match stopped {
            Stopped::After(part) => part,
            Stopped::Error(part, error) => {
                lines.push(failed(part, &target, &error));
                part
            }
        });
    }
    complete(&mut lines, &PARTS, &target, rows.as_ref().err().unwrap_or(&SCHEMA));
    DatabaseChecks { lines, rows }
}

/// Why the parts that follow are not checked.
enum Stopped {
    /// They need this part, which has its line.
    After(&'static str),
    /// The question of this part has no answer. The state of the connection is unknown.
    Error(&'static str, sqlx::Error),
}

/// Connects to each server alone. If one answers, a server that does not is only a warning: the others can take over.
async fn check_servers(servers: &DatabaseServers, limit: Duration) -> Vec<CheckLine> {
    let checks: Vec<_> =
        servers.each().map(|(address, server)| tokio::spawn(check_server(address, server, limit))).collect();
    let mut lines = Vec::new();
    for check in checks {
        lines.extend(check.await);
    }
    if lines.iter().any(|line| line.result == CheckResult::Ok) {
        for line in &mut lines {
            if line.result == CheckResult::Failed {
                line.result = CheckResult::Warning;
            }
        }
    }
    lines
}

async fn check_server(address: String, server: DatabaseServers, limit: Duration) -> CheckLine {
    match server.connect(limit).await {
        Err(error) => failed(CONNECTION, &address, &error),
        Ok(mut connection) => {
            // A pooler that shares sessions can refuse this statement. The next part recognises it.
            let facts = tokio::time::timeout(limit, ServerFacts::read(&mut connection)).await;
            let kind = match facts {
                Ok(Ok(ServerFacts { in_recovery: true, .. })) => ": a standby",
                Ok(Ok(ServerFacts { read_only: true, .. })) => ": read-only",
                Ok(Ok(_)) => ": a primary that can write",
                Ok(Err(_)) | Err(_) => "",
            };
            // The answer does not matter: the check has its result.
            tokio::time::timeout(limit, connection.close()).await.ok();
            CheckLine::ok(CONNECTION, address, format!("connected and logged in{kind}"))
        }
    }
}

/// The parts that need a session. Returns the stored positions.
async fn check_session(
    session: &mut Session,
    settings: &Settings,
    target: &str,
    lines: &mut Vec<CheckLine>,
) -> Result<Vec<PartitionRow>, Stopped> {
    let stopped = |part| move |error| Stopped::Error(part, error);
    let before = Utc::now();
    let facts = session.run(ServerFacts::read).await.map_err(stopped(VERSION))?;
    let after = Utc::now();
    lines.push(version(target, &facts));
    lines.push(writable(target, &facts));
    lines.push(clock(target, difference(before, facts.now, after)));
    let found = session.run(session_settings).await.map_err(stopped(SETTINGS))?;
    lines.push(role_settings(target, &found));

    let state = match session.run(schema_state).await {
        Ok(state) => Some(state),
        // The privilege can be missing. The line of the privileges has the grant.
        Err(error) if error.as_database_error().is_some() => {
            lines.push(failed(SCHEMA, target, &error));
            None
        }
        Err(error) => return Err(Stopped::Error(SCHEMA, error)),
    };
    lines.extend(state.as_ref().map(|state| schema(target, state)));
    if state == Some(SchemaState::Missing) {
        return Err(Stopped::After(SCHEMA));
    }
    let grants = session.run(missing_grants_of).await.map_err(stopped(PRIVILEGES))?;
    lines.push(privileges(target, &grants));
    let keys = [("booking_history", "booking_id")];
    let found = session.run(|connection| language_collations(connection, &keys)).await;
    lines.push(collation(target, &found.map_err(stopped(COLLATION))?));
    if !grants.is_empty() {
        return Err(Stopped::After(PRIVILEGES));
    }
    if state != Some(SchemaState::Current) {
        return Err(Stopped::After(SCHEMA));
    }
    let ledger = offsets::ledger(settings);
    let rows = session.run(|connection| ledger.partition_rows(connection, None)).await.map_err(stopped(SCHEMA))?;
    // The last one: in a partitioned table, the largest id can take longer than the limit.
    let full = session.run(|connection| nearly_full_columns(connection, Booking::PRIVILEGES)).await;
    let full = full.map_err(stopped(SEQUENCE))?;
    match session.run(id_sequence).await {
        Ok(found) => lines.push(sequence(target, found.as_ref(), full.first().map(ToString::to_string))),
        Err(error) => lines.push(failed(SEQUENCE, target, &error)),
    }
    Ok(rows)
}

fn failed(part: &'static str, target: &str, error: &sqlx::Error) -> CheckLine {
    let DatabaseProblem { error, hint, .. } = DatabaseProblem::of(error);
    let line = CheckLine::failed(part, target, error);
    CheckLine { hint, ..line }
}

fn problem(part: &'static str, target: &str, problem: &ServerProblem) -> CheckLine {
    CheckLine::failed(part, target, problem.finding()).hint(problem.hint())
}

fn version(target: &str, facts: &ServerFacts) -> CheckLine {
    let text = format!("PostgreSQL {}", facts.version_text);
    if facts.version < OLDEST_VERSION {
        CheckLine::failed(VERSION, target, text).hint("use PostgreSQL 14 or newer")
    } else {
        CheckLine::ok(VERSION, target, text)
    }
}

fn writable(target: &str, facts: &ServerFacts) -> CheckLine {
    match facts {
        ServerFacts { in_recovery: true, .. } => CheckLine::failed(WRITABLE, target, "the server is a standby")
            .hint("DATABASE_URL must name the primary, or all servers as host1,host2"),
        ServerFacts { read_only: true, .. } => {
            CheckLine::failed(WRITABLE, target, "transactions are read-only by default").hint(
                "reset default_transaction_read_only of the server, the database or the role (`alter role … reset \
                 default_transaction_read_only`)",
            )
        }
        _ => CheckLine::ok(WRITABLE, target, "a primary that can write"),
    }
}

/// How far the clock of the server is ahead of this machine. Within the time of the question it is unknown, so it is 0.
fn difference(before: DateTime<Utc>, server: DateTime<Utc>, after: DateTime<Utc>) -> TimeDelta {
    if server < before {
        server - before
    } else if server > after {
        server - after
    } else {
        TimeDelta::zero()
    }
}

fn clock(target: &str, ahead: TimeDelta) -> CheckLine {
    let seconds = format!("{}.{:03} s", ahead.abs().num_seconds(), ahead.abs().subsec_nanos() / 1_000_000);
    let text = match ahead {
        ahead if ahead > TimeDelta::zero() => format!("the database is {seconds} ahead of this machine"),
        ahead if ahead < TimeDelta::zero() => format!("the database is {seconds} behind this machine"),
        _ => "the database and this machine have the same time".to_owned(),
    };
    if ahead.abs() > CLOCK_TOLERANCE {
        CheckLine::warning(CLOCK, target, text).hint("synchronise the clocks (NTP): times in logs and tables differ")
    } else {
        CheckLine::ok(CLOCK, target, text)
    }
}

/// The service replaces `statement_timeout`, `lock_timeout` and `idle_in_transaction_session_timeout` in its sessions.
fn role_settings(target: &str, found: &[SessionSetting]) -> CheckLine {
    let list = |found: &[&SessionSetting]| {
        found.iter().map(|setting| format!("{}={}", setting.name, setting.value)).collect::<Vec<_>>().join(", ")
    };
    let (disturbs, replaced): (Vec<_>, Vec<_>) = found.iter().partition(|setting| {
        matches!(
            setting.name.as_str(),
            "idle_session_timeout" | "transaction_timeout" | "default_transaction_isolation"
        )
    });
    if !disturbs.is_empty() {
        let text = format!("sessions begin with {}", list(&disturbs));
        return CheckLine::warning(SETTINGS, target, text).hint(
            "the server can end connections or transactions of the service, which then tries again; reset them for this \
             role (`alter role … reset …`)",
        );
    }
    let text = if replaced.is_empty() {
        "no time limit of the role or the database".to_owned()
    } else {
        format!("the service replaces {} in its sessions", list(&replaced))
    };
    CheckLine::ok(SETTINGS, target, text)
}

fn schema(target: &str, state: &SchemaState) -> CheckLine {
    let finding = state.finding();
    match state.hint() {
        None => CheckLine::ok(SCHEMA, target, finding),
        Some(hint) => CheckLine::failed(SCHEMA, target, finding).hint(hint),
    }
}

fn privileges(target: &str, grants: &[String]) -> CheckLine {
    if grants.is_empty() {
        CheckLine::ok(PRIVILEGES, target, "the user has all privileges that `run` needs")
    } else {
        CheckLine::failed(PRIVILEGES, target, "the user lacks privileges").hint(grants.join(" "))
    }
}

fn collation(target: &str, found: &[ColumnCollation]) -> CheckLine {
    let columns: Vec<String> =
        found.iter().map(|one| format!("{}.{} has the collation {}", one.table, one.column, one.collation)).collect();
    let Some(first) = found.first() else {
        return CheckLine::ok(COLLATION, target, "the keys are compared byte by byte");
    };
    let hint = format!(
        "drop the views that use the column, then run `alter table {} alter column {} type text collate \"C\"`: an upgrade of \
         the C library can change another order, and then an index can miss a row",
        first.table, first.column
    );
    let text = columns.join("; ");
    if found.iter().all(|one| one.deterministic) {
        CheckLine::warning(COLLATION, target, text).hint(hint)
    } else {
        CheckLine::failed(COLLATION, target, format!("{text}; different keys can be equal")).hint(hint)
    }
}

/// `full`: the warning about a column that has few numbers left.
fn sequence(target: &str, found: Option<&IdSequence>, full: Option<String>) -> CheckLine {
    let Some(IdSequence { sequence, next, largest }) = found else {
        // A trigger or a function can give the ids.
        return CheckLine::not_visible(SEQUENCE, target, "the sequence of booking_history.id is not known");
    };
    match (next, largest, full) {
        (Some(next), Some(largest), _) if next <= largest => CheckLine::failed(
            SEQUENCE,
            target,
            format!("the next number of {sequence} is {next}, and the largest id in booking_history is {largest}"),
        )
        .hint(format!("run `select setval('{sequence}', (select max(id) from booking_history))`")),
        (_, _, Some(full)) => CheckLine::warning(SEQUENCE, target, full),
        (None, ..) => CheckLine::not_visible(SEQUENCE, target, format!("the user may not read {sequence}"))
            .hint(format!("optional: grant select on sequence {sequence}")),
        (Some(next), ..) => CheckLine::ok(SEQUENCE, target, format!("the next number of {sequence} is {next}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &CheckLine, result: CheckResult, words: &str) {
        let text = format!("{}; {}", line.detail, line.hint.as_deref().unwrap_or_default());
        assert_eq!(line.result, result, "{text}");
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn a_clock_differs_only_outside_the_time_of_the_question() {
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        assert_eq!(difference(at(1_000), at(1_500), at(2_000)), TimeDelta::zero());
        assert_eq!(difference(at(1_000), at(2_500), at(2_000)), TimeDelta::milliseconds(500));
        assert_eq!(difference(at(1_000), at(400), at(2_000)), TimeDelta::milliseconds(-600));
        check(&clock("t", TimeDelta::milliseconds(-600)), CheckResult::Ok, "0.600 s behind");
        check(&clock("t", TimeDelta::milliseconds(61_001)), CheckResult::Warning, "61.001 s ahead");
    }

    #[test]
    fn a_setting_that_the_service_does_not_replace_is_a_warning() {
        let setting = |name: &str| SessionSetting { name: name.to_owned(), value: "5ms".to_owned() };
        check(&role_settings("t", &[]), CheckResult::Ok, "no time limit");
        check(&role_settings("t", &[setting("lock_timeout")]), CheckResult::Ok, "replaces lock_timeout=5ms");
        let both = [setting("lock_timeout"), setting("idle_session_timeout")];
        check(&role_settings("t", &both), CheckResult::Warning, "begin with idle_session_timeout=5ms; ");
    }

    #[test]
    fn an_old_version_fails() {
        let facts = |version| ServerFacts {
            version,
            version_text: "13.9".to_owned(),
            in_recovery: false,
            read_only: false,
            now: DateTime::UNIX_EPOCH,
        };
        check(&version("t", &facts(130_009)), CheckResult::Failed, "14 or newer");
        check(&version("t", &facts(140_000)), CheckResult::Ok, "PostgreSQL");
    }
}
