//! The split ring and rust-vmm's under the same guest.
#![no_main]

use cubie_fuzz::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: Script| {
    cubie_fuzz::differential(&script);
});
