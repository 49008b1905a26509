//! Interfaces, addresses and routes of this network namespace (rtnetlink(7)).

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use netlink_bindings::rt_addr::{self, Ifaddrmsg};
use netlink_bindings::rt_link::{self, IfinfoFlags, Ifinfomsg};
use netlink_bindings::rt_route::{self, Rtmsg};
use netlink_bindings::traits::{NetlinkRequest, Protocol, Pusher};
use netlink_bindings::utils::ErrorContext;
use netlink_socket2::NetlinkSocket;

const INET: u8 = libc::AF_INET as u8;
/// The kernel's `IFALIASZ`, and a zero.
pub(crate) const LONGEST_ALIAS: usize = 255;

/// `RTM_NEWLINKPROP` and `RTM_DELLINKPROP` of linux/rtnetlink.h.
const NEW_PROPERTY: u16 = 108;
const DELETE_PROPERTY: u16 = 109;
/// The header of an attribute: its length, itself included, and its kind.
const NO_ALIAS: [[u8; 2]; 2] = [4u16.to_ne_bytes(), libc::IFLA_IFALIAS.to_ne_bytes()];

/// The mode of a macvtap, in the data of its kind: `IFLA_INFO_DATA`, `IFLA_MACVLAN_MODE` and
/// `MACVLAN_MODE_BRIDGE` of linux/if_link.h, which the kernel's own description of rtnetlink leaves out.
const AS_BRIDGE: ([[u16; 2]; 2], u32) = ([[12, 2], [8, 1]], 4);

/// An interface, as far as it matters here.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) is_bridge: bool,
    /// A tap, or a cable in its place (veth).
    pub(crate) is_tap: bool,
    pub(crate) is_macvtap: bool,
    /// The index of what it is part of.
    pub(crate) master: Option<u32>,
    /// A line that people and programs write to it.
    pub(crate) alias: String,
    pub(crate) is_up: bool,
}

/// An address of an interface, or two of a cable with two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) local: Ipv4Addr,
    /// What lies beyond: the network of `local`, or the other end alone.
    pub(crate) beyond: Ipv4Net,
}

/// The kernel's end of all that, in the network namespace in which it was opened.
pub(crate) struct Rtnetlink(NetlinkSocket);

impl Rtnetlink {
    pub(crate) fn open() -> Self {
        Self(NetlinkSocket::new())
    }

    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = rt_link::Request::new().op_getlink_dump(&Ifinfomsg::new());
        let mut replies = self.0.request(&request)?;
        let mut links = vec![];
        while let Some((header, attributes)) = replies.recv().transpose()? {
            let kind = attributes.get_linkinfo().and_then(|info| info.get_kind());
            let is_ethernet = header.ifi_type == libc::ARPHRD_ETHER;
            links.push(Link {
                index: header.ifi_index.cast_unsigned(),
                name: text(attributes.get_ifname()),
                is_bridge: kind == Ok(c"bridge"),
                is_macvtap: kind == Ok(c"macvtap"),
                is_tap: is_ethernet && (kind == Ok(c"tun") || kind == Ok(c"veth")),
                master: attributes.get_master().ok().filter(|&index| index != 0),
                alias: text(attributes.get_ifalias()),
                is_up: header.ifi_flags & IfinfoFlags::Up as u32 != 0,
            });
        }
        Ok(links)
    }

    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// Makes a bridge, and says so with the kernel's refusal if there is an interface of that name.
    pub(crate) fn make_bridge(&mut self, name: &str, mac: [u8; 6]) -> io::Result<()> {
        let request = rt_link::Request::new().set_create().set_excl();
        let mut request = request.op_newlink_do(&Ifinfomsg::new());
        let attributes = request.encode().push_ifname_bytes(name.as_bytes()).push_address(&mac);
        attributes.nested_linkinfo().push_kind(c"bridge");
        self.done(&request)
    }

    /// Makes a macvtap on the interface `below`, whose guests hear each other.
    pub(crate) fn make_macvtap(&mut self, name: &str, below: u32, mac: [u8; 6]) -> io::Result<()> {
        let request = rt_link::Request::new().set_create().set_excl();
        let mut request = request.op_newlink_do(&Ifinfomsg::new());
        let attributes = request.encode().push_ifname_bytes(name.as_bytes()).push_address(&mac);
        let mut kind = attributes.push_link(below).nested_linkinfo().push_kind(c"macvtap");
        let (headers, mode) = AS_BRIDGE;
        let headers = headers.as_flattened().iter().flat_map(|half| half.to_ne_bytes());
        kind.as_vec_mut().extend(headers.chain(mode.to_ne_bytes()));
        drop(kind);
        self.done(&request)
    }

    pub(crate) fn delete(&mut self, link: u32) -> io::Result<()> {
        let request = rt_link::Request::new().op_dellink_do(&about(link));
        self.done(&request)
    }

    pub(crate) fn set_alias(&mut self, link: u32, alias: &str) -> io::Result<()> {
        let mut request = rt_link::Request::new().op_setlink_do(&about(link));
        match alias {
            // An attribute without any byte: with one for the end it would be a line that is empty.
            "" => request.encode().as_vec_mut().extend_from_slice(&NO_ALIAS.concat()),
            alias => drop(request.encode().push_ifalias_bytes(alias.as_bytes())),
        }
        self.done(&request)
    }

    /// Makes `link` a part of the bridge `master`, or of nothing.
    pub(crate) fn set_master(&mut self, link: u32, master: Option<u32>) -> io::Result<()> {
        let mut request = rt_link::Request::new().op_setlink_do(&about(link));
        request.encode().push_master(master.unwrap_or(0));
        self.done(&request)
    }

    pub(crate) fn bring_up(&mut self, link: u32) -> io::Result<()> {
        self.set_flags(link, IfinfoFlags::Up as u32)
    }

    /// As [`Rtnetlink::bring_up`], and `link` takes what is for any group, whoever has joined it here.
    pub(crate) fn bring_up_for_all_groups(&mut self, link: u32) -> io::Result<()> {
        self.set_flags(link, IfinfoFlags::Up as u32 | IfinfoFlags::AllMulti as u32)
    }

    fn set_flags(&mut self, link: u32, flags: u32) -> io::Result<()> {
        let header = Ifinfomsg { ifi_flags: flags, ifi_change: flags, ..about(link) };
        let request = rt_link::Request::new().op_setlink_do(&header);
        self.done(&request)
    }

    pub(crate) fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let header = Ifaddrmsg { ifa_family: INET, ..Default::default() };
        let request = rt_addr::Request::new().op_getaddr_dump(&header);
        let mut replies = self.0.request(&request)?;
        let mut addresses = vec![];
        while let Some((header, attributes)) = replies.recv().transpose()? {
            let (local, beyond) = (attributes.get_local(), attributes.get_address());
            if let (Ok(IpAddr::V4(local)), Ok(IpAddr::V4(beyond))) = (local, beyond) {
                let beyond = net(beyond, header.ifa_prefixlen)?;
                addresses.push(Address { link: header.ifa_index, local, beyond });
            }
        }
        Ok(addresses)
    }

    pub(crate) fn add_address(&mut self, address: &Address) -> io::Result<()> {
        let request = rt_addr::Request::new().set_create().set_excl();
        let mut request = request.op_newaddr_do(&address.header());
        {
            let attributes = request.encode().push_local(address.local.into());
            let attributes = attributes.push_address(address.beyond.addr().into());
            if address.beyond.prefix_len() < 31 {
                attributes.push_broadcast(address.beyond.broadcast());
            }
        }
        self.done(&request)
    }

    pub(crate) fn delete_address(&mut self, address: &Address) -> io::Result<()> {
        let mut request = rt_addr::Request::new().op_deladdr_do(&address.header());
        let attributes = request.encode().push_local(address.local.into());
        attributes.push_address(address.beyond.addr().into());
        self.done(&request)
    }

    /// Where this host sends packets, but for the default routes: destinations and interfaces.
    pub(crate) fn routes(&mut self) -> io::Result<Vec<(Ipv4Net, Option<u32>)>> {
        let header = Rtmsg { rtm_family: INET, ..Default::default() };
        let request = rt_route::Request::new().op_getroute_dump(&header);
        let mut replies = self.0.request(&request)?;
        let mut routes = vec![];
        while let Some((header, attributes)) = replies.recv().transpose()? {
            if let Ok(IpAddr::V4(destination)) = attributes.get_dst()
                && header.rtm_dst_len != 0
            {
                routes.push((net(destination, header.rtm_dst_len)?, attributes.get_oif().ok()));
            }
        }
        Ok(routes)
    }

    /// Gives `link` a further name.
    pub(crate) fn add_name(&mut self, link: u32, name: &CStr) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_APPEND;
        self.done(&Naming::new(NEW_PROPERTY, flags, link, name))
    }

    pub(crate) fn delete_name(&mut self, link: u32, name: &CStr) -> io::Result<()> {
        self.done(&Naming::new(DELETE_PROPERTY, 0, link, name))
    }

    /// Whether an interface has this further name.
    pub(crate) fn is_named(&mut self, name: &CStr) -> io::Result<bool> {
        let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
        request.encode().push_alt_ifname(name);
        let found = self.0.request(&request)?.recv_one().map(drop).map_err(io::Error::from);
        match found {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            found => found.map(|()| true),
        }
    }

    fn done(&mut self, request: &impl NetlinkRequest) -> io::Result<()> {
        Ok(self.0.request(request)?.recv_ack()?)
    }
}

impl Address {
    fn header(&self) -> Ifaddrmsg {
        // A cable's end is known on the cable only.
        let scope = if self.local.is_link_local() { libc::RT_SCOPE_LINK } else { 0 };
        Ifaddrmsg {
            ifa_family: INET,
            ifa_prefixlen: self.beyond.prefix_len(),
            ifa_flags: 0,
            ifa_scope: scope,
            ifa_index: self.link,
        }
    }
}

/// A change of an interface's further names, which the kernel's own description of rtnetlink leaves out.
struct Naming {
    request: rt_link::OpSetlinkDo<'static>,
    kind: u16,
}

impl Naming {
    fn new(kind: u16, flags: libc::c_int, link: u32, name: &CStr) -> Self {
        let request = rt_link::Request::new().set_flags(flags as u16);
        let mut request = request.op_setlink_do(&about(link));
        request.encode().nested_prop_list().push_alt_ifname(name);
        Self { request, kind }
    }
}

impl NetlinkRequest for Naming {
    fn protocol(&self) -> Protocol {
        Protocol::Raw { protonum: libc::NETLINK_ROUTE as u16, request_type: self.kind }
    }

    fn flags(&self) -> u16 {
        self.request.flags()
    }

    fn payload(&self) -> &[u8] {
        self.request.payload()
    }

    type ReplyType<'buf> = ();

    fn decode_reply(_: &[u8]) {}
}

fn about(link: u32) -> Ifinfomsg {
    Ifinfomsg { ifi_index: link.cast_signed(), ..Ifinfomsg::new() }
}

fn text(attribute: Result<&CStr, ErrorContext>) -> String {
    attribute.unwrap_or_default().to_string_lossy().into_owned()
}

fn net(address: Ipv4Addr, prefix: u8) -> io::Result<Ipv4Net> {
    Ipv4Net::new(address, prefix).map_err(io::Error::other)
}
