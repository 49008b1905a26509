//! The network cards that the options ask for.

use anyhow::Context;
use cubie::host_net::HostNet;
use cubie::lkvm::{NetworkMode, NetworkOption, TapOption};
use cubie::net::{Mac, Net, Tap, TapError};
use cubie::user_net::{Config, UserNet};

use crate::cli::Cli;
use crate::machine::Devices;

/// What a card takes whose driver is not told: Ethernet's.
const USUAL_MTU: u16 = 1500;

/// What the cards are on.
#[derive(Default)]
pub(crate) struct Networks {
    /// As the greeting has it.
    pub(crate) said: Vec<String>,
    /// What taps lead to, as long as this is there.
    leads: Vec<HostNet>,
}

impl Networks {
    /// The cards' host end is `tap`, and what it leads to.
    fn add_tap(&mut self, tap: &TapOption) -> anyhow::Result<Vec<Tap>> {
        let taps = open(tap)
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

    fn add_user(&mut self, config: &Config) -> anyhow::Result<UserNet> {
        let user = UserNet::new(config).context("--network mode=user")?;
        self.said.push("user network".into());
        self.said.extend(user.forwards().map(|forward| format!("hostfwd {forward}")));
        Ok(user)
    }
}

/// Makes a card for each network.
pub(crate) fn add_networks(devices: &mut Devices, cli: &Cli) -> anyhow::Result<Networks> {
    let default = [NetworkOption::of(NetworkMode::User(Config::default()))];
    let options = if cli.network.is_empty() { &default[..] } else { &cli.network };
    let mut networks = Networks::default();
    for (index, network) in options.iter().enumerate() {
        // Each card has what it is on in its address, so that VMs of one name differ on a bridge.
        let mac =
            |on: &str| network.mac.unwrap_or_else(|| Mac::made_from(&format!("{} {on}", cli.name)));
        match &network.mode {
            NetworkMode::None => {}
            NetworkMode::Tap(tap) => {
                let taps = networks.add_tap(tap)?;
                let mac = mac(taps[0].name());
                devices.push(Box::new(card(taps, mac, tap)?));
            }
            NetworkMode::User(config) => {
                let user = networks.add_user(config)?;
                devices.push(Box::new(Net::new(user, mac(&format!("user {index}")))));
            }
        }
    }
    Ok(networks)
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
fn open(tap: &TapOption) -> Result<Vec<Tap>, TapError> {
    match tap.pairs {
        1 => Ok(vec![Tap::open(tap.name.as_deref())?]),
        pairs => Tap::open_queues(tap.name.as_deref(), pairs),
    }
}

/// The guest learns the MTU of a tap that has an unusual one.
fn card(taps: Vec<Tap>, mac: Mac, how: &TapOption) -> anyhow::Result<Net<Tap>> {
    let mtu = taps[0].mtu()?;
    let mut card = Net::with_pairs(taps, mac).context("--network mq=PAIRS")?;
    if mtu != USUAL_MTU {
        card = card.with_mtu(mtu)?;
    }
    if how.vhost
        && let Err(error) = card.use_vhost()
    {
        eprintln!("cubietruck-vm: vhost=1: {error}; going on without");
    }
    Ok(card)
}
