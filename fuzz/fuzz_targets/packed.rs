//! The packed ring under arbitrary memory and operations, with indirect tables.
#![no_main]

use cubie_fuzz::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: Script| {
    cubie_fuzz::packed(&script);
});
