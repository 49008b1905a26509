//! Kernel files of all kinds, whole and damaged, for machines of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::loader(bytes);
});
