//! Our driver against our device, with every combination of ring and features.

use crate::bench::Bench;
use crate::history::*;
use crate::ours::Ours;
use cubie_virtq::Features;
use proptest::prelude::*;

/// The features, and a size that their ring may have.
fn rings() -> impl Strategy<Value = (Features, u16)> {
    let all = vec![PACKED, EVENT_IDX, INDIRECT, IN_ORDER];
    let features = prop::sample::subsequence(all, 0..=4)
        .prop_map(|some| some.into_iter().fold(Features::VERSION_1, Features::with));
    features.prop_flat_map(|features| {
        let sizes: &[u16] =
            if features.has(PACKED) { &[1, 2, 3, 7, 16, 100] } else { &[1, 2, 4, 16, 128] };
        (Just(features), prop::sample::select(sizes))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * cases().cases, ..cases() })]

    #[test]
    fn both_ends_agree_whatever_happens((features, size) in rings(), steps in steps()) {
        let memory = memory();
        let driver = driver(&memory, size, features);
        let device = Ours::new(&memory, size, features);
        Bench::new(memory, driver, device, features).run(steps);
    }
}
