//! A disk whose driver asks for anything, beside a model of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::block(bytes);
});
