//! Network namespaces of the tests' own, so that the machine's network is never touched.

use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that is in it, and its interfaces. It is gone with this value.
pub(crate) struct Namespace {
    tasks: Option<Sender<Task>>,
    thread: Option<thread::JoinHandle<()>>,
    id: i32,
}

impl Namespace {
    /// None where it is not permitted, which is said.
    pub(crate) fn new() -> Option<Self> {
        let (tasks, todo) = channel::<Task>();
        let (up, is_up) = channel();
        let thread = thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET);
            up.send(made.map(|()| gettid().as_raw())).unwrap();
            todo.into_iter().for_each(|task| task());
        });
        let id = is_up.recv().unwrap();
        let id = id.inspect_err(|error| eprintln!("skipped: no namespaces here: {error}")).ok()?;
        let namespace = Self { tasks: Some(tasks), thread: Some(thread), id };
        namespace.sh("ip link set lo up");
        Some(namespace)
    }

    /// Does something in the namespace; its panics are the caller's.
    pub(crate) fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = channel();
        let task = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
            let _ = done.send(result); // nobody waits any more
        };
        self.tasks.as_ref().unwrap().send(Box::new(task)).unwrap();
        match outcome.recv().unwrap() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// The output of a command that succeeds.
    pub(crate) fn sh(&self, command: &str) -> String {
        let command = command.to_owned();
        self.run(move || {
            let output = Command::new("sh").args(["-c", &command]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {error}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// A cable between two namespaces: `name` here, and `other` there; both ends are up.
    pub(crate) fn connect(&self, name: &str, there: &Self, other: &str) {
        let id = there.id;
        self.sh(&format!("ip link add {name} type veth peer name {other} netns {id}"));
        self.sh(&format!("ip link set {name} up"));
        there.sh(&format!("ip link set {other} up"));
    }

    /// All that tools know of the network: interfaces, addresses, routes, tables of nftables, forwarding
    /// and redirects, and who may be a router of IPv6.
    /// Whether there is a carrier is left out, since a bridge has it from its parts.
    pub(crate) fn state(&self) -> String {
        let tables = if exists("nft") { "nft list tables" } else { "true" };
        self.sh(&format!(
            "ip -o link | sed 's/NO-CARRIER,//;s/,LOWER_UP//;s/ qdisc.*//'; \
             ip -o link | grep -oE 'alias.*|altname.*|master.* state'; ip -o -4 address; \
             ip -4 route show table all | sed 's/ linkdown//'; {tables}; \
             cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/accept_redirects; cd /proc/sys/net/ipv6/conf 2>/dev/null && \
             grep . */accept_ra */disable_ipv6 || true"
        ))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panics were the callers'
        }
    }
}

/// Whether there is such a program.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Namespaces of a host, its guest at the cable `tap0`, and the world at `uplink`, where it is 192.0.2.2
/// and the host 192.0.2.1. The guest's end is `eth0`, and down.
pub(crate) struct Network {
    pub(crate) guest: Namespace,
    pub(crate) host: Namespace,
    pub(crate) world: Namespace,
}

impl Network {
    pub(crate) fn new() -> Option<Self> {
        if !exists("ip") {
            eprintln!("skipped: iproute2 is not installed");
            return None;
        }
        let (guest, host, world) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        host.sh("echo 0 >/proc/sys/net/ipv4/ip_forward");
        host.connect("tap0", &guest, "eth0");
        host.connect("uplink", &world, "eth0");
        host.sh("ip addr add 192.0.2.1/24 dev uplink");
        world.sh("ip addr add 192.0.2.2/24 dev eth0");
        Some(Self { guest, host, world })
    }
}
