//! Boards that lack something; the lab makes them.
#![cfg(not(target_arch = "aarch64"))]

use cubie_armlab::relay::{self, Program};
use cubie_armlab::{Lab, Machine, RunOptions};

#[test]
fn a_board_without_aarch32_refuses_a_32_bit_guest_and_names_the_option() {
    let example = relay::build(Program::Example("cubietruck-vm")).unwrap();
    let board = Machine { cpu: "neoverse-n1".into(), ..Machine::default() };
    let argv = [example.into_os_string(), "--network".into(), "none".into()];
    let output = Lab::open(&board).unwrap().output(&RunOptions::new(argv).unwrap(), &[]).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("--arch armv7") && text.contains("no AArch32 at EL1"), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}
