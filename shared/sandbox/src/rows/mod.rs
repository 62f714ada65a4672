//! The rows of accounts: what one is ([`movement`]), what it says ([`content`]), and the two places rows come
//! from, a generator ([`generated`]) and a file of real transactions ([`replayed`]).
//!
//! Rule: a row is a function of its source and the time that is asked about. Nothing here is stored.

pub(crate) mod content;
pub(crate) mod generated;
pub(crate) mod movement;
pub(crate) mod replayed;
