//! The queues as a service: [`SqsEmulator`] reads a request, works on the table, and responds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use okra_aws::Clock;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    batch::{serve_each_entry, validate_batch},
    error::SqsError,
    limits::{MAX_BYTES, VISIBILITY_RANGE_S},
    message::{derive_message_id, md5_hex, parse_receipt, retain_attributes, validate_message},
    spec::{CreateQueuesError, QueueSpec, check_range},
    table::{self, PutQueuesError, QueueDepth, QueueTable, StoredQueue, VisibilityChange},
    wakers::QueueWakers,
    wire::{
        BatchEntry, BatchRequest, BatchResponse, BatchSuccess, ChangeVisibilityEntry,
        CreateQueueRequest, DeleteMessageEntry, EmptyResponse, GetQueueAttributesRequest,
        GetQueueUrlRequest, PurgeQueueRequest, QueueAttributesResponse, QueueUrlResponse,
        SendMessageEntry, SentMessage, SingleRequest,
    },
};
use crate::{
    response::ServiceResponse,
    sqlite,
    storage::{EmulatorOpenError, Storage},
};

/// File of the queues.
const FILE: &str = "queues.sqlite";

/// What the URLs of queues begin with.
const ROOT: &str = "https://sqs.local.amazonaws.com/000000000000/";

/// Why the depth of a queue cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum QueueDepthError {
    /// There is no queue of this name.
    #[error("the queue does not exist")]
    NoQueue,
    /// The database failed.
    #[error("the queues' database failed")]
    Database(#[from] rusqlite::Error),
}

/// The queues.
pub(crate) struct SqsEmulator {
    table: Arc<Mutex<QueueTable>>,
    pub(super) wakers: Arc<QueueWakers>,
    storage: Storage,
    clock: Clock,
}

impl std::fmt::Debug for SqsEmulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqsEmulator")
    }
}

/// The URL of a queue.
pub(crate) fn queue_url(name: &str) -> String {
    format!("{ROOT}{name}")
}

pub(super) fn queue_name_from_url(queue_url: &str) -> &str {
    queue_url
        .rsplit_once('/')
        .map_or(queue_url, |(_, name)| name)
}

fn lock_table(table: &Mutex<QueueTable>) -> MutexGuard<'_, QueueTable> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SqsEmulator {
    pub(crate) fn open_storage(storage: Storage, clock: Clock) -> Result<Self, EmulatorOpenError> {
        let connection = sqlite::open_database(&storage, FILE, table::SCHEMA)?;
        let wakers = Arc::<QueueWakers>::default();
        let table = QueueTable::new(connection, Arc::clone(&wakers)).map_err(|error| {
            EmulatorOpenError::damaged_database(storage.database_path(FILE), error)
        })?;
        Ok(Self {
            table: Arc::new(Mutex::new(table)),
            wakers,
            storage,
            clock,
        })
    }

    pub(crate) fn create_queues(&self, specs: &[QueueSpec]) -> Result<(), CreateQueuesError> {
        for spec in specs {
            spec.validate_spec().map_err(|error| CreateQueuesError {
                name: spec.name.clone(),
                reason: error.to_string(),
            })?;
        }
        let put = lock_table(&self.table).put_queues(specs);
        put.map_err(|failure| {
            let reason = failure.to_string();
            let name = match failure {
                PutQueuesError::NoDeadLetterQueue(name) => name,
                PutQueuesError::Database(_) => FILE.to_owned(),
            };
            CreateQueuesError { name, reason }
        })
    }

    pub(crate) fn queue_depth(&self, name: &str) -> Result<QueueDepth, QueueDepthError> {
        let mut table = lock_table(&self.table);
        let queue = table.find_queue(name)?.ok_or(QueueDepthError::NoQueue)?;
        Ok(table.queue_depth(&queue, self.clock.now().as_millisecond())?)
    }

    pub(crate) fn wake_receivers(&self) {
        self.wakers.wake_all();
    }

    pub(crate) async fn call_operation(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        let response = match operation {
            "CreateQueue" => serve_operation(body, |q| self.create_queue(q)).await,
            "GetQueueUrl" => serve_operation(body, |q| self.get_queue_url(q)).await,
            "GetQueueAttributes" => serve_operation(body, |q| self.get_queue_attributes(q)).await,
            "PurgeQueue" => serve_operation(body, |q| self.purge_queue(q)).await,
            "SendMessage" => serve_operation(body, |q| self.send_message(q)).await,
            "SendMessageBatch" => serve_operation(body, |q| self.send_message_batch(q)).await,
            "ReceiveMessage" => serve_operation(body, |q| self.receive_messages(q)).await,
            "DeleteMessage" => serve_operation(body, |q| self.delete_message(q)).await,
            "DeleteMessageBatch" => serve_operation(body, |q| self.delete_message_batch(q)).await,
            "ChangeMessageVisibility" => serve_operation(body, |q| self.change_visibility(q)).await,
            "ChangeMessageVisibilityBatch" => {
                serve_operation(body, |q| self.change_visibility_batch(q)).await
            }
            _ => Err(SqsError::UnknownOperation(operation.to_owned())),
        };
        response.unwrap_or_else(ServiceResponse::from)
    }

    /// Serves the first half of a batch; the rest fails.
    pub(crate) async fn call_first_half(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        let mut request: Map<String, Value> = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return SqsError::from(error).into(),
        };
        let Some(Value::Array(entries)) = request.get_mut("Entries") else {
            return self.call_operation(operation, body).await;
        };
        let rest = entries.split_off(entries.len().div_ceil(2));
        let failed: Vec<Value> = rest
            .iter()
            .map(
                |entry| json!({ "Id": entry["Id"], "Code": "InternalError", "SenderFault": false }),
            )
            .collect();
        let request = Value::Object(request).to_string();
        let response = self.call_operation(operation, request.as_bytes()).await;
        response.append_entries("Failed", failed)
    }

    /// Works on the table, with the present time in milliseconds since 1970.
    async fn with_table<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut QueueTable, i64) -> Result<T, SqsError> + Send + 'static,
    ) -> Result<T, SqsError> {
        let (table, clock) = (Arc::clone(&self.table), self.clock.clone());
        self.storage
            .run_blocking(move || {
                let mut table = lock_table(&table);
                // Read under the lock, so that later work never sees an earlier time.
                let now = clock.now().as_millisecond();
                work(&mut table, now)
            })
            .await
    }

    /// Works on the table and one of its queues, with the present time.
    pub(super) async fn with_queue<T: Send + 'static>(
        &self,
        queue_url: &str,
        work: impl FnOnce(&mut QueueTable, &StoredQueue, i64) -> Result<T, SqsError> + Send + 'static,
    ) -> Result<T, SqsError> {
        let name = queue_name_from_url(queue_url).to_owned();
        self.with_table(move |table, now| {
            let queue = table.find_queue(&name)?.ok_or(SqsError::NoQueue)?;
            work(table, &queue, now)
        })
        .await
    }

    async fn create_queue(
        &self,
        request: CreateQueueRequest,
    ) -> Result<QueueUrlResponse, SqsError> {
        let queue_url = queue_url(&request.queue_name);
        self.with_table(move |table, _| {
            let existing = table
                .find_queue(&request.queue_name)?
                .map(|queue| queue.spec);
            let base = existing
                .clone()
                .unwrap_or_else(|| QueueSpec::new(request.queue_name));
            let spec = base.with_attributes(&request.attributes)?;
            spec.validate_spec()?;
            match existing {
                Some(existing) if existing == spec => Ok(()),
                Some(_) => Err(SqsError::QueueExists),
                None => table.put_queues(&[spec]).map_err(|failure| match failure {
                    PutQueuesError::NoDeadLetterQueue(value) => SqsError::Parameter {
                        name: "RedrivePolicy",
                        value,
                        reason: "Dead letter target does not exist".to_owned(),
                    },
                    PutQueuesError::Database(error) => error.into(),
                }),
            }
        })
        .await?;
        Ok(QueueUrlResponse { queue_url })
    }

    async fn get_queue_url(
        &self,
        request: GetQueueUrlRequest,
    ) -> Result<QueueUrlResponse, SqsError> {
        let queue_url = queue_url(&request.queue_name);
        self.with_queue(&queue_url, |_, _, _| Ok(())).await?;
        Ok(QueueUrlResponse { queue_url })
    }

    async fn get_queue_attributes(
        &self,
        request: GetQueueAttributesRequest,
    ) -> Result<QueueAttributesResponse, SqsError> {
        let (spec, depth) = self
            .with_queue(&request.queue_url, |table, queue, now| {
                Ok((queue.spec.clone(), table.queue_depth(queue, now)?))
            })
            .await?;
        let counts = [
            ("ApproximateNumberOfMessages", depth.visible),
            ("ApproximateNumberOfMessagesNotVisible", depth.in_flight),
            ("ApproximateNumberOfMessagesDelayed", depth.delayed),
        ];
        let counts = counts.map(|(name, count)| (name, count.to_string()));
        let mut attributes: BTreeMap<_, _> = spec.to_attributes().chain(counts).collect();
        retain_attributes(&mut attributes, &request.attribute_names);
        Ok(QueueAttributesResponse { attributes })
    }

    async fn purge_queue(&self, request: PurgeQueueRequest) -> Result<EmptyResponse, SqsError> {
        self.with_queue(&request.queue_url, |table, queue, _| {
            table.purge_messages(queue.id)?;
            Ok(EmptyResponse {})
        })
        .await
    }

    async fn send_message(
        &self,
        request: SingleRequest<SendMessageEntry>,
    ) -> Result<SentMessage, SqsError> {
        self.with_queue(&request.queue_url, |table, queue, now| {
            let message = validate_message(request.entry, queue)?;
            let md5 = md5_hex(message.body.as_bytes());
            let id = table.put_message(queue, &message, now)?;
            let message_id = derive_message_id(id);
            Ok(SentMessage { message_id, md5 })
        })
        .await
    }

    async fn send_message_batch(
        &self,
        request: BatchRequest<SendMessageEntry>,
    ) -> Result<BatchResponse<SentMessage>, SqsError> {
        validate_batch(&request.entries)?;
        let total = request
            .entries
            .iter()
            .map(|entry| entry.entry.message_body.len())
            .sum();
        if total > MAX_BYTES {
            return Err(SqsError::BatchTooLong(total));
        }
        self.with_queue(&request.queue_url, move |table, queue, now| {
            let (mut sent, mut messages, mut failed) = (Vec::new(), Vec::new(), Vec::new());
            for BatchEntry { id, entry } in request.entries {
                match validate_message(entry, queue) {
                    Ok(message) => {
                        sent.push((id, md5_hex(message.body.as_bytes())));
                        messages.push(message);
                    }
                    Err(error) => failed.push(error.to_batch_failure(&id)),
                }
            }
            let ids = table.put_messages(queue, &messages, now)?;
            let successful = sent.into_iter().zip(ids).map(|((id, md5), message)| {
                let message_id = derive_message_id(message);
                let result = SentMessage { message_id, md5 };
                BatchSuccess { id, result }
            });
            Ok(BatchResponse {
                successful: successful.collect(),
                failed,
            })
        })
        .await
    }

    async fn delete_message(
        &self,
        request: SingleRequest<DeleteMessageEntry>,
    ) -> Result<EmptyResponse, SqsError> {
        let receipt = parse_receipt(&request.entry.receipt_handle)?;
        self.with_queue(&request.queue_url, move |table, queue, _| {
            table.delete_messages(queue.id, &[receipt])?;
            Ok(EmptyResponse {})
        })
        .await
    }

    async fn delete_message_batch(
        &self,
        request: BatchRequest<DeleteMessageEntry>,
    ) -> Result<BatchResponse<EmptyResponse>, SqsError> {
        validate_batch(&request.entries)?;
        self.with_queue(&request.queue_url, move |table, queue, _| {
            let mut receipts = Vec::new();
            let result = serve_each_entry(request.entries, |entry| {
                receipts.push(parse_receipt(&entry.receipt_handle)?);
                Ok(())
            });
            table.delete_messages(queue.id, &receipts)?;
            Ok(result)
        })
        .await
    }

    async fn change_visibility(
        &self,
        request: SingleRequest<ChangeVisibilityEntry>,
    ) -> Result<EmptyResponse, SqsError> {
        self.with_queue(&request.queue_url, move |table, queue, now| {
            change_entry_visibility(table, queue, &request.entry, now)?;
            Ok(EmptyResponse {})
        })
        .await
    }

    async fn change_visibility_batch(
        &self,
        request: BatchRequest<ChangeVisibilityEntry>,
    ) -> Result<BatchResponse<EmptyResponse>, SqsError> {
        validate_batch(&request.entries)?;
        self.with_queue(&request.queue_url, move |table, queue, now| {
            Ok(serve_each_entry(request.entries, |entry| {
                change_entry_visibility(table, queue, &entry, now)
            }))
        })
        .await
    }
}

async fn serve_operation<Q, A, F>(
    body: &[u8],
    operation: impl FnOnce(Q) -> F,
) -> Result<ServiceResponse, SqsError>
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, SqsError>>,
{
    let result = operation(serde_json::from_slice(body)?).await?;
    Ok(ServiceResponse::from_result(&result))
}

fn change_entry_visibility(
    table: &mut QueueTable,
    queue: &StoredQueue,
    request: &ChangeVisibilityEntry,
    now: i64,
) -> Result<(), SqsError> {
    let receipt = parse_receipt(&request.receipt_handle)?;
    let seconds = request
        .visibility_timeout
        .ok_or(SqsError::MissingParameter("VisibilityTimeout"))?;
    let seconds = check_range("VisibilityTimeout", seconds, VISIBILITY_RANGE_S)?;
    match table.change_visibility(queue, receipt, i64::from(seconds) * 1000, now)? {
        VisibilityChange::Changed => Ok(()),
        VisibilityChange::NotInFlight => Err(SqsError::NotInFlight),
        VisibilityChange::NoSuchMessage => Err(SqsError::Parameter {
            name: "ReceiptHandle",
            value: request.receipt_handle.clone(),
            reason: "Message does not exist or is not available for visibility timeout change"
                .to_owned(),
        }),
    }
}
