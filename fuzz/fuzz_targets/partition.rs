//! Any bytes as actions of the simulation: two processes, one row, one partition log. Every record is handled exactly
//! once.
#![no_main]

use fenced_sink::simulation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| simulation::replay(bytes));
