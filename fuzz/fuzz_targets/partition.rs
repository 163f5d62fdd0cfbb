//! Any bytes as happenings in the world of the property test: two processes, one row, one log, and every record is
//! handled exactly once.
#![no_main]

// What the world finds under `crate` in the library.
use booking_history::engine;
use libfuzzer_sys::fuzz_target;

#[path = "../../src/engine/partition/tests/world.rs"]
mod world;

fuzz_target!(|bytes: &[u8]| world::replay(bytes));
