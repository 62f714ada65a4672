//! [`Queues`]: the three queues and where they are. Sending and receiving add their methods in their own modules.

use aws_sdk_sqs::Client;

/// Entries of one batch (SQS).
pub(crate) const MAX_BATCH_ENTRIES: usize = 10;

/// One of the three queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Chunks of scheduled refreshes.
    Fetch,
    /// Chunks of on-demand refreshes, follow-ups of links and removals.
    Priority,
    /// Dispatches, retries and whatever else concerns webhooks.
    Deliver,
}

impl Queue {
    /// All queues.
    pub const ALL: [Self; 3] = [Self::Fetch, Self::Priority, Self::Deliver];
}

/// Which queue a chunk goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkQueue {
    /// Planned by a tick.
    Scheduled,
    /// On demand, for an app or a user.
    Priority,
}

/// The URLs of the queues.
#[derive(Clone, Debug)]
pub struct QueueUrls {
    /// Of [`Queue::Fetch`].
    pub fetch: String,
    /// Of [`Queue::Priority`].
    pub priority: String,
    /// Of [`Queue::Deliver`].
    pub deliver: String,
}

/// The queues. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queues {
    pub(crate) client: Client,
    urls: QueueUrls,
}

impl Queues {
    /// The queues at these addresses.
    pub const fn new(client: Client, urls: QueueUrls) -> Self {
        Self { client, urls }
    }

    pub(crate) fn queue_url(&self, queue: Queue) -> &str {
        match queue {
            Queue::Fetch => &self.urls.fetch,
            Queue::Priority => &self.urls.priority,
            Queue::Deliver => &self.urls.deliver,
        }
    }
}
