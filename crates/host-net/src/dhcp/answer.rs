//! What a client is answered: bytes to bytes, without a socket.

use std::net::Ipv4Addr;
use std::time::Instant;

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr};

use super::leases::{Leases, TERM};

/// Clients of old drop shorter messages (RFC 1542, §2.1).
const SHORTEST: usize = 300;
/// Ways to networks, with lengths of their prefixes (RFC 3442).
const CLASSLESS_ROUTES: u8 = 121;

/// What a network offers.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The server, and the way out.
    pub(crate) router: Ipv4Addr,
    pub(crate) netmask: Ipv4Addr,
    /// Addresses to hand out.
    pub(crate) pool: Vec<Ipv4Addr>,
    /// Resolvers, at most three.
    pub(crate) dns: Vec<Ipv4Addr>,
}

/// The answers of one server.
#[derive(Debug)]
pub(crate) struct Answers {
    terms: Terms,
    leases: Leases,
}

impl Answers {
    pub(crate) fn new(terms: Terms) -> Self {
        let leases = Leases::new(terms.pool.clone());
        Self { terms, leases }
    }

    /// The answer to a message, and whom it is for; there is none to most that make no sense.
    pub(crate) fn answer(&mut self, message: &[u8], now: Instant) -> Option<(Ipv4Addr, Vec<u8>)> {
        let message = DhcpPacket::new_checked(message).ok()?;
        let asked = DhcpRepr::parse(&message).ok()?;
        if asked.relay_agent_ip != Ipv4Addr::UNSPECIFIED {
            return None;
        }
        let client = asked.client_hardware_address.0;
        let (kind, address) = match asked.message_type {
            DhcpMessageType::Discover => {
                let offered = self.leases.offer(client, asked.requested_ip, now)?;
                (DhcpMessageType::Offer, Some(offered))
            }
            DhcpMessageType::Request => self.request(&asked, now)?,
            DhcpMessageType::Inform => (DhcpMessageType::Ack, None),
            DhcpMessageType::Release => {
                self.leases.release(client);
                return None;
            }
            DhcpMessageType::Decline => {
                self.leases.decline(client, now);
                return None;
            }
            _ => return None,
        };
        let told = matches!(kind, DhcpMessageType::Ack) && !asked.client_ip.is_unspecified();
        // Who has no address yet hears what is said to everybody.
        let to = if told { asked.client_ip } else { Ipv4Addr::BROADCAST };
        Some((to, self.message(&asked, kind, address)?))
    }

    /// A client takes an offer, or wants to go on with an address (RFC 2131, §4.3.2).
    fn request(
        &mut self,
        asked: &DhcpRepr,
        now: Instant,
    ) -> Option<(DhcpMessageType, Option<Ipv4Addr>)> {
        let client = asked.client_hardware_address.0;
        if asked.server_identifier.is_some_and(|server| server != self.terms.router) {
            self.leases.release(client);
            return None;
        }
        let wanted = asked.requested_ip.unwrap_or(asked.client_ip);
        Some(match self.leases.confirm(client, wanted, now) {
            true => (DhcpMessageType::Ack, Some(wanted)),
            false => (DhcpMessageType::Nak, None),
        })
    }

    fn message(
        &self,
        asked: &DhcpRepr,
        kind: DhcpMessageType,
        address: Option<Ipv4Addr>,
    ) -> Option<Vec<u8>> {
        let Terms { router, netmask, .. } = self.terms;
        let refused = kind == DhcpMessageType::Nak;
        let routes = self.terms.routes();
        let options = [DhcpOption { kind: CLASSLESS_ROUTES, data: &routes }];
        let on_cable = netmask == Ipv4Addr::BROADCAST && !refused;
        let dns = self.terms.dns.iter().copied();
        let message = DhcpRepr {
            message_type: kind,
            transaction_id: asked.transaction_id,
            secs: 0,
            client_hardware_address: asked.client_hardware_address,
            client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { asked.client_ip },
            your_ip: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            server_ip: Ipv4Addr::UNSPECIFIED,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: asked.broadcast,
            client_identifier: asked.client_identifier,
            server_identifier: Some(router),
            router: (!refused).then_some(router),
            subnet_mask: (!refused).then_some(netmask),
            dns_servers: (!refused && dns.len() > 0).then(|| dns.collect()),
            lease_duration: address.map(|_| TERM.as_secs() as u32),
            additional_options: if on_cable { &options } else { &[] },
            requested_ip: None,
            parameter_request_list: None,
            max_size: None,
            renew_duration: None,
            rebind_duration: None,
        };
        let mut bytes = vec![0; message.buffer_len().max(SHORTEST)];
        message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
        Some(bytes)
    }
}

impl Terms {
    /// For a client whose router is not in its network: it is on the cable, and leads everywhere.
    fn routes(&self) -> Vec<u8> {
        let router = self.router.octets();
        [&[32][..], &router, &[0; 4], &[0], &router].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::EthernetAddress;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 1);
    const FIRST: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 2);
    const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    fn answers() -> Answers {
        Answers::new(Terms {
            router: GATEWAY,
            netmask: Ipv4Addr::new(255, 255, 255, 0),
            pool: vec![FIRST],
            dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
        })
    }

    fn question(kind: DhcpMessageType) -> DhcpRepr<'static> {
        DhcpRepr {
            message_type: kind,
            transaction_id: 7,
            secs: 1,
            client_hardware_address: EthernetAddress([2, 0, 0, 0, 0, 1]),
            client_ip: NONE,
            your_ip: NONE,
            server_ip: NONE,
            router: None,
            subnet_mask: None,
            relay_agent_ip: NONE,
            broadcast: true,
            requested_ip: None,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        }
    }

    fn ask(answers: &mut Answers, question: &DhcpRepr) -> Option<(Ipv4Addr, Vec<u8>)> {
        let mut bytes = vec![0; question.buffer_len()];
        question.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
        answers.answer(&bytes, Instant::now())
    }

    /// The answer's values, for which its bytes must stay.
    fn read(answer: &[u8]) -> DhcpRepr<'static> {
        assert!(answer.len() >= SHORTEST);
        let bytes: &'static [u8] = answer.to_vec().leak();
        DhcpRepr::parse(Box::leak(Box::new(DhcpPacket::new_checked(bytes).unwrap()))).unwrap()
    }

    #[test]
    fn a_client_is_offered_an_address_and_takes_it() {
        let mut answers = answers();
        let (to, offer) = ask(&mut answers, &question(DhcpMessageType::Discover)).unwrap();
        assert_eq!(to, Ipv4Addr::BROADCAST);
        let offer = read(&offer);
        assert_eq!((offer.message_type, offer.your_ip), (DhcpMessageType::Offer, FIRST));
        let mut request = question(DhcpMessageType::Request);
        request.requested_ip = Some(offer.your_ip);
        request.server_identifier = offer.server_identifier;
        let (_, ack) = ask(&mut answers, &request).unwrap();
        let ack = read(&ack);
        assert_eq!((ack.message_type, ack.your_ip), (DhcpMessageType::Ack, FIRST));
        assert_eq!((ack.router, ack.server_identifier), (Some(GATEWAY), Some(GATEWAY)));
        assert_eq!(ack.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!(ack.dns_servers.unwrap().as_slice(), [Ipv4Addr::new(192, 0, 2, 53)]);
        assert_eq!((ack.lease_duration, ack.transaction_id), (Some(3600), 7));
    }

    #[test]
    fn a_client_that_renews_is_answered_at_its_address() {
        let mut answers = answers();
        let mut request = question(DhcpMessageType::Request);
        request.client_ip = FIRST;
        let (to, ack) = ask(&mut answers, &request).unwrap();
        assert_eq!((to, read(&ack).message_type), (FIRST, DhcpMessageType::Ack));
    }

    #[test]
    fn an_address_of_another_network_is_refused() {
        let mut request = question(DhcpMessageType::Request);
        request.requested_ip = Some(Ipv4Addr::new(192, 168, 1, 7));
        let (to, nak) = ask(&mut answers(), &request).unwrap();
        assert_eq!((to, read(&nak).message_type), (Ipv4Addr::BROADCAST, DhcpMessageType::Nak));
        assert_eq!((read(&nak).your_ip, read(&nak).router), (NONE, None));
    }

    #[test]
    fn who_takes_another_servers_offer_is_left_alone() {
        let mut request = question(DhcpMessageType::Request);
        request.requested_ip = Some(FIRST);
        request.server_identifier = Some(Ipv4Addr::new(10, 9, 8, 77));
        assert_eq!(ask(&mut answers(), &request), None);
    }

    #[test]
    fn who_has_an_address_is_told_the_rest() {
        let mut inform = question(DhcpMessageType::Inform);
        inform.client_ip = Ipv4Addr::new(10, 9, 8, 99);
        let (to, ack) = ask(&mut answers(), &inform).unwrap();
        assert_eq!((to, read(&ack).your_ip), (inform.client_ip, NONE));
        assert_eq!((read(&ack).lease_duration, read(&ack).router), (None, Some(GATEWAY)));
    }

    #[test]
    fn a_router_beyond_the_network_comes_with_the_way_to_it() {
        let mut answers = answers();
        answers.terms.router = Ipv4Addr::new(169, 254, 1, 1);
        answers.terms.netmask = Ipv4Addr::BROADCAST;
        let (_, offer) = ask(&mut answers, &question(DhcpMessageType::Discover)).unwrap();
        let packet = DhcpPacket::new_checked(&offer[..]).unwrap();
        let routes = packet.options().find(|option| option.kind == 121).unwrap();
        assert_eq!(routes.data, [32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1]);
    }

    proptest! {
        #[test]
        fn no_message_of_a_guest_gets_an_address_that_is_not_to_be_had(
            damage in prop::collection::vec((0usize..280, any::<u8>()), 0..9),
            options in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = vec![0; 240];
            question(DhcpMessageType::Request)
                .emit(&mut DhcpPacket::new_unchecked(bytes.as_mut_slice()))
                .unwrap_or_default(); // without room for options, all else is there
            bytes.extend([53, 1, 3]);
            bytes.extend(options);
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Some((_, answer)) = answers().answer(&bytes, Instant::now()) {
                prop_assert!([NONE, FIRST].contains(&read(&answer).your_ip));
            }
        }
    }

    #[test]
    fn nonsense_is_not_answered() {
        let mut answers = answers();
        assert_eq!(answers.answer(&[], Instant::now()), None);
        assert_eq!(answers.answer(&[0xff; 1500], Instant::now()), None);
        for kind in [DhcpMessageType::Offer, DhcpMessageType::Ack, DhcpMessageType::Nak] {
            assert_eq!(ask(&mut answers, &question(kind)), None);
        }
        let mut relayed = question(DhcpMessageType::Discover);
        relayed.relay_agent_ip = FIRST;
        assert_eq!(ask(&mut answers, &relayed), None);
    }
}
