//! Any bytes as happenings in the world of the property test: two processes, one row, one log, and every record is
//! handled exactly once.
#![no_main]

use fenced_sink::simulation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| simulation::replay(bytes));
