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
    gate::{Fate, Gate, Kind, Side},
    table::{Refusal, Sight, Table, Written},
};

/// A message of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) queue: String,
    pub(crate) body: String,
    pub(crate) group: String,
    /// Milliseconds since 1970.
    pub(crate) visible_at: i64,
    pub(crate) receives: u32,
    pub(crate) in_flight: bool,
}

/// What the services hold.
#[derive(Debug, Default)]
pub(crate) struct Services {
    pub(crate) table: Table,
    pub(crate) queues: BTreeMap<u64, Message>,
    next_message: u64,
    /// Rules that are on.
    pub(crate) rules: BTreeSet<String>,
    /// Messages sent, for the law that an unchanged refresh does nothing.
    pub(crate) sent: u64,
    /// Items written, for the same.
    pub(crate) written: u64,
    /// Places of the bank's pace that each process has taken, beside what ticks plan.
    places: BTreeMap<u64, usize>,
    /// What each process asked the bank beside its ticks, itself or by a message.
    asked: BTreeMap<u64, BTreeSet<String>>,
    /// Broken promises of single writes, found as they are made.
    pub(crate) broken: Vec<String>,
}

impl Services {
    /// A process asks the bank beside its ticks: law 9 wants a place of its pace for each time.
    pub(crate) fn asks(&mut self, process: u64, what: &str) {
        let asked = self.asked.entry(process).or_default();
        let new = asked.insert(what.to_owned());
        let places = self.places.get(&process).copied().unwrap_or(0);
        if new && asked.len() > places {
            self.broken.push(format!(
                "law 9: the bank is asked for {what} without a place, {places} taken"
            ));
        }
    }

    fn put_message(&mut self, queue: &str, entry: &Value, now: i64) -> u64 {
        self.next_message += 1;
        let id = self.next_message;
        let delay = entry["DelaySeconds"].as_i64().unwrap_or(0);
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let message = Message {
            id,
            queue: queue.to_owned(),
            body: text("MessageBody"),
            group: text("MessageGroupId"),
            visible_at: now + delay * 1000,
            receives: 0,
            in_flight: false,
        };
        self.queues.insert(id, message);
        self.sent += 1;
        id
    }

    /// The laws that every single write has to keep: a feed entry is written once and never changed,
    /// its number follows the one before, and a head's number never falls.
    fn check(&mut self, writes: &[Written]) {
        for write in writes {
            let (pk, sk) = &write.key;
            self.written += 1;
            if let Some(seq) = sk.strip_prefix("FED#") {
                if write.before.is_some() {
                    self.broken
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
                let dense = before == 0 || self.table.holds(&before_key);
                if !dense {
                    self.broken.push(format!(
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
                    self.broken
                        .push(format!("law 2: the head of {pk} went back"));
                }
            }
        }
    }
}

/// The clock of the world, in milliseconds since 1970.
pub(crate) type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The services behind their HTTP client. Clones are one.
#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) gate: Gate,
    services: Arc<Mutex<Services>>,
    now: Now,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cloud")
    }
}

impl Cloud {
    pub(crate) fn new(gate: Gate, now: Now) -> Self {
        Self {
            gate,
            services: Arc::default(),
            now,
        }
    }

    pub(crate) fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        SharedHttpClient::new(http_client_fn(move |_, _| connector.clone()))
    }

    async fn serve(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request
            .headers()
            .get("x-amz-target")
            .unwrap_or_default()
            .to_owned();
        let (service, operation) = target.split_once('.').unwrap_or_default();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default())
            .unwrap_or(Value::Null);
        let kind = kind(service, operation, &body);
        let label = format!("{operation}{}", described(operation, &body));
        let fate = self.gate.pass(Side::Before, kind, label.clone()).await;
        let answer = match fate {
            Fate::Unreachable => return Err(broken()),
            Fate::Throttle => error(400, throttled(service), "slower", Map::new()),
            Fate::Fail => error(500, failed(service), "failed", Map::new()),
            Fate::Pass | Fate::LoseAnswer | Fate::Partial | Fate::Stale(_) => {
                self.answer(service, operation, body, fate)
            }
        };
        self.gate.pass(Side::After, kind, label).await;
        if fate == Fate::LoseAnswer {
            return Err(broken());
        }
        Ok(answer)
    }

    fn answer(&self, service: &str, operation: &str, mut body: Value, fate: Fate) -> HttpResponse {
        let (now, process) = ((self.now)(), self.gate.current());
        let mut services = self.services();
        match service {
            "DynamoDB_20120810" => {
                let sight = match fate {
                    Fate::Stale(ms) => Sight::Stale(ms),
                    _ => Sight::Fresh,
                };
                let left = if fate == Fate::Partial {
                    halved(&mut body)
                } else {
                    None
                };
                let mut writes = Vec::new();
                services.table.now = now;
                let answered = services.table.call(operation, &body, sight, &mut writes);
                services.check(&writes);
                let taken = writes.iter().filter(|it| it.key.0.starts_with("ALW#"));
                *services.places.entry(process).or_default() += taken.count();
                match answered {
                    Ok(mut answer) => {
                        if let Some(left) = left {
                            answer["UnprocessedKeys"] = left;
                        }
                        ok(&answer)
                    }
                    Err(Refusal {
                        kind,
                        message,
                        more,
                    }) => error(
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
                        let served = if fate == Fate::Partial {
                            entries.len().div_ceil(2)
                        } else {
                            entries.len()
                        };
                        let (mut successful, mut refused) = (Vec::new(), Vec::new());
                        for (at, entry) in entries.iter().enumerate() {
                            if at < served {
                                if let Some(job) = on_demand(entry) {
                                    services.asks(process, &job);
                                }
                                let id = services.put_message(&queue, entry, now);
                                successful.push(json!({ "Id": entry["Id"], "MessageId": id.to_string(), "MD5OfMessageBody": "-" }));
                            } else {
                                refused.push(json!({ "Id": entry["Id"], "SenderFault": false, "Code": "InternalError" }));
                            }
                        }
                        ok(&json!({ "Successful": successful, "Failed": refused }))
                    }
                    other => error(
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
                    other => return error(400, "UnknownOperationException", other, Map::new()),
                };
                ok(&json!({}))
            }
            other => error(400, "UnknownOperationException", other, Map::new()),
        }
    }
}

impl HttpConnector for Cloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().serve(request))
    }
}

fn kind(service: &str, operation: &str, body: &Value) -> Kind {
    let eventual = |asked: &Value| asked["ConsistentRead"] != json!(true);
    match (service, operation) {
        ("DynamoDB_20120810", "GetItem" | "Query") if eventual(body) => Kind::EventualRead,
        ("DynamoDB_20120810", "BatchGetItem") => Kind::Batch,
        ("DynamoDB_20120810", _) => Kind::Table,
        ("AmazonSQS", "SendMessageBatch") => Kind::Batch,
        ("AmazonSQS", _) => Kind::Queue,
        _ => Kind::Rule,
    }
}

/// The id of a chunk that no tick planned.
fn on_demand(entry: &Value) -> Option<String> {
    let message = serde_json::from_str(entry["MessageBody"].as_str()?).ok()?;
    let FetchMessage::ChunkV1(chunk) = message else {
        return None;
    };
    chunk.tick().is_none().then_some(chunk.id)
}

/// What an effect is about, for the trace: keys, and nothing whose form varies.
fn described(operation: &str, body: &Value) -> String {
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
fn halved(body: &mut Value) -> Option<Value> {
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

fn throttled(service: &str) -> &'static str {
    match service {
        "DynamoDB_20120810" => {
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
        }
        "AmazonSQS" => "com.amazonaws.sqs#RequestThrottled",
        _ => "ThrottlingException",
    }
}

fn failed(service: &str) -> &'static str {
    match service {
        "DynamoDB_20120810" => "com.amazonaws.dynamodb.v20120810#InternalServerError",
        _ => "InternalFailure",
    }
}

fn broken() -> ConnectorError {
    ConnectorError::io("the connection broke".into())
}

fn ok(body: &Value) -> HttpResponse {
    response(200, body)
}

fn error(status: u16, kind: &str, message: &str, mut more: Map<String, Value>) -> HttpResponse {
    more.insert("__type".to_owned(), json!(kind));
    more.insert("message".to_owned(), json!(message));
    response(status, &Value::Object(more))
}

fn response(status: u16, body: &Value) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::new(status.into(), SdkBody::from(body.to_string()));
    response
        .headers_mut()
        .insert("content-type", "application/x-amz-json-1.0");
    response
}
