//! QEMU's PC, with its memory in a file that devices in other processes can map.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use cubie_armlab::images::{self, Cache, GuestArch};

/// For a whole guest.
const DEADLINE: Duration = Duration::from_secs(180);

const MACHINE: &str = "-M q35,memory-backend=ram -accel tcg -cpu max -m 256M \
    -object memory-backend-memfd,id=ram,size=256M,share=on \
    -nodefaults -display none -serial stdio -no-reboot";

/// A PC that runs.
pub(crate) struct Pc(Child);

/// Whether there is QEMU for PCs.
pub(crate) fn is_here() -> bool {
    let here = Command::new("qemu-system-x86_64").arg("--version").output().is_ok();
    if !here {
        eprintln!("skipped: qemu-system-x86_64 is not installed (`cargo xtask test` does)");
    }
    here
}

impl Pc {
    /// Starts one with these devices, which are QEMU's options. Its guest does `checks`, a script, and finds
    /// `files`.
    pub(crate) fn start(
        folder: &Path,
        devices: &str,
        checks: &str,
        files: &[(&str, &[u8])],
    ) -> Self {
        let image = Cache::open().unwrap().guest(GuestArch::Amd64).unwrap();
        let init = include_str!("init").replace("\nCHECKS\n", &format!("\n{checks}\n"));
        let mut all = vec![("init", 0o755, init.as_bytes())];
        all.extend(files.iter().map(|(name, bytes)| (*name, 0o644, *bytes)));
        let initrd = folder.join("initrd");
        images::append(&image.initrd, &initrd, &all).unwrap();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(MACHINE.split_whitespace().chain(devices.split_whitespace()));
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        let files: [OsString; 4] =
            ["-kernel".into(), image.kernel.into(), "-initrd".into(), initrd.into()];
        let command = command.args(files).current_dir(folder).stdout(Stdio::piped());
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// All that it has printed when it is off.
    pub(crate) fn output(mut self) -> String {
        let mut stdout = self.0.stdout.take().unwrap();
        let (sender, whole) = channel();
        thread::spawn(move || {
            let mut bytes = vec![];
            let read = stdout.read_to_end(&mut bytes);
            sender.send(read.map(|_| String::from_utf8_lossy(&bytes).into_owned()))
        });
        let text = whole.recv_timeout(DEADLINE).expect("the guest comes to an end").unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        assert!(text.contains("end of checks"), "{text}");
        text
    }
}

impl Drop for Pc {
    fn drop(&mut self) {
        // Of a test that has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
