//! AWS as the SDKs see it: the table, the queues and the rules behind one HTTP client, each call
//! passing the [`Gate`] twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use http::StatusCode;
use okra_queue::FetchMessage;
use serde_json::{Map, Value, json};

use crate::{
    gate::{EffectFate, EffectKind, EffectPhase, EffectScheduler},
    table::{ReadView, SimTable, TableError, TableWrite},
};

/// A message of a queue.
#[derive(Clone, Debug)]
pub(crate) struct QueuedMessage {
    pub(crate) id: u64,
    pub(crate) queue: String,
    pub(crate) body: String,
    pub(crate) group: String,
    /// Milliseconds since 1970.
    pub(crate) visible_at: i64,
    pub(crate) receive_count: u32,
    pub(crate) in_flight: bool,
}

/// What the services hold.
#[derive(Debug, Default)]
pub(crate) struct CloudServices {
    pub(crate) table: SimTable,
    pub(crate) queues: BTreeMap<u64, QueuedMessage>,
    next_message: u64,
    /// Rules that are on.
    pub(crate) rules: BTreeSet<String>,
    /// Messages sent, for the law that an unchanged refresh does nothing.
    pub(crate) messages_sent: u64,
    /// Items written, for the same.
    pub(crate) items_written: u64,
    /// Places of the bank's pace that each process has taken, beside what ticks plan.
    permits_taken: BTreeMap<u64, usize>,
    /// What each process asked the bank beside its ticks, itself or by a message.
    permits_required: BTreeMap<u64, BTreeSet<String>>,
    /// Broken promises of single writes, found as they are made.
    pub(crate) violations: Vec<String>,
}

impl CloudServices {
    /// A process asks the bank beside its ticks: law 9 wants a place of its pace for each time.
    pub(crate) fn require_permit(&mut self, process: u64, purpose: &str) {
        let asked = self.permits_required.entry(process).or_default();
        let new = asked.insert(purpose.to_owned());
        let places = self.permits_taken.get(&process).copied().unwrap_or(0);
        if new && asked.len() > places {
            self.violations.push(format!(
                "law 9: the bank is asked for {purpose} without a place, {places} taken"
            ));
        }
    }

    fn enqueue_message(&mut self, queue: &str, entry: &Value, now: i64) -> u64 {
        self.next_message += 1;
        let id = self.next_message;
        let delay = entry["DelaySeconds"].as_i64().unwrap_or(0);
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let message = QueuedMessage {
            id,
            queue: queue.to_owned(),
            body: text("MessageBody"),
            group: text("MessageGroupId"),
            visible_at: now + delay * 1000,
            receive_count: 0,
            in_flight: false,
        };
        self.queues.insert(id, message);
        self.messages_sent += 1;
        id
    }

    /// The laws that every single write has to keep: a feed entry is written once and never changed,
    /// its number follows the one before, and a head's number never falls.
    fn check_writes(&mut self, writes: &[TableWrite]) {
        for write in writes {
            let (pk, sk) = &write.key;
            self.items_written += 1;
            if let Some(seq) = sk.strip_prefix("FED#") {
                if write.before.is_some() {
                    self.violations
                        .push(format!("law 2: feed entry {pk} {seq} was written twice"));
                }
                let last: u64 = seq.parse().unwrap_or(0);
                let count = write.after.as_ref().and_then(|item| {
                    let count = item.get("c")?;
                    count["N"].as_str()?.parse().ok()
                });
                let before = last.saturating_sub(count.unwrap_or(1));
                let width = sk.len() - 4;
                let before_key = (pk.clone(), format!("FED#{before:0width$}"));
                let dense = before == 0 || self.table.contains_item(&before_key);
                if !dense {
                    self.violations.push(format!(
                        "law 2: feed entry {pk} {seq} does not follow another"
                    ));
                }
            }
            if sk == "HEAD"
                && let (Some(before), Some(after)) = (&write.before, &write.after)
            {
                let seq = |item: &Map<String, Value>| {
                    item.get("q")
                        .and_then(|it| it["N"].as_str()?.parse::<u64>().ok())
                        .unwrap_or(0)
                };
                if seq(after) < seq(before) {
                    self.violations
                        .push(format!("law 2: the head of {pk} went back"));
                }
            }
        }
    }
}

/// The clock of the world, in milliseconds since 1970.
pub(crate) type NowMillis = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The services behind their HTTP client. Clones are one.
#[derive(Clone)]
pub(crate) struct SimCloud {
    pub(crate) scheduler: EffectScheduler,
    services: Arc<Mutex<CloudServices>>,
    now: NowMillis,
}

impl std::fmt::Debug for SimCloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cloud")
    }
}

impl SimCloud {
    pub(crate) fn new(scheduler: EffectScheduler, now: NowMillis) -> Self {
        Self {
            scheduler,
            services: Arc::default(),
            now,
        }
    }

    pub(crate) fn lock_services(&self) -> MutexGuard<'_, CloudServices> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        SharedHttpClient::new(http_client_fn(move |_, _| connector.clone()))
    }

    async fn serve_request(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request
            .headers()
            .get("x-amz-target")
            .unwrap_or_default()
            .to_owned();
        let (service, operation) = target.split_once('.').unwrap_or_default();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default())
            .unwrap_or(Value::Null);
        let kind = classify_effect(service, operation, &body);
        let label = format!("{operation}{}", describe_effect(operation, &body));
        let fate = self
            .scheduler
            .await_release(EffectPhase::Before, kind, label.clone())
            .await;
        let answer = match fate {
            EffectFate::Unreachable => return Err(connection_error()),
            EffectFate::Throttle => {
                error_response(400, throttling_error_type(service), "slower", Map::new())
            }
            EffectFate::Fail => {
                error_response(500, failure_error_type(service), "failed", Map::new())
            }
            EffectFate::Succeed
            | EffectFate::LoseResponse
            | EffectFate::Partial
            | EffectFate::StaleRead(_) => self.respond_to_call(service, operation, body, fate),
        };
        self.scheduler
            .await_release(EffectPhase::After, kind, label)
            .await;
        if fate == EffectFate::LoseResponse {
            return Err(connection_error());
        }
        Ok(answer)
    }

    fn respond_to_call(
        &self,
        service: &str,
        operation: &str,
        mut body: Value,
        fate: EffectFate,
    ) -> HttpResponse {
        let (now, process) = ((self.now)(), self.scheduler.current_process());
        let mut services = self.lock_services();
        match service {
            "DynamoDB_20120810" => {
                let sight = match fate {
                    EffectFate::StaleRead(ms) => ReadView::Stale(ms),
                    _ => ReadView::Fresh,
                };
                let left = if fate == EffectFate::Partial {
                    split_off_second_half(&mut body)
                } else {
                    None
                };
                let mut writes = Vec::new();
                services.table.now_ms = now;
                let answered =
                    services
                        .table
                        .execute_operation(operation, &body, sight, &mut writes);
                services.check_writes(&writes);
                let taken = writes.iter().filter(|it| it.key.0.starts_with("ALW#"));
                *services.permits_taken.entry(process).or_default() += taken.count();
                match answered {
                    Ok(mut answer) => {
                        if let Some(left) = left {
                            answer["UnprocessedKeys"] = left;
                        }
                        success_response(&answer)
                    }
                    Err(TableError {
                        kind,
                        message,
                        extra_members: more,
                    }) => error_response(
                        400,
                        &format!("com.amazonaws.dynamodb.v20120810#{kind}"),
                        &message,
                        more,
                    ),
                }
            }
            "AmazonSQS" => {
                let url = body["QueueUrl"].as_str().unwrap_or_default();
                let queue = url.rsplit('/').next().unwrap_or_default().to_owned();
                match operation {
                    "SendMessageBatch" => {
                        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
                        let served = if fate == EffectFate::Partial {
                            entries.len().div_ceil(2)
                        } else {
                            entries.len()
                        };
                        let (mut successful, mut refused) = (Vec::new(), Vec::new());
                        for (at, entry) in entries.iter().enumerate() {
                            if at < served {
                                if let Some(job) = on_demand_chunk_id(entry) {
                                    services.require_permit(process, &job);
                                }
                                let id = services.enqueue_message(&queue, entry, now);
                                successful.push(json!({ "Id": entry["Id"], "MessageId": id.to_string(), "MD5OfMessageBody": "-" }));
                            } else {
                                refused.push(json!({ "Id": entry["Id"], "SenderFault": false, "Code": "InternalError" }));
                            }
                        }
                        success_response(&json!({ "Successful": successful, "Failed": refused }))
                    }
                    other => error_response(
                        400,
                        "com.amazon.coral.service#UnknownOperationException",
                        other,
                        Map::new(),
                    ),
                }
            }
            "AWSEvents" => {
                let name = body["Name"].as_str().unwrap_or_default().to_owned();
                match operation {
                    "EnableRule" => services.rules.insert(name),
                    "DisableRule" => services.rules.remove(&name),
                    other => {
                        return error_response(400, "UnknownOperationException", other, Map::new());
                    }
                };
                success_response(&json!({}))
            }
            other => error_response(400, "UnknownOperationException", other, Map::new()),
        }
    }
}

impl HttpConnector for SimCloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().serve_request(request))
    }
}

fn classify_effect(service: &str, operation: &str, body: &Value) -> EffectKind {
    let eventual = |asked: &Value| asked["ConsistentRead"] != json!(true);
    match (service, operation) {
        ("DynamoDB_20120810", "GetItem" | "Query") if eventual(body) => EffectKind::EventualRead,
        ("DynamoDB_20120810", "BatchGetItem") => EffectKind::Batch,
        ("DynamoDB_20120810", _) => EffectKind::Table,
        ("AmazonSQS", "SendMessageBatch") => EffectKind::Batch,
        ("AmazonSQS", _) => EffectKind::Queue,
        _ => EffectKind::Rule,
    }
}

/// The id of a chunk that no tick planned.
fn on_demand_chunk_id(entry: &Value) -> Option<String> {
    let message = serde_json::from_str(entry["MessageBody"].as_str()?).ok()?;
    let FetchMessage::ChunkV1(chunk) = message else {
        return None;
    };
    chunk.scheduled_tick().is_none().then_some(chunk.id)
}

/// What an effect is about, for the trace: keys, and nothing whose form varies.
fn describe_effect(operation: &str, body: &Value) -> String {
    let key = |item: &Value| {
        let part = |name: &str| item[name]["S"].as_str().unwrap_or("?").to_owned();
        format!(" {}/{}", part("pk"), part("sk"))
    };
    match operation {
        "GetItem" | "UpdateItem" | "DeleteItem" => key(&body["Key"]),
        "PutItem" => key(&body["Item"]),
        "Query" => {
            let value = |name: &str| {
                body["ExpressionAttributeValues"][name]["S"]
                    .as_str()
                    .unwrap_or("?")
            };
            format!(" {}/{}..", value(":k"), value(":f"))
        }
        "BatchGetItem" => {
            let tables = body["RequestItems"].as_object().into_iter().flatten();
            tables
                .flat_map(|(_, asked)| asked["Keys"].as_array().into_iter().flatten())
                .map(key)
                .collect()
        }
        "TransactWriteItems" => {
            let actions = body["TransactItems"].as_array().into_iter().flatten();
            let actions =
                actions.filter_map(|action| action.as_object()?.values().find(|it| !it.is_null()));
            actions
                .map(|it| {
                    key(if it["Item"].is_null() {
                        &it["Key"]
                    } else {
                        &it["Item"]
                    })
                })
                .collect()
        }
        "SendMessageBatch" => {
            let entries = body["Entries"].as_array().into_iter().flatten();
            entries
                .map(|it| format!(" {}", it["MessageBody"].as_str().unwrap_or("?")))
                .collect()
        }
        _ => format!(" {}", body["Name"].as_str().unwrap_or("?")),
    }
}

/// Takes the second half of a batch of keys out and returns it.
fn split_off_second_half(body: &mut Value) -> Option<Value> {
    let mut left = Map::new();
    for (table, asked) in body["RequestItems"].as_object_mut()? {
        let keys = asked["Keys"].as_array_mut()?;
        let later = keys.split_off(keys.len().div_ceil(2));
        if !later.is_empty() {
            let mut rest = asked.clone();
            rest["Keys"] = Value::Array(later);
            left.insert(table.clone(), rest);
        }
    }
    Some(Value::Object(left))
}

fn throttling_error_type(service: &str) -> &'static str {
    match service {
        "DynamoDB_20120810" => {
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
        }
        "AmazonSQS" => "com.amazonaws.sqs#RequestThrottled",
        _ => "ThrottlingException",
    }
}

fn failure_error_type(service: &str) -> &'static str {
    match service {
        "DynamoDB_20120810" => "com.amazonaws.dynamodb.v20120810#InternalServerError",
        _ => "InternalFailure",
    }
}

fn connection_error() -> ConnectorError {
    ConnectorError::io("the connection broke".into())
}

fn success_response(body: &Value) -> HttpResponse {
    json_response(200, body)
}

fn error_response(
    status: u16,
    kind: &str,
    message: &str,
    mut extra_members: Map<String, Value>,
) -> HttpResponse {
    extra_members.insert("__type".to_owned(), json!(kind));
    extra_members.insert("message".to_owned(), json!(message));
    json_response(status, &Value::Object(extra_members))
}

fn json_response(status: u16, body: &Value) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::new(status.into(), SdkBody::from(body.to_string()));
    response
        .headers_mut()
        .insert("content-type", "application/x-amz-json-1.0");
    response
}
