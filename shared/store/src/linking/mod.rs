//! How a bank is linked: sessions of the widget and the short links that open it.

pub(crate) mod link_sessions;
pub(crate) mod short_links;
