//! Device trees of any machine, read back by a parser of somebody else.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::fdt(bytes);
});
