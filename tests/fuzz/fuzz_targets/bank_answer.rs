//! Whatever a bank answers: no panic, and what can be read is read the same way twice.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::bank_answer(bytes));
