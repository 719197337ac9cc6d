//! `cargo fuzz run config -s none`
#![no_main]
#![allow(dead_code, unused_imports, reason = "the daemon's own modules, of which a part is used")]

#[path = "../../../src/bin/lastseen/args.rs"]
mod args;
#[path = "../../checks/config.rs"]
mod config;
mod http;
#[path = "../../../src/bin/lastseen/settings/mod.rs"]
mod settings;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    config::check(input);
});
