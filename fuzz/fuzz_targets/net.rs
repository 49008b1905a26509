//! A network card whose driver and cable do anything, beside a model of what may pass.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::net(bytes);
});
