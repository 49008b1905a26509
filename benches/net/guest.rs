//! What the guests run: this very program, with other arguments.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::sockios::{set_feature, set_pairs};

/// Tells the benchmark that it runs in a guest.
pub(crate) const ARGUMENT: &str = "--inside-guest";
/// Where the guests have it.
pub(crate) const PROGRAM: &str = "/bin/traffic";

/// An end that hears nothing for so long gives up.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));
/// Bytes that each end hands over in a system call, as iperf3 does.
const CHUNK: usize = 128 << 10;

/// Does one of `tso on|off`, `pairs NUMBER`, `send ADDRESS BYTES STREAMS` and `receive ADDRESS BYTES STREAMS`.
pub(crate) fn main(words: &[String]) -> anyhow::Result<()> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["tso", how] => Ok(set_tso("eth0", how == "on")?),
        ["pairs", pairs] => Ok(set_pairs("eth0", pairs.parse()?)?),
        [what, address, bytes, streams] => {
            let bytes: usize = bytes.parse()?;
            let streams = (0..streams.parse()?).map(|_| TcpStream::connect(address));
            let streams = streams.collect::<Result<Vec<_>, _>>()?;
            let bytes = bytes / streams.len();
            match what {
                "send" => each(streams, move |stream| send(stream, bytes)),
                "receive" => each(streams, move |stream| receive(stream, bytes)),
                _ => bail!("send or receive, not {what}"),
            }
        }
        _ => bail!("what is {words:?}?"),
    }
}

/// Does the same to all of `streams` at once.
pub(crate) fn each(
    streams: Vec<TcpStream>,
    work: impl Fn(TcpStream) -> anyhow::Result<()> + Copy + Send + 'static,
) -> anyhow::Result<()> {
    let threads: Vec<_> =
        streams.into_iter().map(|stream| thread::spawn(move || work(stream))).collect();
    threads.into_iter().try_for_each(|thread| thread.join().ok().context("a thread")?)
}

/// Sends so many bytes and waits until the other end has all of them.
pub(crate) fn send(mut stream: TcpStream, bytes: usize) -> anyhow::Result<()> {
    stream.set_write_timeout(PATIENCE)?;
    stream.set_read_timeout(PATIENCE)?;
    let chunk = vec![0x5a; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let len = left.min(CHUNK);
        stream.write_all(&chunk[..len])?;
        left -= len;
    }
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "the receiver said something");
    Ok(())
}

/// Receives so many bytes and the end, and then closes.
pub(crate) fn receive(mut stream: TcpStream, bytes: usize) -> anyhow::Result<()> {
    stream.set_read_timeout(PATIENCE)?;
    let mut chunk = vec![0; CHUNK];
    let mut received = 0;
    while let count @ 1.. = stream.read(&mut chunk)? {
        received += count;
    }
    ensure!(received == bytes, "{received} bytes came, not {bytes}");
    Ok(())
}

/// Has `interface` leave TCP's segments to its card, or cut them before.
pub(crate) fn set_tso(interface: &str, on: bool) -> std::io::Result<()> {
    set_feature(interface, "tx-tcp-segmentation", on)?;
    set_feature(interface, "tx-tcp6-segmentation", on)
}
