//! Standard streams, exit status, signals and environment of a run without a terminal.

use crate::{armlab, ended, eventually, script, stdout};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_exit_status_comes_back() {
    assert_eq!(script("exit 7").output().unwrap().status.code(), Some(7));
}

#[test]
fn death_by_a_signal_comes_back_as_that_signal() {
    for signal in [11, 9, 15] {
        let status = script(&format!("kill -{signal} $$")).output().unwrap().status;
        assert_eq!(status.signal(), Some(signal));
    }
}

#[test]
fn a_missing_program_is_named() {
    let output = armlab(&["run", "/nowhere/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/nowhere/program: No such file"), "{message}");
}

#[test]
fn ten_megabytes_go_in_and_come_out_unchanged() {
    let sent: Vec<u8> =
        (0..10_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut run = armlab(&["run", "cat"]).spawn().unwrap();
    let mut stdin = run.stdin.take().unwrap();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| stdin.write_all(&sent).map(|()| drop(stdin)));
        run.wait_with_output().unwrap().stdout
    });
    assert!(received == sent, "{} bytes of {} came back", received.len(), sent.len());
}

#[test]
fn standard_output_and_error_stay_apart() {
    let output = script("echo out; echo err >&2").output().unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
}

#[test]
fn a_reader_that_goes_away_is_a_broken_pipe_inside() {
    let mut run = armlab(&["run", "yes"]).stderr(Stdio::inherit()).spawn().unwrap();
    let mut first = [0; 2];
    run.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(ended(&mut run).signal(), Some(13));
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let started = Instant::now();
    let left = stdout(&mut script("sleep 1000 & echo $!"));
    assert!(started.elapsed() < Duration::from_secs(900), "the run waited for the sleeper");
    assert!(!is_alive(left.trim()));
}

#[test]
fn a_killed_runner_takes_its_command_along() {
    let mut run = script("echo $$; exec sleep 1000").spawn().unwrap();
    let pid = first_line(run.stdout.as_mut().unwrap());
    run.kill().unwrap();
    ended(&mut run);
    eventually("the command ends", || !is_alive(&pid));
}

#[test]
fn an_interrupt_reaches_the_command() {
    let mut run = script("trap 'echo caught; exit 5' INT; echo ready; cat & wait").spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    signal("INT", run.id());
    assert_eq!(lines.next().unwrap().unwrap(), "caught");
    assert_eq!(ended(&mut run).code(), Some(5));
}

#[test]
fn a_runner_told_to_end_does_so_although_the_command_does_not_listen() {
    let mut run = script("trap '' TERM; echo $$; while :; do sleep 1; done").spawn().unwrap();
    let pid = first_line(run.stdout.as_mut().unwrap());
    signal("TERM", run.id());
    assert_eq!(ended(&mut run).signal(), Some(15));
    eventually("the command ends", || !is_alive(&pid));
}

#[test]
fn a_run_that_takes_too_long_is_killed_whether_it_sleeps_or_writes() {
    for program in [&["run", "sleep", "1000"][..], &["run", "yes"]] {
        let mut run = armlab(program);
        let run = run.env("ARMLAB_TIMEOUT", "1").stdout(Stdio::null());
        let output = run.output().unwrap();
        assert_eq!(output.status.code(), Some(124));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("ARMLAB_TIMEOUT") && message.contains("console.log"), "{message}");
    }
}

#[test]
fn a_hang_up_that_is_ignored_outside_is_ignored_inside() {
    let mut run = Command::new("nohup");
    run.args([
        env!("CARGO_BIN_EXE_armlab"),
        "run",
        "sh",
        "-c",
        "echo ready; read line; echo $line",
    ]);
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    signal("HUP", run.id());
    run.stdin.take().unwrap().write_all(b"alive\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "alive");
    assert!(ended(&mut run).success());
}

#[test]
fn variables_go_in_but_for_those_of_the_outer_machine() {
    let mut run = script("echo $CUBIE_X $PATH $SHELL");
    let text = stdout(run.env("CUBIE_X", "a b").env("SHELL", "/usr/bin/outer-shell"));
    assert_eq!(text, "a b /bin:/sbin:/usr/bin:/usr/sbin /bin/sh\n");
}

#[test]
fn the_outer_machine_is_a_neighbour_on_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut run = script(&format!("echo hello | nc 10.0.2.2 {port}")).spawn().unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    drop(connection);
    assert_eq!(text, "hello\n");
    assert!(ended(&mut run).success());
}

fn first_line(output: impl Read) -> String {
    BufReader::new(output).lines().next().unwrap().unwrap()
}

fn is_alive(pid: &str) -> bool {
    script(&format!("kill -0 {pid}")).output().unwrap().status.success()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
}
