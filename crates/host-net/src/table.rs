//! What is done with guests' packets on their way through this host (nftables).

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_bindings::nftables::{
    Chained, CmpOps, CtKeys, MetaKeys, Nfgenmsg, PayloadBase, PushExprListAttrs, PushRuleAttrs,
    Registers, TableFlags, VerdictCode,
};
use netlink_bindings::utils::RequestBuf;
use netlink_socket2::NetlinkSocket;

/// Where an IPv4 header has its addresses.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// Of packets that belong to a connection: established and related, in what nftables calls its state
/// (nf_conntrack_common.h, and 1 more).
const CT_KNOWN: u32 = 1 << 1 | 1 << 2;
const FORWARD: &CStr = c"forward";
const POSTROUTING: &CStr = c"postrouting";
const DATA: u32 = Registers::Reg1 as u32;

/// Where a cloud answers its machines, and nobody else: with their credentials, for one (RFC 3927).
const LINK_LOCAL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);

/// A table of nftables that is ours. That of a private network:
///
/// ```text
/// table ip BRIDGE {
///     flags owner
///     chain forward {
///         type filter hook forward priority filter
///         iifname BRIDGE oifname != BRIDGE ip saddr != SUBNET drop
///         iifname BRIDGE oifname != BRIDGE ip daddr 169.254.0.0/16 drop
///         iifname != BRIDGE oifname BRIDGE ct state ! established,related drop
///     }
///     chain postrouting {
///         type nat hook postrouting priority srcnat
///         ip saddr SUBNET ip daddr != SUBNET masquerade
///     }
/// }
/// ```
///
/// That of a routed guest has the first two rules, with its tap and its address alone. Packets between guests of one
/// bridge come by too where it asks the firewall (br_netfilter), and are none of these rules'.
///
/// The kernel removes it with the socket that has made it, whatever becomes of the process, and lets nobody
/// else change it meanwhile (Linux 5.12, NFT_TABLE_F_OWNER): no reload of a firewall takes it away.
pub(crate) struct Table {
    socket: NetlinkSocket,
    name: CString,
}

impl Table {
    /// Guests of `bridge` leave under the host's address, and nobody comes to them.
    pub(crate) fn private(bridge: &str, subnet: Ipv4Net) -> io::Result<Self> {
        Self::make(bridge, |batch| {
            batch.confine(bridge, subnet);
            batch.rule(FORWARD, |rule| drop_unknown(inwards(rule, bridge)));
            batch.chain(POSTROUTING, c"nat", libc::NF_INET_POST_ROUTING, 100);
            batch.rule(POSTROUTING, |rule| {
                let rule = within(rule, SOURCE, CmpOps::Eq, subnet);
                let rule = within(rule, DESTINATION, CmpOps::Neq, subnet);
                rule.nested_elem().push_name(c"masq").end_nested()
            });
        })
    }

    /// The guest at `tap` leaves under its own address only.
    pub(crate) fn routed(name: &str, tap: &str, guest: Ipv4Addr) -> io::Result<Self> {
        Self::make(name, |batch| batch.confine(tap, guest.into()))
    }

    fn make(name: &str, fill: impl FnOnce(&mut Batch<'_>)) -> io::Result<Self> {
        let mut socket = NetlinkSocket::new();
        let name = CString::new(name)?;
        let mut batch = Batch::begin(&mut socket, &name);
        batch.make_table();
        fill(&mut batch);
        batch.run(&mut socket)?;
        Ok(Self { socket, name })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut batch = Batch::begin(&mut self.socket, &self.name);
        batch.delete_table();
        // What fails here goes with the socket, of which a child that is about to be started may have a copy.
        let _ = batch.run(&mut self.socket);
    }
}

/// Requests that take effect together.
struct Batch<'a> {
    requests: Chained<'static>,
    table: &'a CStr,
}

type Expressions<'a> = PushExprListAttrs<PushRuleAttrs<RequestBuf<'a>>>;

impl<'t> Batch<'t> {
    fn begin(socket: &mut NetlinkSocket, table: &'t CStr) -> Self {
        let mut requests = Chained::new(socket.reserve_seq(16));
        requests.request().op_batch_begin_do(&subsystem());
        Self { requests, table }
    }

    fn make_table(&mut self) {
        let request = self.requests.request().set_create().set_excl();
        let attributes = request.op_newtable_do(&ipv4()).into_encoder();
        attributes.push_name(self.table).push_flags(TableFlags::Owner as u32);
    }

    fn delete_table(&mut self) {
        let request = self.requests.request().op_deltable_do(&ipv4());
        request.into_encoder().push_name(self.table);
    }

    fn chain(&mut self, name: &CStr, kind: &CStr, hook: i32, priority: i32) {
        let request = self.requests.request().set_create();
        let attributes = request.op_newchain_do(&ipv4()).into_encoder();
        let attributes = attributes.push_table(self.table).push_name(name).push_type(kind);
        attributes.nested_hook().push_num(hook.cast_unsigned()).push_priority(priority);
    }

    fn rule(
        &mut self,
        chain: &CStr,
        fill: impl for<'a> FnOnce(Expressions<'a>) -> Expressions<'a>,
    ) {
        let request = self.requests.request().set_create().set_append();
        let attributes = request.op_newrule_do(&ipv4()).into_encoder();
        let attributes = attributes.push_table(self.table).push_chain(chain);
        fill(attributes.nested_expressions());
    }

    /// What leaves `interface` comes from `inside`, and does not go to the host's own neighbours on its cable.
    fn confine(&mut self, interface: &str, inside: Ipv4Net) {
        self.chain(FORWARD, c"filter", libc::NF_INET_FORWARD, 0);
        self.rule(FORWARD, |rule| {
            dropped(within(outwards(rule, interface), SOURCE, CmpOps::Neq, inside))
        });
        self.rule(FORWARD, |rule| {
            dropped(within(outwards(rule, interface), DESTINATION, CmpOps::Eq, LINK_LOCAL))
        });
    }

    fn run(mut self, socket: &mut NetlinkSocket) -> io::Result<()> {
        self.requests.request().op_batch_end_do(&subsystem());
        Ok(socket.request_chained(&self.requests.finalize())?.recv_all()?)
    }
}

/// The address at `offset` is, or is not, one of `net`.
fn within(rule: Expressions<'_>, offset: u32, op: CmpOps, net: Ipv4Net) -> Expressions<'_> {
    let rule = rule.nested_elem().nested_data_payload();
    let rule = rule.push_dreg(DATA).push_base(PayloadBase::NetworkHeader as u32);
    let rule = rule.push_offset(offset).push_len(4).end_nested().end_nested();
    let rule = if net.prefix_len() < 32 { masked(rule, &net.netmask().octets()) } else { rule };
    compared(rule, op, &net.network().octets())
}

/// What comes from `interface` and leaves by another.
fn outwards<'a>(rule: Expressions<'a>, interface: &str) -> Expressions<'a> {
    passes(rule, interface, CmpOps::Eq, CmpOps::Neq)
}

/// What comes from elsewhere and leaves by `interface`.
fn inwards<'a>(rule: Expressions<'a>, interface: &str) -> Expressions<'a> {
    passes(rule, interface, CmpOps::Neq, CmpOps::Eq)
}

/// The interface where it comes in, and that where it goes out, is or is not this one.
fn passes<'a>(
    rule: Expressions<'a>,
    interface: &str,
    comes: CmpOps,
    goes: CmpOps,
) -> Expressions<'a> {
    let mut name = [0; libc::IFNAMSIZ];
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    let rule = compared(loaded(rule, MetaKeys::Iifname), comes, &name);
    compared(loaded(rule, MetaKeys::Oifname), goes, &name)
}

/// Of what has come so far, only what belongs to a connection goes on: nothing that begins one, and nothing that
/// the host does not follow (a rule of its own may say `notrack`).
fn drop_unknown(rule: Expressions<'_>) -> Expressions<'_> {
    let rule = rule.nested_elem().nested_data_ct();
    let rule = rule.push_dreg(DATA).push_key(CtKeys::State as u32).end_nested().end_nested();
    let rule = masked(rule, &CT_KNOWN.to_ne_bytes());
    dropped(compared(rule, CmpOps::Eq, &[0; 4]))
}

fn dropped(rule: Expressions<'_>) -> Expressions<'_> {
    let rule = rule.nested_elem().nested_data_immediate();
    let rule = rule.push_dreg(Registers::RegVerdict as u32).nested_data().nested_verdict();
    let rule = rule.push_code(VerdictCode::Drop as u32).end_nested().end_nested();
    rule.end_nested().end_nested()
}

fn loaded(rule: Expressions<'_>, key: MetaKeys) -> Expressions<'_> {
    let rule = rule.nested_elem().nested_data_meta();
    rule.push_dreg(DATA).push_key(key as u32).end_nested().end_nested()
}

fn masked<'a>(rule: Expressions<'a>, mask: &[u8; 4]) -> Expressions<'a> {
    let rule = rule.nested_elem().nested_data_bitwise();
    let rule = rule.push_sreg(DATA).push_dreg(DATA).push_len(4);
    let rule = rule.nested_mask().push_value(mask).end_nested();
    rule.nested_xor().push_value(&[0; 4]).end_nested().end_nested().end_nested()
}

fn compared<'a>(rule: Expressions<'a>, op: CmpOps, value: &[u8]) -> Expressions<'a> {
    let rule = rule.nested_elem().nested_data_cmp().push_sreg(DATA).push_op(op as u32);
    rule.nested_data().push_value(value).end_nested().end_nested().end_nested()
}

fn ipv4() -> Nfgenmsg {
    Nfgenmsg { nfgen_family: libc::NFPROTO_IPV4 as u8, ..Nfgenmsg::new() }
}

fn subsystem() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.set_res_id(libc::NFNL_SUBSYS_NFTABLES as u16);
    header
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Table")
    }
}
