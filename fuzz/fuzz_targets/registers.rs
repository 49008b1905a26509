//! The register file under two vCPUs that write anything anywhere, with a device at work behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::registers(bytes);
});
