//! The messages of the queues. A message names its kind and version, so that a new release can read what
//! an old one enqueued.

use okra_core::{
    backfill::progress::BackfillStep,
    model::ids::{AppId, BankId, EndpointId, FeedSource, ReceiptId, RecordId, ReplayId, Seq},
    schedule::plan::Chunk,
    sync::feed::FeedStream,
};
use serde::{Deserialize, Serialize};

/// A message of the fetch and priority queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FetchMessage {
    /// Refresh these records.
    #[serde(rename = "chunk_v1")]
    ChunkV1(Chunk),
    /// Make a step of a record's backfill.
    #[serde(rename = "history_v1")]
    BackfillV1(BackfillStep),
    /// Check that what was begun with a record's link was done.
    #[serde(rename = "follow_up_v1")]
    FollowUpV1(LinkFollowUp),
    /// Continue a removal, or look for what was added after it.
    #[serde(rename = "removal_v1")]
    RemovalStepV1(RemovalStep),
}

/// The next step of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalStep {
    /// The app: the message group.
    pub app: AppId,
    /// The removal.
    pub receipt: ReceiptId,
}

/// A record whose link is checked some time after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFollowUp {
    /// The record.
    pub record: RecordId,
    /// Its bank: the message group.
    pub bank: BankId,
}

/// A message of the deliver queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeliverMessage {
    /// Deliver these feed entries to every endpoint that subscribes to them.
    #[serde(rename = "dispatch_v1")]
    DispatchV1(FeedDispatch),
    /// Make the next attempt of a delivery.
    #[serde(rename = "retry_v1")]
    RetryV1(DeliveryRetry),
    /// Maintain an endpoint whose events are parked: probe it, or send what was parked.
    #[serde(rename = "tend_v1")]
    MaintainEndpointV1(EndpointMaintenance),
    /// Deliver the new entries of an app's own feed.
    #[serde(rename = "app_feed_v1")]
    AppFeedV1(AppFeedDispatch),
    /// Send an event to an endpoint once more, whatever the outcome before.
    #[serde(rename = "resend_v1")]
    RedeliverV1(Redelivery),
    /// Ping an endpoint.
    #[serde(rename = "ping_v1")]
    PingV1(EndpointPing),
    /// Make the next step of a replay.
    #[serde(rename = "replay_v1")]
    ReplayV1(ReplayStep),
}

/// Committed feed entries of one stream of a record that are to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedDispatch {
    /// The record.
    pub record: RecordId,
    /// The first entry.
    #[serde(rename = "from")]
    pub first_seq: Seq,
    /// The last entry.
    #[serde(rename = "to")]
    pub last_seq: Seq,
    /// Their stream; entries of other streams in between are not meant. Messages that are older than the stream of
    /// states name it `product`.
    #[serde(alias = "product")]
    pub stream: FeedStream,
}

/// A delivery whose next attempt is to be made, which may be the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRetry {
    /// The feed of the event.
    pub source: FeedSource,
    /// The seq of the event in that feed.
    pub seq: Seq,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Attempts made so far; 0 where the first is still to be made and no delivery is stored.
    #[serde(rename = "attempt")]
    pub attempts_made: u32,
    /// A permit of the endpoint's rate limit is reserved for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "paced")]
    pub has_permit: bool,
}

/// An endpoint that is to be maintained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointMaintenance {
    /// Its app.
    pub app: AppId,
    /// The endpoint.
    pub endpoint: EndpointId,
}

/// A ping that is to be sent to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPing {
    /// Its app.
    pub app: AppId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its URL where it is the webhook URL of a subscription, which is stored with the records only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// An event that is to be sent once more on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivery {
    /// The feed of the event.
    pub source: FeedSource,
    /// The seq of the event in that feed.
    pub seq: Seq,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// A permit of the endpoint's rate limit is reserved for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "paced")]
    pub has_permit: bool,
}

/// A step of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayStep {
    /// Its app.
    pub app: AppId,
    /// The replay.
    pub replay: ReplayId,
    /// The version of the replay when this was enqueued; the step is void where the replay was stored since.
    pub version: u32,
}

/// An app whose own feed has new entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFeedDispatch {
    /// The app.
    pub app: AppId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_messages_is_stable() {
        let dispatch = DeliverMessage::DispatchV1(FeedDispatch {
            record: RecordId::from_bytes([0x64; 12]),
            first_seq: Seq(8),
            last_seq: Seq(9),
            stream: FeedStream::Balance,
        });
        let json = r#"{"kind":"dispatch_v1","record":"646464646464646464646464","from":8,"to":9,"stream":"balance"}"#;
        assert_eq!(serde_json::to_string(&dispatch).unwrap(), json);
        let older = json.replace("stream", "product");
        let older = serde_json::from_str::<DeliverMessage>(&older).unwrap();
        assert_eq!(older, dispatch);
        assert_eq!(
            serde_json::from_str::<DeliverMessage>(json).unwrap(),
            dispatch
        );

        let retry = DeliverMessage::RetryV1(DeliveryRetry {
            source: RecordId::from_bytes([0x64; 12]).into(),
            seq: Seq(8),
            endpoint: EndpointId::from_bytes([0x65; 12]),
            attempts_made: 2,
            has_permit: false,
        });
        let json = r#"{"kind":"retry_v1","source":"646464646464646464646464","seq":8,"endpoint":"656565656565656565656565","attempt":2}"#;
        assert_eq!(serde_json::to_string(&retry).unwrap(), json);

        // On demand, of a record that is due every minute.
        let chunk = r#"{"kind":"chunk_v1","id":"one_minute-1-5f5d3fcbdf7f0b1f2c3a4b5d-0","bank":"5f5d3fcbdf7f0b1f2c3a4b5d","requested":{"by":"on_demand","product":null},"not_after":"2099-01-01T00:00:00Z","records":[{"key":{"interval":"one_minute","bank":"5f5d3fcbdf7f0b1f2c3a4b5d","record":"6563a1f0c4d2e8b7a9150312"},"marks":{"b":{"d":"8f14e45fceea167a5a36dedd4bea2543","q":7}}}]}"#;
        let message: FetchMessage = serde_json::from_str(chunk).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), chunk);
        let scheduled = chunk.replace(
            r#"{"by":"on_demand","product":null}"#,
            r#"{"by":"scheduled","tick":{"interval":"one_minute","at":"2099-01-01T00:00:00Z"}}"#,
        );
        let message: FetchMessage = serde_json::from_str(&scheduled).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), scheduled);
        let unknown = r#"{"kind":"chunk_v2"}"#;
        assert!(serde_json::from_str::<FetchMessage>(unknown).is_err());
    }
}
