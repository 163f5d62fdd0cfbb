use proptest::prelude::*;
use proptest::sample::Index;

use super::{Action, Simulation, replay};

fn action() -> impl Strategy<Value = Action> {
    use Action::*;
    prop_oneof![
        30 => Just(Continue),
        2 => Just(Assign),
        1 => Just(Revoke),
        4 => Just(BeginClaim),
        4 => any::<bool>().prop_map(|answered| Claim { answered }),
        5 => Just(StartReading),
        5 => (1_usize..6).prop_map(Deliver),
        5 => (1_usize..5).prop_map(BeginCommit),
        5 => (any::<bool>(), any::<bool>()).prop_map(|(arrives, answered)| Commit { arrives, answered }),
        3 => Just(RollBack),
        3 => Just(BeginRowRead),
        3 => Just(EndRowRead),
        1 => Just(CorruptBatch),
        1 => Just(LogFault),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(arrives, answered)| RecordLogFault { arrives, answered }),
        1 => Just(Stop),
        1 => any::<bool>().prop_map(Halt),
        1 => Just(FindNoRow),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_handled_exactly_once_in_any_order_of_actions(
        actions in prop::collection::vec((any::<Index>(), action()), 0..300)
    ) {
        let mut simulation = Simulation::new();
        for (process, action) in &actions {
            simulation.step(process.index(2), action);
        }
        simulation.recover();
    }
}

#[test]
fn the_fuzz_seeds_hold() {
    let seeds = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/partition")).expect("seeds");
    let seeds: Vec<_> = seeds.map(|seed| std::fs::read(seed.expect("a seed").path()).expect("bytes")).collect();
    assert!(seeds.len() >= 10);
    for seed in &seeds {
        replay(seed);
    }
}
