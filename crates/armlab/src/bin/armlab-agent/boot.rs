//! From the kernel's hand-over to a machine in which programs can run.
//!
//! A script would be shorter to read, but each of its thirty processes costs tens of milliseconds here.

use rustix::mount::{MountFlags, mount};
use rustix::system::{init_module, sethostname};
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Type, place and options of file systems that the lab's kernel makes; the type is the source too.
const KERNEL_FILE_SYSTEMS: [(&str, &str, &CStr); 8] = [
    ("proc", "/proc", c""),
    ("sysfs", "/sys", c""),
    ("devtmpfs", "/dev", c"mode=755"),
    ("devpts", "/dev/pts", c"mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", c"mode=1777"),
    ("tmpfs", "/run", c"mode=755"),
    ("debugfs", "/sys/kernel/debug", c""),
    ("cgroup2", "/sys/fs/cgroup", c""),
];

/// Nothing is cached but what is mapped: what changes outside is seen inside, and the other way round.
const OUTER_OPTIONS: &CStr = c"trans=virtio,version=9p2000.L,msize=512000,cache=mmap";

/// The network as QEMU makes it: the outer machine is 10.0.2.2.
const NETWORK: [&[&str]; 3] = [
    &["ifconfig", "lo", "127.0.0.1", "up"],
    &["ifconfig", "eth0", "10.0.2.15", "netmask", "255.255.255.0", "up"],
    &["route", "add", "default", "gw", "10.0.2.2"],
];

pub(crate) fn boot() -> io::Result<()> {
    for (kind, place, options) in KERNEL_FILE_SYSTEMS {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), options)?;
    }
    fs::remove_file("/dev/ptmx")?;
    symlink("pts/ptmx", "/dev/ptmx")?;
    symlink("/proc/self/fd", "/dev/fd")?;
    fs::create_dir("/run/lock")?;
    fs::write("/proc/sys/kernel/printk", "4")?; // warnings and worse belong on the console
    load_modules(Path::new("/etc/armlab/modules"))?;
    mount("root", "/outer", "9p", MountFlags::empty(), OUTER_OPTIONS)?;
    sethostname(b"armlab")?;
    busybox(&["--install", "-s"])?;
    NETWORK.iter().try_for_each(|command| busybox(command))
}

/// Loads all modules of a folder in the order of their names.
fn load_modules(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    for file in files {
        init_module(&fs::read(&file)?, c"")
            .map_err(|error| io::Error::other(format!("loading {}: {error}", file.display())))?;
    }
    Ok(())
}

fn busybox(arguments: &[&str]) -> io::Result<()> {
    let status = Command::new("/bin/busybox").args(arguments).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("busybox {}: {status}", arguments.join(" ")))),
    }
}
