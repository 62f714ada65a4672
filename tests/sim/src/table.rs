//! DynamoDB in memory, as far as the store uses it: the same requests, the same refusals, and what
//! was there a moment ago for reads that are only eventually consistent.
//!
//! It exists because ten thousand worlds have to run in minutes; `tests/table.rs` proves it equal to
//! the emulator, operation by operation and world by world.

use std::{collections::BTreeMap, ops::Bound};

use serde_json::{Map, Value, json};

use crate::expression::{TableExpression, TableItem};

/// Partition and sort key.
pub(crate) type ItemKey = (String, String);

/// Items a page of a query holds at most, so that pages are followed.
const MAX_PAGE_ITEMS: usize = 200;

#[derive(Clone, Debug, Default)]
struct ItemVersions {
    current: Option<TableItem>,
    previous: Option<TableItem>,
    /// When `now` was written, in milliseconds.
    written_at_ms: i64,
}

/// A refusal: its type, its message, and what else its body has.
#[derive(Debug)]
pub(crate) struct TableError {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) extra_members: Map<String, Value>,
}

impl TableError {
    fn with_kind(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            extra_members: Map::new(),
        }
    }

    fn validation_error(message: impl Into<String>) -> Self {
        Self::with_kind("ValidationException", message)
    }

    fn condition_failed() -> Self {
        Self::with_kind(
            "ConditionalCheckFailedException",
            "The conditional request failed",
        )
    }
}

/// One change of the table: the key, the item before and the item after.
pub(crate) struct TableWrite {
    pub(crate) key: ItemKey,
    pub(crate) before: Option<TableItem>,
    pub(crate) after: Option<TableItem>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct SimTable {
    items: BTreeMap<ItemKey, ItemVersions>,
    /// The time of the call that is served, in milliseconds: the age of versions.
    pub(crate) now_ms: i64,
}

type TableResult = Result<Value, TableError>;

fn parse_item_key(item: &Value) -> Result<ItemKey, TableError> {
    let part = |name: &str| item[name]["S"].as_str().map(str::to_owned);
    match (part("pk"), part("sk")) {
        (Some(pk), Some(sk)) => Ok((pk, sk)),
        _ => Err(TableError::validation_error(
            "One of the required keys was not given a value",
        )),
    }
}

fn item_from_key(key: &ItemKey) -> TableItem {
    let mut item = TableItem::new();
    item.insert("pk".to_owned(), json!({ "S": key.0 }));
    item.insert("sk".to_owned(), json!({ "S": key.1 }));
    item
}

/// How a read sees the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadView {
    /// As it is.
    Fresh,
    /// Items written within so many last milliseconds as they were before.
    Stale(i64),
}

impl SimTable {
    fn visible_item(&self, versions: &ItemVersions, view: ReadView) -> Option<TableItem> {
        match view {
            ReadView::Stale(within) if versions.written_at_ms + within > self.now_ms => {
                versions.previous.clone()
            }
            ReadView::Stale(_) | ReadView::Fresh => versions.current.clone(),
        }
    }

    fn current_item(&self, key: &ItemKey) -> Option<&TableItem> {
        self.items.get(key)?.current.as_ref()
    }

    /// An item's text attribute; how the laws look without a call.
    pub(crate) fn current_items(&self) -> impl Iterator<Item = (&ItemKey, &TableItem)> {
        self.items
            .iter()
            .filter_map(|(key, versions)| Some((key, versions.current.as_ref()?)))
    }

    pub(crate) fn contains_item(&self, key: &ItemKey) -> bool {
        self.current_item(key).is_some()
    }

    /// Writes down that every sweep up to this minute ran.
    pub(crate) fn record_sweeps_until(&mut self, minute: i64) {
        let states = self
            .items
            .iter_mut()
            .filter(|((pk, _), _)| pk == "SYS#sweep");
        for (_, versions) in states {
            if let Some(item) = &mut versions.current
                && let Some(text) = item.get("j").and_then(|it| it["S"].as_str())
                && let Ok(mut state) = serde_json::from_str::<Value>(text)
                && state["minute"].as_i64().is_some_and(|swept| swept < minute)
            {
                state["minute"] = json!(minute);
                item.insert("j".to_owned(), json!({ "S": state.to_string() }));
            }
        }
    }

    fn write_item(&mut self, key: ItemKey, after: Option<TableItem>) -> TableWrite {
        let at = self.now_ms;
        let versions = self.items.entry(key.clone()).or_default();
        versions.previous = versions.current.take();
        versions.current.clone_from(&after);
        versions.written_at_ms = at;
        TableWrite {
            key,
            before: versions.previous.clone(),
            after,
        }
    }

    /// Serves a call; a read that may be stale sees the table by `sight`.
    pub(crate) fn execute_operation(
        &mut self,
        operation: &str,
        request: &Value,
        view: ReadView,
        table_writes: &mut Vec<TableWrite>,
    ) -> TableResult {
        match operation {
            "GetItem" => {
                let sight = view_for_request(request, view);
                let key = parse_item_key(&request["Key"])?;
                let item = self
                    .items
                    .get(&key)
                    .and_then(|versions| self.visible_item(versions, sight));
                let mut answer = Map::new();
                if let Some(item) = item {
                    answer.insert("Item".to_owned(), Value::Object(item));
                }
                Ok(Value::Object(answer))
            }
            "PutItem" | "UpdateItem" | "DeleteItem" => {
                let (key, after) = self.prepare_write(operation, request)?;
                // Of UPDATED_NEW the SDK's caller looks at what was updated alone: the rest does no harm.
                let told = (request["ReturnValues"] == "UPDATED_NEW").then(|| after.clone());
                table_writes.push(self.write_item(key, after));
                Ok(match told.flatten() {
                    Some(item) => json!({ "Attributes": item }),
                    None => json!({}),
                })
            }
            "Query" => self.query_items(request, view_for_request(request, view)),
            "BatchGetItem" => self.batch_get_items(request, view),
            "TransactWriteItems" => self.transact_write_items(request, table_writes),
            "CreateTable" | "UpdateTimeToLive" => Ok(json!({ "TableDescription": {} })),
            other => Err(TableError::with_kind(
                "UnknownOperationException",
                format!("{other} is not simulated"),
            )),
        }
    }

    /// What a write would leave, where its condition holds.
    fn prepare_write(
        &self,
        operation: &str,
        request: &Value,
    ) -> Result<(ItemKey, Option<TableItem>), TableError> {
        let put = operation == "PutItem";
        let key = parse_item_key(&request[if put { "Item" } else { "Key" }])?;
        let nothing = TableItem::new();
        let before = self.current_item(&key);
        if let Some(condition) = request["ConditionExpression"].as_str() {
            let holds = TableExpression::new(condition, request)
                .evaluate_condition(before.unwrap_or(&nothing));
            if !holds.map_err(TableError::validation_error)? {
                return Err(TableError::condition_failed());
            }
        }
        let after = match operation {
            "PutItem" => request["Item"].as_object().cloned(),
            "UpdateItem" => {
                let base = before.cloned().unwrap_or_else(|| item_from_key(&key));
                match request["UpdateExpression"].as_str() {
                    None => Some(base),
                    Some(update) => Some(
                        TableExpression::new(update, request)
                            .apply_update(&base)
                            .map_err(TableError::validation_error)?,
                    ),
                }
            }
            "DeleteItem" => None,
            // A condition alone.
            _ => before.cloned(),
        };
        Ok((key, after))
    }

    fn query_items(&self, request: &Value, view: ReadView) -> TableResult {
        let condition = request["KeyConditionExpression"]
            .as_str()
            .unwrap_or_default();
        if request["ScanIndexForward"] == json!(false) || !request["FilterExpression"].is_null() {
            return Err(TableError::validation_error(
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
        let pk = pk.ok_or_else(|| {
            TableError::validation_error("a query has to begin with its partition")
        })?;
        let start = match &request["ExclusiveStartKey"] {
            Value::Null => Bound::Included((pk.to_owned(), String::new())),
            start => Bound::Excluded(parse_item_key(start)?),
        };
        let limit = request["Limit"]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(MAX_PAGE_ITEMS).min(MAX_PAGE_ITEMS);
        let mut answer = Map::new();
        let mut items = Vec::new();
        for (key, versions) in self.items.range((start, Bound::Unbounded)) {
            if key.0 != pk {
                break;
            }
            let holds =
                TableExpression::new(condition, request).evaluate_condition(&item_from_key(key));
            if !holds.map_err(TableError::validation_error)? {
                continue;
            }
            let Some(item) = self.visible_item(versions, view) else {
                continue;
            };
            items.push(Value::Object(item));
            if items.len() == limit {
                answer.insert(
                    "LastEvaluatedKey".to_owned(),
                    Value::Object(item_from_key(key)),
                );
                break;
            }
        }
        answer.insert("Count".to_owned(), json!(items.len()));
        answer.insert("ScannedCount".to_owned(), json!(items.len()));
        answer.insert("Items".to_owned(), Value::Array(items));
        Ok(Value::Object(answer))
    }

    fn batch_get_items(&self, request: &Value, view: ReadView) -> TableResult {
        let mut responses = Map::new();
        for (table, asked) in request["RequestItems"].as_object().into_iter().flatten() {
            let sight = view_for_request(asked, view);
            let mut found = Vec::new();
            for key in asked["Keys"].as_array().into_iter().flatten() {
                let key = parse_item_key(key)?;
                let item = self
                    .items
                    .get(&key)
                    .and_then(|versions| self.visible_item(versions, sight));
                found.extend(item.map(Value::Object));
            }
            responses.insert(table.clone(), Value::Array(found));
        }
        Ok(json!({ "Responses": responses, "UnprocessedKeys": {} }))
    }

    fn transact_write_items(
        &mut self,
        request: &Value,
        table_writes: &mut Vec<TableWrite>,
    ) -> TableResult {
        let mut writes = Vec::new();
        let mut reasons = Vec::new();
        if has_duplicate_keys(request) {
            let message = "Transaction request cannot include multiple operations on one item";
            return Err(TableError::validation_error(message));
        }
        for action in request["TransactItems"].as_array().into_iter().flatten() {
            let (kind, action) = action
                .as_object()
                .and_then(|action| action.iter().find(|(_, it)| !it.is_null()))
                .ok_or_else(|| TableError::validation_error("an action without a kind"))?;
            let operation = match kind.as_str() {
                "Put" => "PutItem",
                "Update" => "UpdateItem",
                "Delete" => "DeleteItem",
                _ => "ConditionCheck",
            };
            match self.prepare_write(operation, action) {
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
            let mut refusal =
                TableError::with_kind("TransactionCanceledException", "Transaction cancelled");
            refusal
                .extra_members
                .insert("CancellationReasons".to_owned(), Value::Array(reasons));
            return Err(refusal);
        }
        for (key, after, writes) in writes {
            if writes {
                table_writes.push(self.write_item(key, after));
            }
        }
        Ok(json!({}))
    }
}

/// True for a transaction that would write one item twice.
fn has_duplicate_keys(request: &Value) -> bool {
    let actions = request["TransactItems"].as_array().into_iter().flatten();
    let actions =
        actions.filter_map(|action| action.as_object()?.values().find(|it| !it.is_null()));
    let mut keys: Vec<ItemKey> = actions
        .filter_map(|it| {
            parse_item_key(if it["Item"].is_null() {
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

fn view_for_request(request: &Value, view: ReadView) -> ReadView {
    if request["ConsistentRead"] == json!(true) {
        ReadView::Fresh
    } else {
        view
    }
}
