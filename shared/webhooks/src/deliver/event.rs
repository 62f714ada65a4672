//! An event as deliveries see it, which one is meant, and how an attempt at it is made.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    delivery::attempt::AttemptKind,
    model::ids::{EndpointId, EventId, FeedSource, Seq},
    sync::feed::FeedEntry,
};
use okra_store::DeliveryKey;
use okra_wire::webhook::event_name;

/// An event.
#[derive(Clone, Debug)]
pub(super) struct DeliveryEvent {
    pub(super) source: FeedSource,
    pub(super) seq: Seq,
    /// When it was committed.
    pub(super) committed_at: Timestamp,
    /// Okra's name of it.
    pub(super) name: &'static str,
}

impl DeliveryEvent {
    pub(super) fn from_entry(entry: &FeedEntry) -> Self {
        Self {
            source: entry.record.into(),
            seq: entry.seq,
            committed_at: entry.committed_at,
            name: event_name(&entry.change),
        }
    }

    pub(super) const fn delivery_key(&self, endpoint: EndpointId) -> DeliveryKey {
        DeliveryKey {
            endpoint,
            committed_at: self.committed_at,
            source: self.source,
            seq: self.seq,
        }
    }

    pub(super) fn event_id(&self) -> EventId {
        EventId::for_feed_entry(self.source, self.seq)
    }
}

/// The delivery that a message is about: it names the event and not when it was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeliveryRef {
    pub(super) source: FeedSource,
    pub(super) seq: Seq,
    pub(super) endpoint: EndpointId,
    /// An earlier attempt was stored: without its row nothing is due.
    pub(super) must_be_stored: bool,
}

impl DeliveryRef {
    pub(super) const fn from_key(key: &DeliveryKey) -> Self {
        Self {
            source: key.source,
            seq: key.seq,
            endpoint: key.endpoint,
            must_be_stored: false,
        }
    }
}

/// How an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptMode {
    pub(super) kind: AttemptKind,
    /// The message is shared with other deliveries that wait for it: a slow endpoint gets a message of its own.
    pub(super) is_shared_message: bool,
    /// A permit of the endpoint's rate limit is reserved for it.
    pub(super) has_permit: bool,
}

impl AttemptMode {
    /// By a dispatch.
    pub(super) const BY_DISPATCH: Self = Self {
        kind: AttemptKind::Scheduled,
        is_shared_message: true,
        has_permit: false,
    };
    /// By a message of its own.
    pub(super) const BY_OWN_MESSAGE: Self = Self {
        is_shared_message: false,
        ..Self::BY_DISPATCH
    };

    pub(super) const fn for_kind(kind: AttemptKind) -> Self {
        Self {
            kind,
            ..Self::BY_OWN_MESSAGE
        }
    }
}

/// `at` and so many seconds later, or earlier where they are negative. A clock near the ends of the calendar gets the
/// last timestamp there is.
pub(super) fn add_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}
