//! Files of the outer machine, inside, and devices of the lab.

use crate::{armlab, script, stdout};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_working_folder_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    let text = stdout(script("pwd; cat file").current_dir(folder.path()));
    assert_eq!(text, format!("{}\ncontent", folder.path().display()));
}

#[test]
fn what_is_written_inside_is_there_outside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    stdout(&mut script(&format!("echo inside > {}", file.display())));
    assert_eq!(fs::read_to_string(file).unwrap(), "inside\n");
}

#[test]
fn a_program_that_is_built_again_runs_as_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let write = |text: &str| {
        fs::write(&program, format!("#!/bin/sh\necho {text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        stdout(&mut armlab(&["run", program.to_str().unwrap()]))
    };
    assert_eq!(write("first"), "first\n");
    assert_eq!(write("second, and longer"), "second, and longer\n");
}

#[test]
fn temporary_files_lie_in_the_lab_and_go_with_the_run() {
    let folder = stdout(&mut script("echo > $TMPDIR/file; echo $TMPDIR"));
    let status = script(&format!("ls {}", folder.trim())).output().unwrap().status;
    assert_eq!(status.code(), Some(1));
}

#[test]
fn the_devices_for_virtual_machines_are_there() {
    let devices = "/dev/kvm /dev/net/tun /dev/vhost-net /dev/ptmx /dev/loop-control";
    stdout(&mut script(&format!("ls {devices} /sys/kernel/debug/kvm/exits")));
}

#[test]
fn modules_load_when_they_are_asked_for() {
    let text = stdout(&mut script("modprobe -a ext4 bridge nft_masq && lsmod"));
    for module in ["ext4", "bridge", "nft_masq"] {
        assert!(text.lines().any(|line| line.starts_with(module)), "{text}");
    }
}
