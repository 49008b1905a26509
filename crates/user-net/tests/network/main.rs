//! A guest's stack (smoltcp's) on one end of the cable, servers of the standard library on the
//! other end of the network: no VM, no root.

mod cable;
mod card;
mod datagrams;
mod doors;
mod hostile;
mod limits;
mod link;
mod offloads;
mod raw;
mod stack;
mod tcp;
