//! How fast the records that wait in a topic are handled.

use crate::events::{Expected, Load};
use crate::report::Row;
use crate::scenarios::Base;
use crate::stage::{Collation, Program, Run, Stage, verify};
use testbed::unique;

/// One program in one round.
struct Handled {
    run: Run,
    /// The records per second of the run before, if the load was handled twice.
    first: Option<f64>,
    verified: Option<f64>,
}

/// The base and the programs run in turns, each on tables of its own, checked to the last row.
pub async fn measure(
    stage: &Stage,
    programs: &[Program],
    load: Load,
    collation: Collation,
    base: Base,
    rounds: usize,
    rows: &mut [Row],
) {
    let mut bases: Vec<Run> = Vec::new();
    let mut handled: Vec<Vec<Handled>> = programs.iter().map(|_| Vec::new()).collect();
    println!("round  records/s   CPU s per M records: own  PostgreSQL  Kafka   peak MiB  others");
    for round in 1..=rounds {
        // The first of a round meets another state of the disk than those that follow, so the order changes.
        let contestants = programs.len() + 1;
        for turn in 0..contestants {
            if let Some(index) = ((turn + round - 1) % contestants).checked_sub(1) {
                let one = handle(stage, &programs[index], load, collation, base).await;
                println!("{round:>5}{}   {}", line(&one.run), rows[index].name);
                handled[index].push(one);
            } else if base != Base::FirstRun {
                let run = match base {
                    Base::Copy => stage.copy(load, collation).await,
                    _ => handle(stage, &programs[0], load.without_faults(), collation, base).await.run,
                };
                println!("{round:>5}{}   {}", line(&run), base.words());
                bases.push(run);
            }
        }
    }
    for (row, handled) in rows.iter_mut().zip(&handled) {
        let base_rates = || bases.iter().map(|base| base.records_per_second);
        let base_rates: Vec<f64> = handled.iter().filter_map(|one| one.first).chain(base_rates()).collect();
        let each = |figure: fn(&Run) -> f64| handled.iter().map(move |one| figure(&one.run));
        row.add("records/s", "", each(|run| run.records_per_second));
        let ratios = each(|run| run.records_per_second).zip(base_rates).map(|(rate, base)| rate / base);
        row.add(&format!("times {}", base.words()), "", ratios);
        row.add("own CPU", "s per M", each(|run| run.own));
        row.add("PostgreSQL CPU", "s per M", each(|run| run.postgres));
        row.add("Kafka CPU", "s per M", each(|run| run.kafka));
        if base == Base::Copy {
            let base_cpu = || bases.iter().map(|base| base.own + base.postgres);
            let shares = |figure: fn(&Run) -> f64| each(figure).zip(base_cpu()).map(|(cpu, base)| cpu / base);
            row.add("own CPU, times \\copy", "", shares(|run| run.own));
            row.add("PostgreSQL CPU, times \\copy", "", shares(|run| run.postgres));
        }
        row.add("peak memory", "MiB", handled.iter().filter_map(|one| Some(one.run.memory?.peak)));
        row.add("others", "%", each(|run| run.others));
        let verified = |one: &Handled| Some(one.verified? / one.run.records_per_second);
        row.add("verify, times the service", "", handled.iter().filter_map(verified));
    }
}

/// Handles all records into new tables: once, or twice if the second run is the one to measure.
async fn handle(stage: &Stage, program: &Program, load: Load, collation: Collation, base: Base) -> Handled {
    let (name, mut scene) = stage.scene_in(stage.topic(load).await, collation).await;
    let expected = load.expected();
    let mut run = stage.handle(program, &scene, load, expected).await;
    let mut first = None;
    if base == Base::FirstRun {
        first = Some(run.records_per_second);
        scene = scene.with_group(&unique("group"));
        let again = Expected { rows: 0, duplicates: expected.rows, ..expected };
        run = stage.handle(program, &scene, load, again).await;
    }
    // `verify` counts dead letters and duplicates in other ways, which its tests check.
    let verified = (base == Base::Copy).then(|| verify(program, &scene, load.records));
    stage.drop_database(&name).await;
    Handled { run, first, verified }
}

fn line(run: &Run) -> String {
    let Run { records_per_second, own, postgres, kafka, others, memory } = run;
    let peak = memory.map_or("-".to_owned(), |memory| format!("{:.0}", memory.peak));
    format!("{records_per_second:>11.0} {own:>26.2} {postgres:>11.2} {kafka:>6.2} {peak:>10} {others:>5.0} %")
}
