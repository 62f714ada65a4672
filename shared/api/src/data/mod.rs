//! Okra's products, read: [`accounts`], [`auth`], [`balances`], [`transactions`], in one call as [`products`] or [`callback`]
//! data or as [`downloads`]; and the extensions [`feed`] and [`versions`].

pub(crate) mod accounts;
pub(crate) mod auth;
pub(crate) mod balances;
pub(crate) mod callback;
pub(crate) mod downloads;
pub(crate) mod feed;
pub(crate) mod products;
pub(crate) mod transactions;
pub(crate) mod versions;
