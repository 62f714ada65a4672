//! The queues: versioned messages, sent and received.
//!
//! Messages carry keys, never payloads: the table is the truth, a queue only wakes.

mod error;
mod message;
mod queues;
mod receive;
mod send;

pub use self::{
    error::{ReceiveError, SendError},
    message::{
        AppFeedDispatch, DeliverMessage, DeliveryRetry, EndpointMaintenance, EndpointPing,
        FeedDispatch, FetchMessage, LinkFollowUp, Redelivery, RemovalStep, ReplayStep,
    },
    queues::{ChunkQueue, Queue, QueueUrls, Queues},
    receive::IncomingMessage,
    send::MAX_DELAY_S,
};
