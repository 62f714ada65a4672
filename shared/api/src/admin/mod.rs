//! The installation and what an app configures of it: its [`keys`], its [`banks`], whether the service is up ([`health`]),
//! and the API's own [`reference`].

pub(crate) mod api_keys;
pub(crate) mod banks;
pub(crate) mod health;
pub(crate) mod reference;
