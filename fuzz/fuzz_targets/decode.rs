//! `cargo fuzz run decode -s none`
#![no_main]

#[path = "../checks/decode.rs"]
mod decode;
#[path = "../checks/fixture.rs"]
mod fixture;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    decode::check(input);
});
