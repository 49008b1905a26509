//! Frames of any kind from a guest in a network without privileges, and anything from the world outside.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::user_net(bytes);
});
