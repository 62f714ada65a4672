//! SQS: standard queues, as AWS documents them.
//!
//! Visibility timeout and receive count, a fresh receipt handle for each receive, redrive to a
//! dead-letter queue, delays, long polls, batches with failures of single entries, retention, and
//! message groups that take turns (fair queues). What AWS leaves to chance is decided here: a
//! group's messages come in the order they were sent, and a receive finds every message that is
//! there.

mod bells;
mod error;
mod message;
mod spec;
mod table;
mod wire;

use std::{
    collections::{BTreeMap, HashSet},
    ops::RangeInclusive,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use okra_aws::Clock;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};

use self::{
    bells::QueueWakers,
    error::SqsError,
    message::{
        derive_message_id, md5_hex, parse_receipt, retain_attributes, to_received_message,
        validate_message,
    },
    spec::{VISIBILITY_RANGE_S, WAIT_RANGE_S, check_range},
    table::{PutQueuesError, QueueTable, StoredQueue, TakenMessage, VisibilityChange},
    wire::{
        BatchEntry, BatchRequest, BatchResponse, BatchSuccess, ChangeVisibilityEntry,
        CreateQueueRequest, DeleteMessageEntry, EmptyResponse, GetQueueAttributesRequest,
        GetQueueUrlRequest, PurgeQueueRequest, QueueAttributesResponse, QueueUrlResponse,
        ReceiveMessageRequest, ReceiveMessageResponse, SendMessageEntry, SentMessage,
        SingleRequest,
    },
};
pub use self::{
    spec::{CreateQueuesError, QueueSpec, Redrive},
    table::QueueDepth,
};
use crate::{
    answer::ServiceResponse,
    folder::{EmulatorOpenError, Storage},
    sqlite,
};

/// File of the queues.
const FILE: &str = "queues.sqlite";

/// Where the queues seem to be.
const ROOT: &str = "https://sqs.local.amazonaws.com/000000000000/";

/// Entries of a batch (SQS).
const MAX_BATCH: usize = 10;

/// Messages of a receive (SQS).
const RECEIVE_SIZE_RANGE: RangeInclusive<u32> = 1..=10;

/// Bytes of a message, and of a batch together (SQS).
const MAX_BYTES: usize = 1 << 20;

/// Characters of the id of a batch's entry (SQS).
const MAX_ENTRY_ID_CHARS: usize = 80;

/// The queues.
pub(crate) struct SqsEmulator {
    table: Arc<Mutex<QueueTable>>,
    wakers: Arc<QueueWakers>,
    storage: Storage,
    clock: Clock,
}

impl std::fmt::Debug for SqsEmulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sqs")
    }
}

/// The URL of a queue.
pub(crate) fn queue_url(name: &str) -> String {
    format!("{ROOT}{name}")
}

fn queue_name_from_url(queue_url: &str) -> &str {
    queue_url.rsplit('/').next().unwrap_or_default()
}

fn lock_table(table: &Mutex<QueueTable>) -> MutexGuard<'_, QueueTable> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SqsEmulator {
    pub(crate) fn open_storage(storage: Storage, clock: Clock) -> Result<Self, EmulatorOpenError> {
        let connection = sqlite::open_database(&storage, FILE, table::SCHEMA)?;
        let bells = Arc::<QueueWakers>::default();
        let table = QueueTable::new(connection, Arc::clone(&bells)).map_err(|error| {
            EmulatorOpenError::damaged_database(storage.database_path(FILE), error)
        })?;
        Ok(Self {
            table: Arc::new(Mutex::new(table)),
            wakers: bells,
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

    pub(crate) fn queue_depth(&self, name: &str) -> Option<QueueDepth> {
        let mut table = lock_table(&self.table);
        let queue = table.find_queue(name).ok()??;
        table
            .queue_depth(&queue, self.clock.now().as_millisecond())
            .ok()
    }

    pub(crate) fn wake_receivers(&self) {
        self.wakers.wake_all();
    }

    pub(crate) async fn call_operation(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        let answer = match operation {
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
        answer.unwrap_or_else(ServiceResponse::from)
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
        let answer = self.call_operation(operation, request.as_bytes()).await;
        answer.append_entries("Failed", failed)
    }

    /// Works on the table, with the time it is.
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

    /// Works on the table and one of its queues.
    async fn with_queue<T: Send + 'static>(
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
            let ids = table.put_messages(queue, &[message], now)?;
            let message_id = ids
                .into_iter()
                .map(derive_message_id)
                .next()
                .unwrap_or_default();
            Ok(SentMessage { message_id, md5 })
        })
        .await
    }

    async fn send_message_batch(
        &self,
        request: BatchRequest<SendMessageEntry>,
    ) -> Result<BatchResponse<SentMessage>, SqsError> {
        validate_batch(&request.entries)?;
        let bytes = |entry: &BatchEntry<SendMessageEntry>| entry.entry.message_body.len();
        let total = request.entries.iter().map(bytes).sum();
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

    async fn receive_messages(
        &self,
        request: ReceiveMessageRequest,
    ) -> Result<ReceiveMessageResponse, SqsError> {
        let started = Instant::now();
        let poll = ReceiveOptions::new(&request)?;
        let wanted = [
            request.attribute_names,
            request.message_system_attribute_names,
        ];
        let shown = |messages: Vec<TakenMessage>| ReceiveMessageResponse {
            messages: messages
                .into_iter()
                .map(|taken| to_received_message(taken, &wanted.concat()))
                .collect(),
        };
        let look = || self.take_available(&request.queue_url, poll);
        let ReceiveOutcome {
            messages,
            total_wait: wait,
            ..
        } = look().await?;
        if !messages.is_empty() || wait.is_zero() {
            return Ok(shown(messages));
        }
        let bell = self
            .wakers
            .notifier_for(queue_name_from_url(&request.queue_url));
        loop {
            // Listens before it looks, so that nothing is missed in between.
            let mut rung = pin!(bell.notified());
            rung.as_mut().enable();
            let ReceiveOutcome {
                messages,
                next_due_in: next,
                ..
            } = look().await?;
            let left = wait.saturating_sub(started.elapsed());
            if !messages.is_empty() || left.is_zero() {
                return Ok(shown(messages));
            }
            // Either end of the pause is a reason to look.
            let _ = timeout(next.map_or(left, |next| left.min(next)), rung).await;
        }
    }

    /// Takes what there is.
    async fn take_available(
        &self,
        queue_url: &str,
        poll: ReceiveOptions,
    ) -> Result<ReceiveOutcome, SqsError> {
        self.with_queue(queue_url, move |table, queue, now| {
            let visibility_s = poll.visibility_s.unwrap_or(queue.spec.visibility_s);
            let visibility_ms = i64::from(visibility_s) * 1000;
            let (messages, next) = table.take_messages(queue, poll.max, visibility_ms, now)?;
            let next = next.and_then(|next| u64::try_from(next - now).ok());
            Ok(ReceiveOutcome {
                messages,
                total_wait: Duration::from_secs(poll.wait_s.unwrap_or(queue.spec.wait_s).into()),
                next_due_in: next.map(Duration::from_millis),
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

/// What a receive asks for.
#[derive(Clone, Copy)]
struct ReceiveOptions {
    max: usize,
    visibility_s: Option<u32>,
    wait_s: Option<u32>,
}

impl ReceiveOptions {
    fn new(request: &ReceiveMessageRequest) -> Result<Self, SqsError> {
        let max = request.max_number_of_messages.unwrap_or(1);
        let optional = |name, seconds: Option<i64>, range| {
            seconds
                .map(|seconds| check_range(name, seconds, range))
                .transpose()
        };
        Ok(Self {
            max: check_range("MaxNumberOfMessages", max, RECEIVE_SIZE_RANGE)? as usize,
            visibility_s: optional(
                "VisibilityTimeout",
                request.visibility_timeout,
                VISIBILITY_RANGE_S,
            )?,
            wait_s: optional("WaitTimeSeconds", request.wait_time_seconds, WAIT_RANGE_S)?,
        })
    }
}

/// What a look at a queue found.
struct ReceiveOutcome {
    messages: Vec<TakenMessage>,
    /// How long the receive waits in all.
    total_wait: Duration,
    /// Where there is nothing: when there may be, from now.
    next_due_in: Option<Duration>,
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
    let answer = operation(serde_json::from_slice(body)?).await?;
    Ok(ServiceResponse::from_result(&answer))
}

/// Serves the entries of a batch one by one.
fn serve_each_entry<T>(
    entries: Vec<BatchEntry<T>>,
    mut serve_entry: impl FnMut(T) -> Result<(), SqsError>,
) -> BatchResponse<EmptyResponse> {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for BatchEntry { id, entry } in entries {
        match serve_entry(entry) {
            Ok(()) => successful.push(BatchSuccess {
                id,
                result: EmptyResponse {},
            }),
            Err(error) => failed.push(error.to_batch_failure(&id)),
        }
    }
    BatchResponse { successful, failed }
}

fn validate_batch<T>(entries: &[BatchEntry<T>]) -> Result<(), SqsError> {
    if entries.is_empty() {
        return Err(SqsError::EmptyBatch);
    }
    if entries.len() > MAX_BATCH {
        return Err(SqsError::TooManyEntries(entries.len()));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut seen = HashSet::new();
    for BatchEntry { id, .. } in entries {
        if id.is_empty() || id.len() > MAX_ENTRY_ID_CHARS || !id.chars().all(valid) {
            return Err(SqsError::InvalidEntryId);
        }
        if !seen.insert(id) {
            return Err(SqsError::RepeatedId(id.clone()));
        }
    }
    Ok(())
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
