//! [`DeliveryKey`]: which event to which endpoint.

use jiff::Timestamp;
use okra_core::model::ids::{EndpointId, FeedSource, Seq};

/// Which event to which endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When the event's feed entry was committed; milliseconds count.
    pub committed_at: Timestamp,
    /// The feed of the event.
    pub source: FeedSource,
    /// The seq of the event's entry in that feed.
    pub seq: Seq,
}
