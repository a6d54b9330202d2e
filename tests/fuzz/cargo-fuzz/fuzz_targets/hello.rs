//! `zepto_fuzz::hello` under libFuzzer: see there for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zepto_fuzz::hello::run(input));
