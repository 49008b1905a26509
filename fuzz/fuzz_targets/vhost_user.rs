//! A vhost-user daemon whose front-end says anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    cubie_fuzz::vhost_user(bytes);
});
