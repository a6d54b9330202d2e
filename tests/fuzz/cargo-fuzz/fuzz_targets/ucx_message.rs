//! `zepto_fuzz::ucx_message` under libFuzzer: see there for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zepto_fuzz::ucx_message::run(input));
