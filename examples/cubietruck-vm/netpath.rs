//! What the network costs: counters of cards, threads and interfaces, read when somebody asks.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, mem};

use anyhow::Context;
use cubie::console::Messages;
use cubie::net::Counters;
use cubie::netpath::{Interface, Reading, Report, Setup, Switch, run_time};
use cubie::vmm::ExitMeter;

use crate::cli::{self, Cli, Console, Ring, Virtio};
use crate::machine::write_whole;
use crate::machines::Machines;

/// A card, as far as it is looked at.
pub(crate) struct CardPath {
    pub(crate) counters: Counters,
    pub(crate) setup: Setup,
    /// The interface that it is on.
    pub(crate) tap: Option<String>,
    /// That is on a card of the host's, and its counters are as that one sees it.
    pub(crate) macvtap: bool,
    /// Its place among the devices, before the console.
    pub(crate) device: usize,
}

impl CardPath {
    /// What its interface has counted: a tap sends what the guest receives, one on a card of the host's receives it.
    fn interface(&self) -> Option<Interface> {
        let tap = self.tap.as_ref()?;
        let read = |counter: &str| {
            let path = format!("/sys/class/net/{tap}/statistics/{counter}");
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        let (to, from) = if self.macvtap { ("rx", "tx") } else { ("tx", "rx") };
        let all = |way, what: &str| read(&format!("{way}_{what}"));
        Some(Interface {
            received: [all(to, "packets")?, all(to, "bytes")?],
            sent: [all(from, "packets")?, all(from, "bytes")?],
            receive_drops: all(to, "dropped")?,
            transmit_drops: all(from, "dropped")?,
        })
    }
}

/// All cards, and what they have in common.
pub(crate) struct NetPath {
    /// Each with what its interface had counted before.
    cards: Vec<(CardPath, Option<Interface>)>,
    machines: Mutex<Machines>,
    start: Instant,
    /// What was shown last, of each card.
    shown: Mutex<Vec<Reading>>,
}

impl NetPath {
    /// Of these cards, from now on.
    pub(crate) fn new(cards: Vec<CardPath>, cli: &Cli) -> Arc<Self> {
        let cards = cards.into_iter().map(|mut card| {
            let setup = &mut card.setup;
            setup.cpus = cli.cpus.into();
            setup.trapped = cli.registers == cli::Registers::Trapped;
            setup.switches.retain(|switch| match switch {
                Switch::Offloads => card.tap.is_none(),
                Switch::Vhost => card.tap.is_some() && cli.ring == Ring::Split,
                Switch::Queues | Switch::Polling => card.tap.is_some(),
                Switch::Moderation => cli.virtio == Virtio::Modern,
                Switch::Page => true,
            });
            setup.switches.extend(setup.trapped.then_some(Switch::Page));
            card.device += usize::from(cli.console == Console::Virtio);
            let before = card.interface();
            (card, before)
        });
        let (cards, machines) = (cards.collect(), Mutex::new(Machines::new()));
        Arc::new(Self { cards, machines, start: Instant::now(), shown: Mutex::default() })
    }

    /// The guest runs in this machine from now on.
    pub(crate) fn follow(&self, exits: ExitMeter) {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).follow(exits);
    }

    /// Tables of all cards, on standard error: of what came since this was asked last.
    pub(crate) fn show(&self) {
        let now = self.readings();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = mem::replace(&mut *shown, now.clone());
        let since = |(at, now): (usize, &Reading)| match earlier.get(at) {
            Some(earlier) => Report::of(&now.since(earlier)),
            None => Report::of(now),
        };
        say(&now.iter().enumerate().map(since).collect::<Vec<_>>());
    }

    /// What `--netpath` asks for at the end: of what came since the start.
    pub(crate) fn finish(&self, cli: &Cli) -> anyhow::Result<()> {
        let Some(wanted) = &cli.netpath else { return Ok(()) };
        let reports: Vec<_> = self.readings().iter().map(Report::of).collect();
        match wanted {
            None => {
                say(&reports);
                Ok(())
            }
            Some(folder) => save(&reports, folder).context("--netpath FOLDER"),
        }
    }

    /// All counters since the start.
    fn readings(&self) -> Vec<Reading> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let (exits, ended) = (machines.exits(), machines.time_of_ended());
        let guest = times("/proc/self/task", |name| name.starts_with("vcpu"));
        let kernel = self.kernel();
        let reading = |(card, before): &(CardPath, Option<Interface>)| {
            let CardPath { counters, setup, device, .. } = card;
            let now = card.interface();
            Reading {
                setup: setup.clone(),
                device_exits: Some(machines.of_device(*device)),
                exits,
                guest: Some(ended + guest.iter().sum::<Duration>()),
                kernel: kernel.filter(|_| setup.vhost),
                interface: now.zip(*before).map(|(now, before)| now.since(before)),
                ..Reading::of_card(counters, self.start.elapsed())
            }
        };
        self.cards.iter().map(reading).collect()
    }

    /// Time of the kernel's threads that serve a card. They do not say which one, if there are several.
    fn kernel(&self) -> Option<Duration> {
        if self.cards.iter().filter(|(card, _)| card.setup.vhost).count() != 1 {
            return None;
        }
        // Linux calls them after the process that they work for. Until Linux 6.3 they are processes.
        let name = format!("vhost-{}", std::process::id());
        let threads = ["/proc/self/task", "/proc"].map(|all| times(all, |other| other == name));
        threads.into_iter().find(|times| !times.is_empty()).map(|times| times.iter().sum())
    }
}

/// Tables, on standard error.
fn say(reports: &[Report]) {
    let none = "no network card\n".to_owned();
    let tables = reports.iter().map(Report::to_string).reduce(|all, next| all + "\n" + &next);
    // Without a standard error there is nobody to tell.
    let _ = Messages.write_all(format!("\n{}", tables.unwrap_or(none)).as_bytes());
}

/// All reports as one file of JSON, their tables as one of text, and a drawing of each.
fn save(reports: &[Report], folder: &Path) -> anyhow::Result<()> {
    for (nth, report) in reports.iter().enumerate() {
        let name = if nth == 0 { "netpath.svg".into() } else { format!("netpath-{nth}.svg") };
        write_whole(&folder.join(name), report.svg().as_bytes())?;
    }
    let tables: String = reports.iter().map(|report| format!("{report}\n")).collect();
    write_whole(&folder.join("netpath.txt"), tables.as_bytes())?;
    let json = Report::json_of_all(reports);
    Ok(write_whole(&folder.join("netpath.json"), json.as_bytes())?)
}

/// How long the threads in `folder` with such a name have run.
fn times(folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<Duration> {
    let threads = fs::read_dir(folder).into_iter().flatten().flatten();
    let time = |thread: fs::DirEntry| {
        let read = |file| fs::read_to_string(thread.path().join(file)).ok();
        if wanted(read("comm")?.trim_end()) { run_time(&read("schedstat")?) } else { None }
    };
    threads.filter_map(time).collect()
}
