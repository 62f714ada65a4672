//! What belongs to an app itself: [`apps`] with their keys, its [`banks`] and [`endpoints`], and what its overview
//! counts.

pub(crate) mod apps;
pub(crate) mod banks;
pub(crate) mod endpoints;
pub(crate) mod minute_counts;
