//! `cargo fuzz run records -s none`
#![no_main]

#[path = "../checks/fixture.rs"]
mod fixture;
#[path = "../checks/input.rs"]
mod input;
#[path = "../checks/records.rs"]
mod records;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    records::check(input);
});
