//! Networks in namespaces of the tests' own: a cable takes the tap's place, and the guest's kernel is the
//! machine's own. What is there is asked of `ip` and `nft`, and of connections.

mod dhcp;
mod ends;
mod macvtaps;
mod modes;
mod namespace;
mod strangers;
