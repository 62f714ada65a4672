//! DynamoDB, SQS and EventBridge in one process, behind the SDK's own HTTP client.
//!
//! The code that ships talks to AWS through `aws-sdk-*`; an [`Emulator`] is the HTTP client under those SDKs, so the same
//! code runs on a laptop and in every test, without a socket. Its data is in SQLite files of one folder and survives
//! `kill -9` (a power failure may take the last messages of the queues, never the table's rows).
//!
//! Tests make the services fail through it ([`Emulator::inject_fates`]) and count their calls
//! ([`Emulator::call_count`]).
//!
//! Not emulated: permissions, throttling by itself, eventual consistency, FIFO queues, message attributes, streams to
//! functions. Rules are stored but fire nothing: the process that embeds the emulator does.

mod connector;
mod dynamodb;
mod events;
mod faults;
mod response;
mod service;
mod sqlite;
mod sqs;
mod storage;

use std::{path::Path, sync::Arc};

use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector, http_client_fn};
use okra_aws::Clock;

use self::{connector::EmulatedServices, storage::Storage};
pub use self::{
    faults::CallFate,
    service::AwsService,
    sqs::{CreateQueuesError, QueueDepth, QueueDepthError, QueueSpec, Redrive},
    storage::EmulatorOpenError,
};

/// The embedded services. Clones, and the HTTP clients made of it, share them; a folder can be opened again when the
/// last of these is dropped.
#[derive(Clone, Debug)]
pub struct Emulator {
    services: Arc<EmulatedServices>,
}

impl Emulator {
    /// Services that store their data in `folder`, which is created where it is missing. Messages that a process had
    /// received when it died can be received again at once.
    ///
    /// # Errors
    ///
    /// See [`EmulatorOpenError`]. A folder is open in one process at a time.
    pub fn open_folder(folder: &Path, clock: Clock) -> Result<Self, EmulatorOpenError> {
        Self::with_storage(Storage::claim_folder(folder)?, clock)
    }

    /// Services that keep their data in memory, until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// [`EmulatorOpenError::Damaged`], if SQLite fails.
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

    /// Creates these queues, or changes those that exist to these specifications.
    ///
    /// # Errors
    ///
    /// See [`CreateQueuesError`]. Nothing has changed then.
    pub fn create_queues(&self, specs: &[QueueSpec]) -> Result<(), CreateQueuesError> {
        self.services.sqs.create_queues(specs)
    }

    /// The URL of the queue of this name, which need not exist.
    pub fn queue_url(&self, name: &str) -> String {
        sqs::queue_url(name)
    }

    /// How many messages a queue holds.
    ///
    /// # Errors
    ///
    /// If there is no such queue, or its database cannot be read.
    pub fn queue_depth(&self, name: &str) -> Result<QueueDepth, QueueDepthError> {
        self.services.sqs.queue_depth(name)
    }

    /// Wakes long polls. They sleep until the next message is due, and setting a manual clock does not wake them.
    pub fn wake_receivers(&self) {
        self.services.sqs.wake_receivers();
    }

    /// The last thousand entries that were put on event buses, in order, as `PutEvents` had them.
    pub fn taken_events(&self) -> Vec<serde_json::Value> {
        self.services.events.list_taken_events()
    }

    /// Deletes the rows that have expired; DynamoDB does so within days. Returns how many were deleted. In a folder the
    /// system's clock decides.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub async fn sweep_expired_items(&self) -> Result<usize, SweepError> {
        self.services
            .dynamodb
            .sweep_expired_items()
            .await
            .map_err(|error| SweepError(error.to_string()))
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

/// Expired rows could not be deleted.
#[derive(Debug, thiserror::Error)]
#[error("the table's expired rows could not be deleted: {0}")]
pub struct SweepError(String);
