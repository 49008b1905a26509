//! Machines on the scripted hypervisor: what each kind of exit does, and how machines end.

use std::io::{self, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cubie_hv::scripted::{ScriptedVm, Step};
use cubie_virtio_core::{Config, DeviceId, Features, QueueState, Queues, StartError, VirtioDevice};
use cubie_vmm::loader::{Format, Kernel};
use cubie_vmm::{
    Machine, MachineConfig, MachineError, Outcome, Registers, Remote, Transport, Uart, layout,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// A device that is nothing but its number; it panics when its configuration is written.
struct Stub(DeviceId, Config);

impl VirtioDevice for Stub {
    fn id(&self) -> DeviceId {
        self.0
    }
    fn features(&self) -> Features {
        Features::default()
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16]
    }
    fn config(&self) -> &Config {
        &self.1
    }
    fn write_config(&mut self, _: usize, _: &[u8]) {
        panic!("on purpose");
    }
    fn start(&mut self, _: Features, _: Queues) -> Result<(), StartError> {
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueState> {
        vec![]
    }
}

fn device(id: DeviceId) -> Box<dyn VirtioDevice> {
    Box::new(Stub(id, Config::new(vec![0; 8])))
}

fn config(cpus: u8) -> MachineConfig {
    let load = layout::RAM_BASE;
    MachineConfig {
        memory: layout::MIN_MEMORY,
        shared_memory: false,
        cpus,
        kernel: Kernel {
            format: Format::Arm64Image,
            unpacked: None,
            image: vec![0xaa; 0x100],
            load,
            entry: load,
            end: load + 0x1000,
        },
        initrd: Some(vec![0xbb; 0x100]),
        command_line: "quiet".into(),
        pin: true,
        transports: vec![],
    }
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn uart() -> (Arc<Mutex<Uart>>, Paper) {
    let paper = Paper::default();
    let uart = Uart::new(Box::new(paper.clone())).unwrap();
    (Arc::new(Mutex::new(uart)), paper)
}

/// `work` on a thread, by the deadline; an error when it panicked.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> thread::Result<T> {
    let (done, waiting) = channel::<()>();
    let worker = thread::spawn(move || {
        let _done = done;
        work()
    });
    let late = Err(std::sync::mpsc::RecvTimeoutError::Timeout);
    assert_ne!(waiting.recv_timeout(DEADLINE), late, "the machine never ends");
    worker.join()
}

fn run(
    script: Vec<Step>,
    cpus: u8,
    devices: Vec<Box<dyn VirtioDevice>>,
) -> (Outcome, Vec<DeviceId>) {
    let machine = Machine::build(ScriptedVm::new(script), &config(cpus), devices, uart().0);
    let machine = machine.unwrap();
    let (outcome, devices) = in_time(|| machine.run().unwrap()).unwrap();
    (outcome, devices.iter().map(|device| device.id()).collect())
}

#[test]
fn what_the_guest_sends_to_the_uart_is_written_before_run_returns() {
    let (uart, paper) = uart();
    let script = b"hi\n".iter().map(|byte| Step::write(layout::UART.start, &[*byte, 0, 0, 0]));
    let vm = ScriptedVm::new(script.chain([Step::Off]).collect());
    let machine = Machine::build(vm, &config(1), vec![], uart).unwrap();
    let (outcome, _) = in_time(|| machine.run().unwrap()).unwrap();
    assert_eq!(outcome, Outcome::Off);
    assert_eq!(*paper.0.lock().unwrap(), b"hi\n");
}

#[test]
fn each_end_has_its_outcome_and_ends_the_other_vcpus() {
    assert_eq!(run(vec![Step::Off], 4, vec![]).0, Outcome::Off);
    assert_eq!(run(vec![Step::Reset], 4, vec![]).0, Outcome::Reset);
    let crash = Outcome::Crash("the script says so".into());
    assert_eq!(run(vec![Step::Crash], 4, vec![]).0, crash);
}

#[test]
fn a_reset_hands_the_devices_back_for_the_next_machine() {
    let (uart, paper) = uart();
    let mut devices = vec![device(DeviceId::BLOCK), device(DeviceId::NET)];
    let byte = |byte| Step::write(layout::UART.start, &[byte]);
    for (script, end) in [
        (vec![byte(b'1'), Step::Reset], Outcome::Reset),
        (vec![byte(b'2'), Step::Off], Outcome::Off),
    ] {
        let vm = ScriptedVm::new(script);
        let machine = Machine::build(vm, &config(2), devices, Arc::clone(&uart)).unwrap();
        let (outcome, stopped) = in_time(|| machine.run().unwrap()).unwrap();
        assert_eq!(outcome, end);
        devices = stopped;
    }
    let ids: Vec<_> = devices.iter().map(|device| device.id()).collect();
    assert_eq!(ids, [DeviceId::BLOCK, DeviceId::NET]);
    assert_eq!(*paper.0.lock().unwrap(), b"12");
}

#[test]
fn a_stopper_ends_a_machine_that_runs_and_one_that_does_not_yet() {
    for early in [true, false] {
        let vm = ScriptedVm::new(vec![Step::write(layout::UART.start, b"r")]);
        let (uart, paper) = uart();
        let machine = Machine::build(vm, &config(2), vec![device(DeviceId::RNG)], uart).unwrap();
        let stopper = machine.stopper();
        if early {
            stopper.stop();
        } else {
            let stopper = stopper.clone();
            thread::spawn(move || {
                while paper.0.lock().unwrap().is_empty() {
                    thread::yield_now();
                }
                stopper.stop();
            });
        }
        let (outcome, devices) = in_time(|| machine.run().unwrap()).unwrap();
        assert_eq!((outcome, devices.len()), (Outcome::Quit, 1));
        stopper.stop(); // and has no effect on what is over
    }
}

#[test]
fn addresses_without_a_device_read_as_zero_and_ignore_stores() {
    let nowhere = 0x0900_0000;
    let script =
        vec![Step::write(nowhere, &[0xff; 4]), Step::Read { address: nowhere, len: 8 }, Step::Off];
    let vm = ScriptedVm::new(script);
    let seen = vm.seen();
    let machine = Machine::build(vm, &config(1), vec![], uart().0).unwrap();
    in_time(|| machine.run().unwrap()).unwrap();
    assert_eq!(seen(), [vec![0; 8]]);
}

#[test]
fn each_device_has_the_slot_of_its_order() {
    let id = |slot| Step::Read { address: layout::VIRTIO.address(slot).unwrap() + 8, len: 4 };
    let vm = ScriptedVm::new(vec![id(0), id(1), id(2), Step::Off]);
    let seen = vm.seen();
    let devices = vec![device(DeviceId::CONSOLE), device(DeviceId::BLOCK)];
    let machine = Machine::build(vm, &config(1), devices, uart().0).unwrap();
    in_time(|| machine.run().unwrap()).unwrap();
    let words = [DeviceId::CONSOLE.0, DeviceId::BLOCK.0, 0].map(|id| id.to_le_bytes().to_vec());
    assert_eq!(seen(), words);
}

/// What drivers in `slots` read of InterruptStatus after their DRIVER_OK: 1 in a page, 0 by an exit.
fn reasons(vm: impl Fn(Vec<Step>) -> ScriptedVm, transports: &[Transport]) -> Vec<Vec<u8>> {
    let mut script = vec![];
    for base in [0, 1, 2].map(|slot| layout::VIRTIO.address(slot).unwrap()) {
        let set = |(at, value): (u64, u32)| Step::write(base + at, &value.to_le_bytes());
        let version_1 = [(0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x70, 15), (0x64, 1)];
        script.extend(version_1.map(set));
        script.push(Step::Read { address: base + 0x60, len: 4 });
    }
    script.push(Step::Off);
    let (vm, transports) = (vm(script), transports.to_vec());
    let (seen, devices) = (vm.seen(), [0; 3].map(|_| device(DeviceId::RNG)));
    let config = MachineConfig { transports, ..config(1) };
    let machine = Machine::build(vm, &config, devices.into(), uart().0).unwrap();
    in_time(|| machine.run().unwrap()).unwrap();
    seen().into_iter().map(|word| word[..1].to_vec()).collect()
}

#[test]
fn registers_are_in_a_page_where_there_can_be_one_unless_trapped_is_asked_for() {
    let trapped = Transport { registers: Registers::Trapped, ..Transport::default() };
    let (page, trap) = (vec![1], vec![0]);
    assert_eq!(reasons(ScriptedVm::new, &[]), [0; 3].map(|_| page.clone()));
    assert_eq!(reasons(ScriptedVm::new, &[trapped]), [0; 3].map(|_| trap.clone()));
    let mixed = [Transport::default(), trapped, Transport::default()];
    assert_eq!(reasons(ScriptedVm::new, &mixed), [&page, &trap, &page].map(Clone::clone));
    let without_pages = |script| ScriptedVm::new(script).without_readonly_pages();
    assert_eq!(reasons(without_pages, &[]), [0; 3].map(|_| trap.clone()));
}

/// Exits of a driver that sets a queue up in Linux's order and reads the status; what it has read.
fn exits_of_a_setup(vm: impl Fn(Vec<Step>) -> ScriptedVm, how: Registers) -> (usize, Vec<Vec<u8>>) {
    let base = layout::VIRTIO.address(0).unwrap();
    let addresses = [0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4].map(|at| (at, 0));
    let negotiation = [(0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 0), (0x70, 11)];
    let writes = [&negotiation[..], &[(0x30, 0), (0x38, 16)], &addresses, &[(0x44, 1), (0x70, 15)]];
    let set = |(at, value): &(u64, u32)| Step::write(base + at, &value.to_le_bytes());
    let mut script: Vec<_> = writes.concat().iter().map(set).collect();
    script.extend([0x44, 0x70].map(|at| Step::Read { address: base + at, len: 4 }));
    script.push(Step::Off);
    let (vm, transport) = (vm(script), Transport { registers: how, ..Transport::default() });
    let (exits, seen) = (vm.exits(), vm.seen());
    let config = MachineConfig { transports: vec![transport], ..config(1) };
    let machine = Machine::build(vm, &config, vec![device(DeviceId::RNG)], uart().0).unwrap();
    in_time(|| machine.run().unwrap()).unwrap();
    (exits(), seen())
}

#[test]
fn writes_that_nothing_reads_back_take_no_exit_of_their_own_where_registers_are_in_a_page() {
    let running = vec![vec![1, 0, 0, 0], vec![15, 0, 0, 0]];
    let exits = |vm: fn(Vec<Step>) -> ScriptedVm, how| {
        let (exits, seen) = exits_of_a_setup(vm, how);
        assert_eq!(seen, running);
        exits
    };
    assert_eq!(exits(ScriptedVm::new, Registers::Trapped), 19);
    let plain = |script| ScriptedVm::new(script).without_coalescing();
    assert_eq!(exits(plain, Registers::SharedPage), 17, "without the loads");
    assert_eq!(exits(ScriptedVm::new, Registers::SharedPage), 6);
}

#[test]
fn the_device_tree_names_the_devices_and_has_fresh_random_numbers() {
    let build = || {
        let devices = vec![device(DeviceId::RNG), device(DeviceId::RNG)];
        Machine::build(ScriptedVm::new(vec![]), &config(2), devices, uart().0).unwrap()
    };
    let (one, other) = (build(), build());
    let tree = dtoolkit::fdt::Fdt::new(one.dtb()).unwrap().to_string();
    for name in ["virtio@a000000", "virtio@a010000", "cpu@1", "serial@1c28000"] {
        assert!(tree.contains(name), "{name} in {tree}");
    }
    assert!(!tree.contains("virtio@a020000") && !tree.contains("cpu@2"));
    assert_ne!(one.dtb(), other.dtb());
}

#[test]
fn a_remote_ends_the_machine_that_it_steers_and_all_that_follow() {
    let remote = Remote::default();
    for _ in 0..2 {
        let vm = ScriptedVm::new(vec![]);
        let machine = Machine::build(vm, &config(1), vec![], uart().0).unwrap();
        remote.steer(machine.stopper());
        remote.stop();
        assert_eq!(in_time(|| machine.run().unwrap().0).unwrap(), Outcome::Quit);
    }
    let machine = Machine::build(ScriptedVm::new(vec![]), &config(1), vec![], uart().0).unwrap();
    remote.steer(machine.stopper());
    assert_eq!(in_time(|| machine.run().unwrap().0).unwrap(), Outcome::Quit);
}

#[test]
fn a_machine_has_so_many_slots() {
    let devices = |count| (0..count).map(|_| device(DeviceId::RNG)).collect();
    let build = |count| {
        let vm = ScriptedVm::new(vec![]);
        Machine::build(vm, &config(1), devices(count), uart().0)
    };
    assert!(build(32).is_ok());
    let error = build(33).err().unwrap();
    assert!(matches!(error, MachineError::TooManyDevices { devices: 33 }));
}

#[test]
fn a_panic_in_a_device_ends_the_machine_and_is_passed_on() {
    let slot = layout::VIRTIO.address(0).unwrap();
    let vm = ScriptedVm::new(vec![Step::write(slot + 0x100, &[1])]);
    let machine = Machine::build(vm, &config(2), vec![device(DeviceId::RNG)], uart().0).unwrap();
    assert!(in_time(|| machine.run().map(|(outcome, _)| outcome)).is_err());
}

#[test]
fn exits_are_told_by_device_and_by_vcpu_also_after_the_end() {
    let at = |slot| layout::VIRTIO.address(slot).unwrap();
    let script = vec![
        Step::Read { address: at(0), len: 4 },
        Step::Read { address: at(1), len: 4 },
        Step::write(at(1) + 0x70, &[0; 4]),
        Step::write(layout::UART.start, b"!"),
        Step::Off,
    ];
    let devices = vec![device(DeviceId(42)), device(DeviceId(43))];
    let machine = Machine::build(ScriptedVm::new(script), &config(1), devices, uart().0).unwrap();
    let exits = machine.exits();
    assert_eq!(machine.run().unwrap().0, Outcome::Off);
    // The first register of each is in its page.
    assert_eq!((0..3).map(|slot| exits.of_device(slot)).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(exits.of_others(), 1);
    let vcpus = exits.of_vcpus().unwrap();
    assert_eq!((vcpus.all, vcpus.user_mmio), (3, 2));
    assert!(exits.time_of_ended() > Duration::ZERO);
}
