//! Webhook bodies: the union of what Okra's receivers were seen to read, plus what makes events safe to process: an id,
//! a dense sequence number, and the changed rows.
//!
//! Each feed entry is one event. [`EventKind`] has the name, the method and the code of every event there is, those of
//! records and the operational ones of [`crate::operational_event`]. [`render_event_body`] writes the body of a record's event:
//! one [envelope](envelope) for all of them, and a [payload](payload) for each kind. An endpoint in reference mode is
//! sent ids and counts, one in full mode the rows too.

mod account_bodies;
mod balance_body;
mod context;
mod envelope;
mod kind;
mod payload;
#[cfg(test)]
mod tests;
mod transaction_bodies;

pub(crate) use self::transaction_bodies::TransactionChangeBody;
pub use self::{
    context::EventContext,
    envelope::render_event_body,
    kind::{EVENT_NAMES, EventKind, event_matches, event_name, is_event_filter},
};

/// JSON schemas of all bodies, `components.schemas`, and the `webhooks` of an OpenAPI 3.1 document that refer to them;
/// `WebhookEvent` is any of them.
pub const WEBHOOK_SCHEMAS: &str = include_str!("../../webhooks.json");
