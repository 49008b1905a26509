//! Who of the guest's side has which card.

use std::collections::VecDeque;
use std::net::IpAddr;

use smoltcp::wire::EthernetAddress;

use crate::addresses::is_inside;

/// Addresses that are remembered.
const MOST: usize = 16;

/// The guest's addresses, each with its card: a guest has several, and machines behind it others.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(VecDeque<(IpAddr, EthernetAddress)>);

impl Neighbours {
    /// Remembers where a packet came from; `true` if that is new.
    pub(crate) fn learn(&mut self, address: IpAddr, mac: EthernetAddress) -> bool {
        if !is_inside(address) || self.find(address) == Some(mac) {
            return false;
        }
        self.0.retain(|(known, _)| *known != address);
        self.0.truncate(MOST - 1);
        self.0.push_front((address, mac));
        true
    }

    pub(crate) fn find(&self, address: IpAddr) -> Option<EthernetAddress> {
        self.0.iter().find(|(known, _)| *known == address).map(|(_, mac)| *mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_addresses_of_the_network_are_known() {
        let mut neighbours = Neighbours::default();
        let mac = |n| EthernetAddress([2, 0, 0, 0, 0, n]);
        let address = |n| IpAddr::from([10, 0, 2, n]);
        for n in 0..40 {
            assert!(neighbours.learn(address(n), mac(n)));
        }
        assert!(!neighbours.learn(address(39), mac(39)), "known");
        assert!(neighbours.learn(address(39), mac(7)), "another card");
        assert!(!neighbours.learn([10, 0, 3, 1].into(), mac(1)), "not of the network");
        assert_eq!(neighbours.find(address(39)), Some(mac(7)));
        assert_eq!(neighbours.find(address(24)), Some(mac(24)));
        assert_eq!(neighbours.find(address(23)), None);
    }
}
