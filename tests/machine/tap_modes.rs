//! What a tap leads to: a bridge, a private network, the guest's own address.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use crate::vm::{ARM64, ARMV7, Vm, example, host};

/// Where the world is, and the host in it.
const WORLD: &str = "192.0.2.2";
const HOST: &str = "192.0.2.1";
/// Bytes that the world sends.
const LEN: usize = 1 << 20;

/// A network namespace beyond the host, at the far end of the cable `uplink`.
struct World {
    tasks: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        let (tasks, todo) = channel::<Box<dyn FnOnce() + Send>>();
        let (up, is_up) = channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            up.send(gettid()).unwrap();
            todo.into_iter().for_each(|task| task());
        });
        let id = is_up.recv().unwrap();
        let world = Self { tasks: Some(tasks), thread: Some(thread) };
        // The kernel makes the other end too, and names it.
        host("ip link add uplink type veth");
        host(&format!("ip link set veth0 netns {id}"));
        host(&format!("ip addr add {HOST}/24 dev uplink && ip link set uplink up"));
        world.sh(&format!("ip addr add {WORLD}/24 dev veth0 && ip link set veth0 up"));
        world
    }

    fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = channel();
        let task = move || done.send(task()).unwrap();
        self.tasks.as_ref().unwrap().send(Box::new(task)).unwrap();
        outcome.recv().expect("what is done in the world succeeds")
    }

    fn sh(&self, command: &str) -> String {
        let command = command.to_owned();
        self.run(move || host(&command))
    }

    /// Who, as the world sees it, fetches what a server there has.
    fn is_asked_by(&self, vm: &mut Vm) -> IpAddr {
        let listener = self.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, who) = listener.accept().unwrap();
            stream.write_all(&vec![7; LEN]).unwrap();
            who.ip()
        });
        let fetched = vm.run(&format!("nc {WORLD} {port} </dev/null | wc -c"));
        assert_eq!(fetched, LEN.to_string());
        server.join().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // the cable goes with the namespace
        }
    }
}

/// What a host's network is made of, but for the cable to the world, which comes and goes when it likes.
fn state() -> String {
    let links = "ls /sys/class/net | grep -v uplink";
    host(&format!("{links}; ip route | grep -v uplink; cat /proc/sys/net/ipv4/ip_forward"))
}

fn ask_for_an_address(vm: &mut Vm) -> String {
    vm.run(
        "ip link set eth0 up && udhcpc -i eth0 -n -q >/tmp/dhcp 2>&1 || { cat /tmp/dhcp; false; }",
    );
    vm.run("ip -4 -o addr show dev eth0 | sed 's/.*inet //; s/ .*//'")
}

#[test]
fn two_vms_on_one_bridge_ping_each_other() {
    host("ip link add cubie-br type bridge && ip link set cubie-br up");
    let before = state();
    let mut vms = [1, 2].map(|n| {
        let mut vm = Vm::boot(ARM64, "-n mode=tap,bridge=cubie-br");
        vm.run(&format!("ip addr add 10.78.0.{n}/24 dev eth0 && ip link set eth0 up"));
        vm
    });
    vms[0].run("ping -q -c 3 10.78.0.2");
    vms[1].run("ping -q -c 3 10.78.0.1");
    vms.into_iter().for_each(Vm::power_off);
    assert_eq!(state(), before);
    host("ip link delete cubie-br");
}

#[test]
fn a_private_guest_asks_for_an_address_and_reaches_the_world() {
    let before = state();
    let world = World::new();
    let mut vm = Vm::boot(ARMV7, "-n mode=tap,nat");
    assert_eq!(ask_for_an_address(&mut vm), "10.9.8.2/24");
    vm.run(&format!("ping -q -c 3 {WORLD}"));
    assert_eq!(world.is_asked_by(&mut vm).to_string(), HOST);
    let resolvers = vm.run("cat /etc/resolv.conf");
    assert_eq!(resolvers, host("cat /etc/resolv.conf").trim());
    // What a killed VM leaves, the next start clears away: here one that only looks at its devices.
    drop(vm);
    assert!(host("ls /sys/class/net").contains("cubie-nat0"));
    let next = example("--dump-dtb /dev/null -n mode=tap,nat").output().unwrap();
    assert!(next.status.success(), "{}", String::from_utf8_lossy(&next.stderr));
    drop(world);
    assert_eq!(state(), before);
}

#[test]
fn a_guest_shares_a_card_of_the_hosts_and_reaches_its_network() {
    let before = state();
    let world = World::new();
    let probe =
        "ip link add link uplink name probe type macvtap && ip link delete probe && echo yes";
    if !host(&format!("({probe}) 2>/dev/null || true")).contains("yes") {
        return eprintln!("skipped: the host's kernel has no macvtap");
    }
    let guest = Ipv4Addr::new(192, 0, 2, 9);
    let mut vm = Vm::boot(ARM64, "-n mode=tap,macvtap=uplink");
    vm.run(&format!("ip addr add {guest}/24 dev eth0 && ip link set eth0 up"));
    vm.run(&format!("ping -q -c 3 {WORLD}"));
    world.sh(&format!("ping -q -c 3 {guest}"));
    assert_eq!(world.is_asked_by(&mut vm), guest);
    vm.power_off();
    drop(world);
    assert_eq!(state(), before);
}

#[test]
fn a_routed_guest_has_its_own_address_in_the_world() {
    let before = state();
    let world = World::new();
    let guest = Ipv4Addr::new(10, 79, 0, 7);
    let mut vm = Vm::boot(ARM64, &format!("-n mode=tap,routed={guest}"));
    assert_eq!(ask_for_an_address(&mut vm), format!("{guest}/32"));
    world.sh(&format!("ip route add {guest} via {HOST}"));
    world.sh(&format!("ping -q -c 3 {guest}"));
    assert_eq!(world.is_asked_by(&mut vm), guest);
    // The two lines for a guest without a client.
    vm.run("ip addr flush dev eth0");
    vm.run(&format!("ip addr add {guest} peer 169.254.1.1 dev eth0 && ip link set eth0 up"));
    vm.run("ip route add default via 169.254.1.1");
    assert_eq!(world.is_asked_by(&mut vm), guest);
    vm.power_off();
    drop(world);
    assert_eq!(state(), before);
}
