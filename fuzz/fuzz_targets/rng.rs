//! A random source that fails now and then, in any buffers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::rng(bytes);
});
