//! `cargo fuzz run node -s none`
#![no_main]

#[path = "../checks/fixture.rs"]
mod fixture;
#[path = "../checks/input.rs"]
mod input;
#[path = "../checks/node.rs"]
mod node;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    node::check(input);
});
