//! How a bank is linked: sessions of the widget ([`link_sessions`]) and the [`short_links`] that open it.

pub(crate) mod link_sessions;
pub(crate) mod short_links;
