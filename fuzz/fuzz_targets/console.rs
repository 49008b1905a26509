//! A console whose driver, keyboard and screen do anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::console(bytes);
});
