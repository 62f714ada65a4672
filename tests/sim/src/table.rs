//! DynamoDB in memory, as far as the store uses it: the same requests, the same refusals, and what
//! was there a moment ago for reads that are only eventually consistent.
//!
//! It exists because ten thousand worlds have to run in minutes; `tests/table.rs` proves it equal to
//! the emulator, operation by operation and world by world.

use std::{collections::BTreeMap, ops::Bound};

use serde_json::{Map, Value, json};

use crate::expression::{Expression, Item};

/// Partition and sort key.
pub(crate) type Key = (String, String);

/// Items a page of a query holds at most, so that pages are followed.
const MAX_PAGE: usize = 200;

#[derive(Clone, Debug, Default)]
struct Versions {
    now: Option<Item>,
    before: Option<Item>,
    /// When `now` was written, in milliseconds.
    at: i64,
}

/// A refusal: its type, its message, and what else its body has.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) more: Map<String, Value>,
}

impl Refusal {
    fn of(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            more: Map::new(),
        }
    }

    fn validation(message: impl Into<String>) -> Self {
        Self::of("ValidationException", message)
    }

    fn condition() -> Self {
        Self::of(
            "ConditionalCheckFailedException",
            "The conditional request failed",
        )
    }
}

/// One change of the table: the key, the item before and the item after.
pub(crate) struct Written {
    pub(crate) key: Key,
    pub(crate) before: Option<Item>,
    pub(crate) after: Option<Item>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    items: BTreeMap<Key, Versions>,
    /// The time of the call that is served, in milliseconds: the age of versions.
    pub(crate) now: i64,
}

type Answered = Result<Value, Refusal>;

fn key_of(item: &Value) -> Result<Key, Refusal> {
    let part = |name: &str| item[name]["S"].as_str().map(str::to_owned);
    match (part("pk"), part("sk")) {
        (Some(pk), Some(sk)) => Ok((pk, sk)),
        _ => Err(Refusal::validation(
            "One of the required keys was not given a value",
        )),
    }
}

fn key_item(key: &Key) -> Item {
    let mut item = Item::new();
    item.insert("pk".to_owned(), json!({ "S": key.0 }));
    item.insert("sk".to_owned(), json!({ "S": key.1 }));
    item
}

/// How a read sees the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// As it is.
    Fresh,
    /// Items written within so many last milliseconds as they were before.
    Stale(i64),
}

impl Table {
    fn see(&self, versions: &Versions, sight: Sight) -> Option<Item> {
        match sight {
            Sight::Stale(within) if versions.at + within > self.now => versions.before.clone(),
            Sight::Stale(_) | Sight::Fresh => versions.now.clone(),
        }
    }

    fn get(&self, key: &Key) -> Option<&Item> {
        self.items.get(key)?.now.as_ref()
    }

    /// An item's text attribute; how the laws look without a call.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&Key, &Item)> {
        self.items
            .iter()
            .filter_map(|(key, versions)| Some((key, versions.now.as_ref()?)))
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// Writes down that every sweep up to this minute ran.
    pub(crate) fn skip_sweeps_to(&mut self, minute: i64) {
        let states = self
            .items
            .iter_mut()
            .filter(|((pk, _), _)| pk == "SYS#sweep");
        for (_, versions) in states {
            if let Some(item) = &mut versions.now
                && let Some(text) = item.get("j").and_then(|it| it["S"].as_str())
                && let Ok(mut state) = serde_json::from_str::<Value>(text)
                && state["minute"].as_i64().is_some_and(|swept| swept < minute)
            {
                state["minute"] = json!(minute);
                item.insert("j".to_owned(), json!({ "S": state.to_string() }));
            }
        }
    }

    fn write(&mut self, key: Key, after: Option<Item>) -> Written {
        let at = self.now;
        let versions = self.items.entry(key.clone()).or_default();
        versions.before = versions.now.take();
        versions.now.clone_from(&after);
        versions.at = at;
        Written {
            key,
            before: versions.before.clone(),
            after,
        }
    }

    /// Serves a call; a read that may be stale sees the table by `sight`.
    pub(crate) fn call(
        &mut self,
        operation: &str,
        request: &Value,
        sight: Sight,
        written: &mut Vec<Written>,
    ) -> Answered {
        match operation {
            "GetItem" => {
                let sight = sight_of(request, sight);
                let key = key_of(&request["Key"])?;
                let item = self
                    .items
                    .get(&key)
                    .and_then(|versions| self.see(versions, sight));
                let mut answer = Map::new();
                if let Some(item) = item {
                    answer.insert("Item".to_owned(), Value::Object(item));
                }
                Ok(Value::Object(answer))
            }
            "PutItem" | "UpdateItem" | "DeleteItem" => {
                let (key, after) = self.prepare(operation, request)?;
                // Of UPDATED_NEW the SDK's caller looks at what was updated alone: the rest does no harm.
                let told = (request["ReturnValues"] == "UPDATED_NEW").then(|| after.clone());
                written.push(self.write(key, after));
                Ok(match told.flatten() {
                    Some(item) => json!({ "Attributes": item }),
                    None => json!({}),
                })
            }
            "Query" => self.query(request, sight_of(request, sight)),
            "BatchGetItem" => self.batch_get(request, sight),
            "TransactWriteItems" => self.transact(request, written),
            "CreateTable" | "UpdateTimeToLive" => Ok(json!({ "TableDescription": {} })),
            other => Err(Refusal::of(
                "UnknownOperationException",
                format!("{other} is not simulated"),
            )),
        }
    }

    /// What a write would leave, where its condition holds.
    fn prepare(&self, operation: &str, request: &Value) -> Result<(Key, Option<Item>), Refusal> {
        let put = operation == "PutItem";
        let key = key_of(&request[if put { "Item" } else { "Key" }])?;
        let nothing = Item::new();
        let before = self.get(&key);
        if let Some(condition) = request["ConditionExpression"].as_str() {
            let holds = Expression::new(condition, request).holds(before.unwrap_or(&nothing));
            if !holds.map_err(Refusal::validation)? {
                return Err(Refusal::condition());
            }
        }
        let after = match operation {
            "PutItem" => request["Item"].as_object().cloned(),
            "UpdateItem" => {
                let base = before.cloned().unwrap_or_else(|| key_item(&key));
                match request["UpdateExpression"].as_str() {
                    None => Some(base),
                    Some(update) => Some(
                        Expression::new(update, request)
                            .apply(&base)
                            .map_err(Refusal::validation)?,
                    ),
                }
            }
            "DeleteItem" => None,
            // A condition alone.
            _ => before.cloned(),
        };
        Ok((key, after))
    }

    fn query(&self, request: &Value, sight: Sight) -> Answered {
        let condition = request["KeyConditionExpression"]
            .as_str()
            .unwrap_or_default();
        if request["ScanIndexForward"] == json!(false) || !request["FilterExpression"].is_null() {
            return Err(Refusal::validation(
                "only forward queries without a filter are simulated",
            ));
        }
        let names = &request["ExpressionAttributeNames"];
        let values = &request["ExpressionAttributeValues"];
        // The store writes `#k = :k` first, which names the partition.
        let words: Vec<&str> = condition.split_whitespace().collect();
        let pk = match words.as_slice() {
            [name, "=", value, ..] if names[*name] == "pk" || *name == "pk" => {
                values[*value]["S"].as_str()
            }
            _ => None,
        };
        let pk =
            pk.ok_or_else(|| Refusal::validation("a query has to begin with its partition"))?;
        let start = match &request["ExclusiveStartKey"] {
            Value::Null => Bound::Included((pk.to_owned(), String::new())),
            start => Bound::Excluded(key_of(start)?),
        };
        let limit = request["Limit"]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let mut answer = Map::new();
        let mut items = Vec::new();
        for (key, versions) in self.items.range((start, Bound::Unbounded)) {
            if key.0 != pk {
                break;
            }
            let holds = Expression::new(condition, request).holds(&key_item(key));
            if !holds.map_err(Refusal::validation)? {
                continue;
            }
            let Some(item) = self.see(versions, sight) else {
                continue;
            };
            items.push(Value::Object(item));
            if items.len() == limit {
                answer.insert("LastEvaluatedKey".to_owned(), Value::Object(key_item(key)));
                break;
            }
        }
        answer.insert("Count".to_owned(), json!(items.len()));
        answer.insert("ScannedCount".to_owned(), json!(items.len()));
        answer.insert("Items".to_owned(), Value::Array(items));
        Ok(Value::Object(answer))
    }

    fn batch_get(&self, request: &Value, sight: Sight) -> Answered {
        let mut responses = Map::new();
        for (table, asked) in request["RequestItems"].as_object().into_iter().flatten() {
            let sight = sight_of(asked, sight);
            let mut found = Vec::new();
            for key in asked["Keys"].as_array().into_iter().flatten() {
                let key = key_of(key)?;
                let item = self
                    .items
                    .get(&key)
                    .and_then(|versions| self.see(versions, sight));
                found.extend(item.map(Value::Object));
            }
            responses.insert(table.clone(), Value::Array(found));
        }
        Ok(json!({ "Responses": responses, "UnprocessedKeys": {} }))
    }

    fn transact(&mut self, request: &Value, written: &mut Vec<Written>) -> Answered {
        let mut writes = Vec::new();
        let mut reasons = Vec::new();
        if names_twice(request) {
            let message = "Transaction request cannot include multiple operations on one item";
            return Err(Refusal::validation(message));
        }
        for action in request["TransactItems"].as_array().into_iter().flatten() {
            let (kind, action) = action
                .as_object()
                .and_then(|action| action.iter().find(|(_, it)| !it.is_null()))
                .ok_or_else(|| Refusal::validation("an action without a kind"))?;
            let operation = match kind.as_str() {
                "Put" => "PutItem",
                "Update" => "UpdateItem",
                "Delete" => "DeleteItem",
                _ => "ConditionCheck",
            };
            match self.prepare(operation, action) {
                Ok(write) => {
                    writes.push((write.0, write.1, operation != "ConditionCheck"));
                    reasons.push(json!({ "Code": "None" }));
                }
                Err(refusal) if refusal.kind == "ConditionalCheckFailedException" => {
                    reasons.push(
                        json!({ "Code": "ConditionalCheckFailed", "Message": refusal.message }),
                    );
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if reasons.len() != writes.len() || reasons.iter().any(|it| it["Code"] != "None") {
            let mut refusal = Refusal::of("TransactionCanceledException", "Transaction cancelled");
            refusal
                .more
                .insert("CancellationReasons".to_owned(), Value::Array(reasons));
            return Err(refusal);
        }
        for (key, after, writes) in writes {
            if writes {
                written.push(self.write(key, after));
            }
        }
        Ok(json!({}))
    }
}

/// True for a transaction that would write one item twice.
fn names_twice(request: &Value) -> bool {
    let actions = request["TransactItems"].as_array().into_iter().flatten();
    let actions =
        actions.filter_map(|action| action.as_object()?.values().find(|it| !it.is_null()));
    let mut keys: Vec<Key> = actions
        .filter_map(|it| {
            key_of(if it["Item"].is_null() {
                &it["Key"]
            } else {
                &it["Item"]
            })
            .ok()
        })
        .collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    keys.len() < count
}

fn sight_of(request: &Value, sight: Sight) -> Sight {
    if request["ConsistentRead"] == json!(true) {
        Sight::Fresh
    } else {
        sight
    }
}
