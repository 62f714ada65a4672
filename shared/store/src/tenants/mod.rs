//! What belongs to an app itself: [`apps`] and their [`api_keys`], the [`banks`] that it may use, its [`endpoints`], and
//! what its overview counts ([`minute_counts`]).

pub(crate) mod api_keys;
pub(crate) mod apps;
pub(crate) mod banks;
pub(crate) mod ended_sessions;
pub(crate) mod endpoints;
pub(crate) mod key_hash;
pub(crate) mod minute_counts;
