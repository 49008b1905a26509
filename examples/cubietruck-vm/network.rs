//! The network cards that the options ask for.

use anyhow::Context;
use cubie::host_net::{HostNet, Macvtap};
use cubie::lkvm::{NetworkMode, NetworkOption, SocketOption, TapOption};
use cubie::net::{Mac, Null, Socket, Tap, TapError};
use cubie::netpath::Setup;
use cubie::user_net::{Config, UserNet};

use crate::card::{Card, CardPlan};
use crate::cli::Cli;
use crate::machine::Devices;
use crate::netpath::CardPath;

/// What a card takes whose driver is not told: Ethernet's.
const USUAL_MTU: u16 = 1500;

/// What the cards are on.
#[derive(Default)]
pub(crate) struct Networks {
    /// As the greeting has it.
    pub(crate) said: Vec<String>,
    /// What can be told of each card.
    pub(crate) paths: Vec<CardPath>,
    /// What taps lead to, as long as this is there.
    leads: Vec<HostNet>,
    /// Taps on cards of the host's, likewise.
    macvtaps: Vec<Macvtap>,
}

/// Makes a card for each network.
pub(crate) fn add_networks(devices: &mut Devices, cli: &Cli) -> anyhow::Result<Networks> {
    let default = [NetworkOption::of(NetworkMode::User(Config::default()))];
    let options = if cli.network.is_empty() { &default[..] } else { &cli.network };
    let mut networks = Networks::default();
    for (index, network) in options.iter().enumerate() {
        let mut plan = CardPlan::new(network, &cli.name)?;
        let on = |what: &str| format!("{what} {index}");
        let mut on_tap = None;
        let card = match &network.mode {
            NetworkMode::None => continue,
            NetworkMode::Tap(tap) => {
                let taps = networks.open_tap(tap, |name| plan.mac_on(name))?;
                plan.mac = plan.mac.or(taps[0].mac());
                plan.mtu = Some(taps[0].mtu()?).filter(|mtu| *mtu != USUAL_MTU);
                (plan.vhost, plan.poll) = (tap.vhost, tap.poll);
                let name = on_tap.insert(taps[0].name().to_owned());
                plan.on(name, taps)?
            }
            NetworkMode::User(config) => plan.on(&on("user"), vec![networks.open_user(config)?])?,
            NetworkMode::Socket(socket) => {
                let end = networks.open_socket(socket)?;
                // The two ends of one socket have other addresses, and so have the cards of one VM.
                let role = if socket.listen { "listens" } else { "calls" };
                let on = format!("socket {} {role}", socket.path.display());
                plan.on(&on, vec![end])?
            }
            NetworkMode::Null => {
                networks.said.push("card without a network".into());
                plan.on(&on("null"), vec![Null::new()?])?
            }
        };
        let Card { device, counters, vhost, switches } = card;
        let name = on_tap.as_ref().map_or(format!("card {index}"), |tap| format!("tap {tap}"));
        let pairs = counters.pairs();
        let setup = Setup { name, vhost, pairs, switches, ..Setup::default() };
        let macvtap = matches!(&network.mode, NetworkMode::Tap(tap) if tap.macvtap.is_some());
        let at = devices.len();
        networks.paths.push(CardPath { counters, setup, tap: on_tap, macvtap, device: at });
        devices.push(device);
        if let Some(capture) = &network.capture {
            networks.said.push(format!("captured in {}", capture.path.display()));
        }
    }
    Ok(networks)
}

impl Networks {
    /// A tap, and what it leads to. One on a card of the host's gets the guest's address.
    fn open_tap(
        &mut self,
        tap: &TapOption,
        mac: impl FnOnce(&str) -> Mac,
    ) -> anyhow::Result<Vec<Tap>> {
        if let Some(parent) = &tap.macvtap {
            let made = Macvtap::make(parent, |name| mac(name).bytes());
            let made = made.context("--network mode=tap,macvtap=CARD")?;
            self.said.push(made.to_string());
            let taps = open(Some(made.name()), tap.pairs);
            self.macvtaps.push(made);
            return taps.context("--network mode=tap,macvtap=CARD");
        }
        let taps = open(tap.name.as_deref(), tap.pairs)
            .map_err(|error| with_preparation(error, tap))
            .context("--network mode=tap,tapif=NAME")?;
        let name = taps[0].name();
        self.said.push(format!("tap {name}"));
        if let Some(side) = &tap.side {
            let lead = side.set_up(name).context("--network mode=tap")?;
            self.said.push(lead.to_string());
            self.leads.push(lead);
        }
        Ok(taps)
    }

    fn open_socket(&mut self, option: &SocketOption) -> anyhow::Result<Socket> {
        let SocketOption { path, listen } = option;
        let socket = if *listen { Socket::listen(path) } else { Socket::connect(path) };
        let socket = socket.context("--network mode=socket")?;
        let waiting = if socket.is_connected() { "" } else { ", whose other end is not there yet" };
        self.said.push(format!("socket {}{waiting}", path.display()));
        Ok(socket)
    }

    fn open_user(&mut self, config: &Config) -> anyhow::Result<UserNet> {
        let user = UserNet::new(config).context("--network mode=user")?;
        self.said.push("user network".into());
        self.said.extend(user.forwards().map(|forward| format!("hostfwd {forward}")));
        Ok(user)
    }
}

/// Without a tap, what it would lead to has to be prepared as well.
fn with_preparation(error: TapError, tap: &TapOption) -> anyhow::Error {
    match (&error, &tap.side) {
        (TapError::NotPermitted(name), Some(side)) => {
            let commands = side.preparation(name).join("\n  ");
            anyhow::anyhow!("{error}, and then\n  {commands}\nand give tapif={name}")
        }
        _ => error.into(),
    }
}

/// One end for each pair of queues. A tap that somebody has made for one queue stays one.
fn open(name: Option<&str>, pairs: usize) -> Result<Vec<Tap>, TapError> {
    match pairs {
        1 => Ok(vec![Tap::open(name)?]),
        pairs => Tap::open_queues(name, pairs),
    }
}
