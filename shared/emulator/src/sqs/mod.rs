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
    bells::Bells,
    error::SqsError,
    message::{keep_wanted, md5_hex, message_id, outgoing, parse_receipt, received},
    spec::{VISIBILITY_S, WAIT_S, within},
    table::{Changed, PutError, Queue, Table, Taken},
    wire::{
        Attributes, Batch, BatchResult, ChangeVisibility, CreateQueue, Delete, Entry,
        GetQueueAttributes, GetQueueUrl, Message, Nothing, OfQueue, One, QueueUrl, ReceiveMessage,
        Received, Sent, Served,
    },
};
pub use self::{
    spec::{CreateQueuesError, QueueSpec, Redrive},
    table::Depth,
};
use crate::{
    answer::Answer,
    folder::{OpenError, Place},
    sqlite,
};

/// File of the queues.
const FILE: &str = "queues.sqlite";

/// Where the queues seem to be.
const ROOT: &str = "https://sqs.local.amazonaws.com/000000000000/";

/// Entries of a batch (SQS).
const MAX_BATCH: usize = 10;

/// Messages of a receive (SQS).
const MESSAGES: RangeInclusive<u32> = 1..=10;

/// Bytes of a message, and of a batch together (SQS).
const MAX_BYTES: usize = 1 << 20;

/// Characters of the id of a batch's entry (SQS).
const MAX_ID: usize = 80;

/// The queues.
pub(crate) struct Sqs {
    table: Arc<Mutex<Table>>,
    bells: Arc<Bells>,
    place: Place,
    clock: Clock,
}

impl std::fmt::Debug for Sqs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sqs")
    }
}

/// The URL of a queue.
pub(crate) fn queue_url(name: &str) -> String {
    format!("{ROOT}{name}")
}

fn name_of(queue_url: &str) -> &str {
    queue_url.rsplit('/').next().unwrap_or_default()
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sqs {
    pub(crate) fn open(place: Place, clock: Clock) -> Result<Self, OpenError> {
        let connection = sqlite::open(&place, FILE, table::SCHEMA)?;
        let bells = Arc::<Bells>::default();
        let table = Table::new(connection, Arc::clone(&bells))
            .map_err(|error| OpenError::damaged(place.database(FILE), error))?;
        Ok(Self {
            table: Arc::new(Mutex::new(table)),
            bells,
            place,
            clock,
        })
    }

    pub(crate) fn create(&self, specs: &[QueueSpec]) -> Result<(), CreateQueuesError> {
        for spec in specs {
            spec.check().map_err(|error| CreateQueuesError {
                name: spec.name.clone(),
                reason: error.to_string(),
            })?;
        }
        let put = lock(&self.table).put_queues(specs);
        put.map_err(|failure| {
            let reason = failure.to_string();
            let name = match failure {
                PutError::NoDeadLetter(name) => name,
                PutError::Database(_) => FILE.to_owned(),
            };
            CreateQueuesError { name, reason }
        })
    }

    pub(crate) fn depth(&self, name: &str) -> Option<Depth> {
        let mut table = lock(&self.table);
        let queue = table.queue(name).ok()??;
        table.depth(&queue, self.clock.now().as_millisecond()).ok()
    }

    pub(crate) fn wake(&self) {
        self.bells.ring_all();
    }

    pub(crate) async fn call(&self, operation: &str, body: &[u8]) -> Answer {
        let answer = match operation {
            "CreateQueue" => serve(body, |q| self.create_queue(q)).await,
            "GetQueueUrl" => serve(body, |q| self.get_queue_url(q)).await,
            "GetQueueAttributes" => serve(body, |q| self.get_queue_attributes(q)).await,
            "PurgeQueue" => serve(body, |q| self.purge(q)).await,
            "SendMessage" => serve(body, |q| self.send(q)).await,
            "SendMessageBatch" => serve(body, |q| self.send_batch(q)).await,
            "ReceiveMessage" => serve(body, |q| self.receive(q)).await,
            "DeleteMessage" => serve(body, |q| self.delete(q)).await,
            "DeleteMessageBatch" => serve(body, |q| self.delete_batch(q)).await,
            "ChangeMessageVisibility" => serve(body, |q| self.change_visibility(q)).await,
            "ChangeMessageVisibilityBatch" => {
                serve(body, |q| self.change_visibility_batch(q)).await
            }
            _ => Err(SqsError::UnknownOperation(operation.to_owned())),
        };
        answer.unwrap_or_else(Answer::from)
    }

    /// Serves the first half of a batch; the rest fails.
    pub(crate) async fn call_half(&self, operation: &str, body: &[u8]) -> Answer {
        let mut request: Map<String, Value> = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return SqsError::from(error).into(),
        };
        let Some(Value::Array(entries)) = request.get_mut("Entries") else {
            return self.call(operation, body).await;
        };
        let rest = entries.split_off(entries.len().div_ceil(2));
        let failed: Vec<Value> = rest
            .iter()
            .map(
                |entry| json!({ "Id": entry["Id"], "Code": "InternalError", "SenderFault": false }),
            )
            .collect();
        let request = Value::Object(request).to_string();
        let answer = self.call(operation, request.as_bytes()).await;
        answer.append("Failed", failed)
    }

    /// Works on the table, with the time it is.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Table, i64) -> Result<T, SqsError> + Send + 'static,
    ) -> Result<T, SqsError> {
        let (table, clock) = (Arc::clone(&self.table), self.clock.clone());
        self.place
            .run(move || {
                let mut table = lock(&table);
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
        work: impl FnOnce(&mut Table, &Queue, i64) -> Result<T, SqsError> + Send + 'static,
    ) -> Result<T, SqsError> {
        let name = name_of(queue_url).to_owned();
        self.with(move |table, now| {
            let queue = table.queue(&name)?.ok_or(SqsError::NoQueue)?;
            work(table, &queue, now)
        })
        .await
    }

    async fn create_queue(&self, request: CreateQueue) -> Result<QueueUrl, SqsError> {
        let queue_url = queue_url(&request.queue_name);
        self.with(move |table, _| {
            let existing = table.queue(&request.queue_name)?.map(|queue| queue.spec);
            let base = existing
                .clone()
                .unwrap_or_else(|| QueueSpec::new(request.queue_name));
            let spec = base.with(&request.attributes)?;
            spec.check()?;
            match existing {
                Some(existing) if existing == spec => Ok(()),
                Some(_) => Err(SqsError::QueueExists),
                None => table.put_queues(&[spec]).map_err(|failure| match failure {
                    PutError::NoDeadLetter(value) => SqsError::Parameter {
                        name: "RedrivePolicy",
                        value,
                        reason: "Dead letter target does not exist".to_owned(),
                    },
                    PutError::Database(error) => error.into(),
                }),
            }
        })
        .await?;
        Ok(QueueUrl { queue_url })
    }

    async fn get_queue_url(&self, request: GetQueueUrl) -> Result<QueueUrl, SqsError> {
        let queue_url = queue_url(&request.queue_name);
        self.with_queue(&queue_url, |_, _, _| Ok(())).await?;
        Ok(QueueUrl { queue_url })
    }

    async fn get_queue_attributes(
        &self,
        request: GetQueueAttributes,
    ) -> Result<Attributes, SqsError> {
        let (spec, depth) = self
            .with_queue(&request.queue_url, |table, queue, now| {
                Ok((queue.spec.clone(), table.depth(queue, now)?))
            })
            .await?;
        let counts = [
            ("ApproximateNumberOfMessages", depth.visible),
            ("ApproximateNumberOfMessagesNotVisible", depth.in_flight),
            ("ApproximateNumberOfMessagesDelayed", depth.delayed),
        ];
        let counts = counts.map(|(name, count)| (name, count.to_string()));
        let mut attributes: BTreeMap<_, _> = spec.attributes().chain(counts).collect();
        keep_wanted(&mut attributes, &request.attribute_names);
        Ok(Attributes { attributes })
    }

    async fn purge(&self, request: OfQueue) -> Result<Nothing, SqsError> {
        self.with_queue(&request.queue_url, |table, queue, _| {
            table.purge(queue.id)?;
            Ok(Nothing {})
        })
        .await
    }

    async fn send(&self, request: One<Message>) -> Result<Sent, SqsError> {
        self.with_queue(&request.queue_url, |table, queue, now| {
            let message = outgoing(request.entry, queue)?;
            let md5 = md5_hex(message.body.as_bytes());
            let ids = table.put(queue, &[message], now)?;
            let message_id = ids.into_iter().map(message_id).next().unwrap_or_default();
            Ok(Sent { message_id, md5 })
        })
        .await
    }

    async fn send_batch(&self, request: Batch<Message>) -> Result<BatchResult<Sent>, SqsError> {
        check_batch(&request.entries)?;
        let bytes = |entry: &Entry<Message>| entry.entry.message_body.len();
        let total = request.entries.iter().map(bytes).sum();
        if total > MAX_BYTES {
            return Err(SqsError::LongBatch(total));
        }
        self.with_queue(&request.queue_url, move |table, queue, now| {
            let (mut sent, mut messages, mut failed) = (Vec::new(), Vec::new(), Vec::new());
            for Entry { id, entry } in request.entries {
                match outgoing(entry, queue) {
                    Ok(message) => {
                        sent.push((id, md5_hex(message.body.as_bytes())));
                        messages.push(message);
                    }
                    Err(error) => failed.push(error.of_entry(&id)),
                }
            }
            let ids = table.put(queue, &messages, now)?;
            let successful = sent.into_iter().zip(ids).map(|((id, md5), message)| {
                let message_id = message_id(message);
                let result = Sent { message_id, md5 };
                Served { id, result }
            });
            Ok(BatchResult {
                successful: successful.collect(),
                failed,
            })
        })
        .await
    }

    async fn receive(&self, request: ReceiveMessage) -> Result<Received, SqsError> {
        let started = Instant::now();
        let poll = Poll::new(&request)?;
        let wanted = [
            request.attribute_names,
            request.message_system_attribute_names,
        ];
        let shown = |messages: Vec<Taken>| Received {
            messages: messages
                .into_iter()
                .map(|taken| received(taken, &wanted.concat()))
                .collect(),
        };
        let look = || self.look(&request.queue_url, poll);
        let Found { messages, wait, .. } = look().await?;
        if !messages.is_empty() || wait.is_zero() {
            return Ok(shown(messages));
        }
        let bell = self.bells.of(name_of(&request.queue_url));
        loop {
            // Listens before it looks, so that nothing is missed in between.
            let mut rung = pin!(bell.notified());
            rung.as_mut().enable();
            let Found { messages, next, .. } = look().await?;
            let left = wait.saturating_sub(started.elapsed());
            if !messages.is_empty() || left.is_zero() {
                return Ok(shown(messages));
            }
            // Either end of the pause is a reason to look.
            let _ = timeout(next.map_or(left, |next| left.min(next)), rung).await;
        }
    }

    /// Takes what there is.
    async fn look(&self, queue_url: &str, poll: Poll) -> Result<Found, SqsError> {
        self.with_queue(queue_url, move |table, queue, now| {
            let visibility_s = poll.visibility_s.unwrap_or(queue.spec.visibility_s);
            let visibility_ms = i64::from(visibility_s) * 1000;
            let (messages, next) = table.take(queue, poll.max, visibility_ms, now)?;
            let next = next.and_then(|next| u64::try_from(next - now).ok());
            Ok(Found {
                messages,
                wait: Duration::from_secs(poll.wait_s.unwrap_or(queue.spec.wait_s).into()),
                next: next.map(Duration::from_millis),
            })
        })
        .await
    }

    async fn delete(&self, request: One<Delete>) -> Result<Nothing, SqsError> {
        let receipt = parse_receipt(&request.entry.receipt_handle)?;
        self.with_queue(&request.queue_url, move |table, queue, _| {
            table.delete(queue.id, &[receipt])?;
            Ok(Nothing {})
        })
        .await
    }

    async fn delete_batch(&self, request: Batch<Delete>) -> Result<BatchResult<Nothing>, SqsError> {
        check_batch(&request.entries)?;
        self.with_queue(&request.queue_url, move |table, queue, _| {
            let mut receipts = Vec::new();
            let result = each(request.entries, |entry| {
                receipts.push(parse_receipt(&entry.receipt_handle)?);
                Ok(())
            });
            table.delete(queue.id, &receipts)?;
            Ok(result)
        })
        .await
    }

    async fn change_visibility(&self, request: One<ChangeVisibility>) -> Result<Nothing, SqsError> {
        self.with_queue(&request.queue_url, move |table, queue, now| {
            change(table, queue, &request.entry, now)?;
            Ok(Nothing {})
        })
        .await
    }

    async fn change_visibility_batch(
        &self,
        request: Batch<ChangeVisibility>,
    ) -> Result<BatchResult<Nothing>, SqsError> {
        check_batch(&request.entries)?;
        self.with_queue(&request.queue_url, move |table, queue, now| {
            Ok(each(request.entries, |entry| {
                change(table, queue, &entry, now)
            }))
        })
        .await
    }
}

/// What a receive asks for.
#[derive(Clone, Copy)]
struct Poll {
    max: usize,
    visibility_s: Option<u32>,
    wait_s: Option<u32>,
}

impl Poll {
    fn new(request: &ReceiveMessage) -> Result<Self, SqsError> {
        let max = request.max_number_of_messages.unwrap_or(1);
        let optional = |name, seconds: Option<i64>, range| {
            seconds
                .map(|seconds| within(name, seconds, range))
                .transpose()
        };
        Ok(Self {
            max: within("MaxNumberOfMessages", max, MESSAGES)? as usize,
            visibility_s: optional(
                "VisibilityTimeout",
                request.visibility_timeout,
                VISIBILITY_S,
            )?,
            wait_s: optional("WaitTimeSeconds", request.wait_time_seconds, WAIT_S)?,
        })
    }
}

/// What a look at a queue found.
struct Found {
    messages: Vec<Taken>,
    /// How long the receive waits in all.
    wait: Duration,
    /// Where there is nothing: when there may be, from now.
    next: Option<Duration>,
}

async fn serve<Q, A, F>(body: &[u8], operation: impl FnOnce(Q) -> F) -> Result<Answer, SqsError>
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, SqsError>>,
{
    let answer = operation(serde_json::from_slice(body)?).await?;
    Ok(Answer::ok(&answer))
}

/// Serves the entries of a batch one by one.
fn each<T>(
    entries: Vec<Entry<T>>,
    mut serve: impl FnMut(T) -> Result<(), SqsError>,
) -> BatchResult<Nothing> {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for Entry { id, entry } in entries {
        match serve(entry) {
            Ok(()) => successful.push(Served {
                id,
                result: Nothing {},
            }),
            Err(error) => failed.push(error.of_entry(&id)),
        }
    }
    BatchResult { successful, failed }
}

fn check_batch<T>(entries: &[Entry<T>]) -> Result<(), SqsError> {
    if entries.is_empty() {
        return Err(SqsError::EmptyBatch);
    }
    if entries.len() > MAX_BATCH {
        return Err(SqsError::LargeBatch(entries.len()));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut seen = HashSet::new();
    for Entry { id, .. } in entries {
        if id.is_empty() || id.len() > MAX_ID || !id.chars().all(valid) {
            return Err(SqsError::EntryId);
        }
        if !seen.insert(id) {
            return Err(SqsError::RepeatedId(id.clone()));
        }
    }
    Ok(())
}

fn change(
    table: &mut Table,
    queue: &Queue,
    request: &ChangeVisibility,
    now: i64,
) -> Result<(), SqsError> {
    let receipt = parse_receipt(&request.receipt_handle)?;
    let seconds = request
        .visibility_timeout
        .ok_or(SqsError::Missing("VisibilityTimeout"))?;
    let seconds = within("VisibilityTimeout", seconds, VISIBILITY_S)?;
    match table.change_visibility(queue, receipt, i64::from(seconds) * 1000, now)? {
        Changed::Done => Ok(()),
        Changed::NotInFlight => Err(SqsError::NotInFlight),
        Changed::Gone => Err(SqsError::Parameter {
            name: "ReceiptHandle",
            value: request.receipt_handle.clone(),
            reason: "Message does not exist or is not available for visibility timeout change"
                .to_owned(),
        }),
    }
}
