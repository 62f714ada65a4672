//! DynamoDB, SQS and EventBridge in one process, behind the SDK's own HTTP client.
//!
//! The code that ships talks to AWS through `aws-sdk-*`; an [`Emulator`] is the HTTP client under
//! those SDKs, so the same code runs on a laptop and in every test, without a socket. What it holds
//! is in SQLite files of one folder and survives `kill -9` (a power failure may take the last
//! messages of the queues, never the table's rows).
//!
//! It is also the place where a test makes the services misbehave ([`Emulator::inject`]) and counts
//! what was asked of them ([`Emulator::calls`]).
//!
//! Not emulated: who may do what, throttling by itself, eventual consistency, FIFO queues, message
//! attributes, streams to functions. Rules are kept but fire nothing: the process that embeds them
//! does.

mod answer;
mod connector;
mod dynamodb;
mod events;
mod faults;
mod folder;
mod sqlite;
mod sqs;

use std::{path::Path, sync::Arc};

use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector, http_client_fn};
use okra_aws::Clock;

pub use self::{
    connector::AwsService,
    faults::CallFate,
    folder::EmulatorOpenError,
    sqs::{CreateQueuesError, QueueDepth, QueueSpec, Redrive},
};
use self::{connector::EmulatedServices, folder::Storage};

/// The embedded services. Clones, and the HTTP clients made of it, share them; a folder is free
/// again when the last of these is gone.
#[derive(Clone, Debug)]
pub struct Emulator {
    services: Arc<EmulatedServices>,
}

impl Emulator {
    /// Services that live in `folder`, which is created where it is missing. Messages that were in
    /// the hands of a process that died can be received at once.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; a folder serves one process at a time.
    pub fn open_folder(folder: &Path, clock: Clock) -> Result<Self, EmulatorOpenError> {
        Self::with_storage(Storage::claim_folder(folder)?, clock)
    }

    /// Services that live in memory, until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// [`OpenError::Damaged`], should SQLite refuse.
    pub fn in_memory(clock: Clock) -> Result<Self, EmulatorOpenError> {
        Self::with_storage(Storage::Memory, clock)
    }

    fn with_storage(storage: Storage, clock: Clock) -> Result<Self, EmulatorOpenError> {
        let services = Arc::new(EmulatedServices::open_storage(storage, clock)?);
        Ok(Self { services })
    }

    /// What an SDK client uses in place of a connection to AWS. The region and the credentials do
    /// not matter, and neither does the endpoint.
    pub fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(connector::EmulatorConnector::new(&self.services));
        SharedHttpClient::new(http_client_fn(move |_, _| connector.clone()))
    }

    /// Makes these queues, or changes those that exist to what is said here.
    ///
    /// # Errors
    ///
    /// [`CreateQueuesError`]; then nothing was changed.
    pub fn create_queues(&self, specs: &[QueueSpec]) -> Result<(), CreateQueuesError> {
        self.services.sqs.create_queues(specs)
    }

    /// The URL of the queue of this name, which need not exist.
    pub fn queue_url(&self, name: &str) -> String {
        sqs::queue_url(name)
    }

    /// How many messages a queue holds; `None` where there is no such queue.
    pub fn queue_depth(&self, name: &str) -> Option<QueueDepth> {
        self.services.sqs.queue_depth(name)
    }

    /// Looks at the queues again. Long polls sleep until the next message is due, and a driven
    /// clock that was set does not tell them.
    pub fn wake_receivers(&self) {
        self.services.sqs.wake_receivers();
    }

    /// The entries that were put on event buses, the last thousand, in order, as `PutEvents` had them.
    pub fn taken_events(&self) -> Vec<serde_json::Value> {
        self.services.events.list_taken_events()
    }

    /// Deletes the rows whose time to live is over; DynamoDB does so within days. Returns how many
    /// were deleted. In a folder this goes by the system's clock.
    ///
    /// # Errors
    ///
    /// The database's own words.
    pub async fn sweep_expired_items(&self) -> Result<usize, SweepError> {
        self.services
            .dynamodb
            .sweep_expired_items()
            .await
            .map_err(SweepError)
    }

    /// Decides the fate of every call from now on; replaces what was decided before.
    pub fn inject_fates(
        &self,
        decide_fate: impl Fn(AwsService, &str) -> CallFate + Send + Sync + 'static,
    ) {
        self.services.faults.set_hook(decide_fate);
    }

    /// Calls of an operation (`"PutItem"`) so far, whatever their fate.
    pub fn call_count(&self, service: AwsService, operation: &str) -> u64 {
        self.services.faults.call_count(service, operation)
    }
}

/// Rows whose time is over could not be deleted.
#[derive(Debug, thiserror::Error)]
#[error("the table could not be swept: {0}")]
pub struct SweepError(String);
