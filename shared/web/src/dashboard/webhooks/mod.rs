//! Webhooks: the app's endpoints, what they were sent, and what became of it.
//!
//! [`endpoints`] is the list with the form that adds one, [`endpoint`] the page of one with its actions; [`log`] lists
//! the deliveries of a URL, [`delivery`] shows one, [`event`] one event at every endpoint; [`replays`] sends a range of
//! events anew.

pub(super) mod delivery;
pub(super) mod endpoint;
pub(super) mod endpoints;
pub(super) mod event;
pub(super) mod live_events;
mod loaded_delivery;
pub(super) mod log;
mod payload_body;
pub(super) mod replays;
pub(super) mod secrets;
mod settings_form;
mod webhooks_page;
