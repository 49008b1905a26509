//! Frames that no decent guest sends.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cubie_user_net::addresses::{DNS, GATEWAY, GATEWAY6, GUEST};
use cubie_user_net::{Config, Gateway};
use proptest::collection::vec;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::raw;
use crate::stack::guest6;

/// A frame that would be right, at most for ports of the host's where nobody listens.
fn decent() -> impl Strategy<Value = Vec<u8>> {
    let ends = prop_oneof![
        Just((IpAddr::from(GUEST), IpAddr::from(GATEWAY))),
        Just((IpAddr::from(GUEST), IpAddr::from(DNS))),
        Just((IpAddr::from(guest6()), IpAddr::from(GATEWAY6))),
        Just((IpAddr::from(GUEST), IpAddr::from([255; 4]))),
    ];
    let ports = (1u16..4, prop_oneof![Just(1u16), Just(2), Just(67)]);
    let data = vec(any::<u8>(), 0..400);
    prop_oneof![
        (ends.clone(), ports.clone(), data.clone())
            .prop_map(|(ends, ports, data)| raw::datagram(ends, ports, &data)),
        (ends.clone(), ports, any::<(u32, u32, u16, u8)>(), data.clone())
            .prop_map(|(ends, ports, fields, data)| segment(ends, ports, fields, &data)),
        (any::<(u16, u16)>(), data.clone()).prop_map(|((ident, seq_no), data)| {
            let echo = Icmpv4Repr::EchoRequest { ident, seq_no, data: &data };
            let mut bytes = vec![0; echo.buffer_len()];
            let all = ChecksumCapabilities::default();
            echo.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &all);
            raw::ip((GUEST.into(), GATEWAY.into()), IpProtocol::Icmp, 64, &bytes)
        }),
        (ends, any::<(u8, u8)>(), data).prop_map(|(ends, (protocol, hops), data)| raw::ip(
            ends,
            protocol.into(),
            hops,
            &data
        )),
    ]
}

fn segment(
    (from, to): (IpAddr, IpAddr),
    (src_port, dst_port): (u16, u16),
    (seq, ack, window_len, flags): (u32, u32, u16, u8),
    payload: &[u8],
) -> Vec<u8> {
    let control = match flags % 5 {
        0 => TcpControl::Syn,
        1 => TcpControl::Fin,
        2 => TcpControl::Rst,
        3 => TcpControl::Psh,
        _ => TcpControl::None,
    };
    let repr = TcpRepr {
        src_port,
        dst_port,
        control,
        seq_number: TcpSeqNumber(seq as i32),
        ack_number: (flags & 64 != 0).then_some(TcpSeqNumber(ack as i32)),
        window_len,
        window_scale: (flags & 8 != 0).then_some(flags >> 4),
        max_seg_size: (flags & 16 != 0).then_some(window_len),
        sack_permitted: flags & 32 != 0,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let (src, dst) = (from.into(), to.into());
    let all = ChecksumCapabilities::default();
    repr.emit(&mut TcpPacket::new_unchecked(&mut bytes[..]), &src, &dst, &all);
    raw::ip((from, to), IpProtocol::Tcp, 64, &bytes)
}

/// A frame with some bytes changed, and another length.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (decent(), changes, prop::option::of(0..500usize), any::<bool>()).prop_map(
        |(mut frame, changes, len, mended)| {
            for (index, byte) in changes {
                let at = index.index(frame.len());
                frame[at] = byte;
            }
            if let Some(len) = len {
                frame.resize(len, 0);
            }
            // Else few would come past the first check.
            let is_ipv4 = frame.get(12..14) == Some(&[8, 0]);
            if mended
                && is_ipv4
                && let Ok(mut packet) = Ipv4Packet::new_checked(&mut frame[14..])
            {
                packet.fill_checksum();
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_makes_the_gateway_panic_or_answer_without_end(
        frames in vec(
            prop_oneof![3 => mutated(), 1 => vec(any::<u8>(), 0..200)],
            1..60,
        ),
        steps in vec(0..400u64, 60),
        restrict in any::<bool>(),
    ) {
        let start = Instant::now();
        let mut config = Config { restrict, ..Config::default() };
        config.resolvers = vec!["127.0.0.1:1".parse().unwrap()];
        (config.limits.tcp_flows, config.limits.udp_flows) = (3, 3);
        let mut gateway = Gateway::new(&config, start).unwrap();
        let mut now = start;
        for (frame, step) in frames.iter().zip(steps) {
            now += Duration::from_secs(step * step / 1000);
            gateway.input(frame, now);
            let mut answers = 0;
            while let Some(len) = gateway.output(now, <[u8]>::len) {
                prop_assert!((14..=1514).contains(&len));
                answers += 1;
                prop_assert!(answers < 1000, "answers without end");
            }
        }
    }
}
