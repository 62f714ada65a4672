//! Whatever is sent as a cursor: no panic, and nothing that was made up is taken for one of ours.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::cursor(bytes));
