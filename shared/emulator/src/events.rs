//! EventBridge: [`EventBridgeEmulator`] stores rules, and takes events and remembers the last of them. Rules fire
//! nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    response::ServiceResponse,
    sqlite,
    storage::{EmulatorOpenError, Storage},
};

/// File of the rules.
const FILE: &str = "rules.sqlite";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS rules (
        name TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        schedule TEXT,
        description TEXT
    ) WITHOUT ROWID;
";

/// Most entries of one `PutEvents` (EventBridge).
const MAX_EVENTS: usize = 10;

/// Most bytes of the `Detail` of one entry.
const MAX_DETAIL_BYTES: usize = 256 * 1024;

/// How many entries are remembered, the last ones.
const MAX_REMEMBERED: usize = 1000;

/// The rules, and the last events that were taken.
#[derive(Debug)]
pub(crate) struct EventBridgeEmulator {
    connection: Arc<Mutex<Connection>>,
    storage: Storage,
    taken_events: Mutex<VecDeque<Value>>,
}

/// A rule, as it is put and described.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    name: String,
    #[serde(default = "enabled_state")]
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_expression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_deserializing)]
    arn: String,
}

fn enabled_state() -> String {
    "ENABLED".to_owned()
}

fn rule_arn(name: &str) -> String {
    format!("arn:aws:events:local:000000000000:rule/{name}")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleByNameRequest {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRulesRequest {
    name_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEventsRequest {
    entries: Vec<Value>,
}

#[derive(Debug, thiserror::Error)]
enum EventBridgeError {
    #[error("{0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the rules' database failed: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("Rule {0} does not exist on EventBus default.")]
    RuleNotFound(String),
    #[error("1 to {MAX_EVENTS} entries can be put at once")]
    InvalidEntryCount,
    #[error("{0} is not emulated")]
    UnknownOperation(String),
}

impl From<EventBridgeError> for ServiceResponse {
    fn from(error: EventBridgeError) -> Self {
        let kind = match &error {
            EventBridgeError::Unreadable(source) => return Self::unreadable_request(source),
            EventBridgeError::UnknownOperation(operation) => {
                return Self::unknown_operation(operation);
            }
            EventBridgeError::Database(_) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Self::from_error(status, "InternalException", &error.to_string());
            }
            EventBridgeError::RuleNotFound(_) => "ResourceNotFoundException",
            EventBridgeError::InvalidEntryCount => "ValidationException",
        };
        Self::from_error(StatusCode::BAD_REQUEST, kind, &error.to_string())
    }
}

impl EventBridgeEmulator {
    pub(crate) fn open_storage(storage: Storage) -> Result<Self, EmulatorOpenError> {
        let connection = Arc::new(Mutex::new(sqlite::open_database(&storage, FILE, SCHEMA)?));
        Ok(Self {
            connection,
            storage,
            taken_events: Mutex::default(),
        })
    }

    /// The entries that were taken, the last [`MAX_REMEMBERED`], in order.
    pub(crate) fn list_taken_events(&self) -> Vec<Value> {
        let taken = self
            .taken_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.iter().cloned().collect()
    }

    /// Takes the first half of the entries, and fails the others.
    pub(crate) async fn call_first_half(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        match operation {
            "PutEvents" => self.take_events(body, true),
            _ => self.call_operation(operation, body).await,
        }
    }

    fn take_events(&self, body: &[u8], only_first_half: bool) -> ServiceResponse {
        let put: PutEventsRequest = match serde_json::from_slice(body) {
            Ok(put) => put,
            Err(error) => return ServiceResponse::unreadable_request(&error),
        };
        let count = put.entries.len();
        if count == 0 || count > MAX_EVENTS {
            return EventBridgeError::InvalidEntryCount.into();
        }
        let served = if only_first_half {
            count.div_ceil(2)
        } else {
            count
        };
        let mut remembered = self
            .taken_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut results, mut failed) = (Vec::new(), 0);
        for (n, entry) in put.entries.into_iter().enumerate() {
            let fault = if n >= served {
                Some("ThrottlingException")
            } else {
                entry_error_code(&entry)
            };
            if let Some(code) = fault {
                failed += 1;
                results
                    .push(json!({ "ErrorCode": code, "ErrorMessage": "the event was not taken" }));
                continue;
            }
            results.push(json!({ "EventId": format!("event-{n}") }));
            if remembered.len() == MAX_REMEMBERED {
                remembered.pop_front();
            }
            remembered.push_back(entry);
        }
        ServiceResponse::from_result(&json!({ "FailedEntryCount": failed, "Entries": results }))
    }

    pub(crate) async fn call_operation(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        if operation == "PutEvents" {
            return self.take_events(body, false);
        }
        let connection = Arc::clone(&self.connection);
        let (operation, body) = (operation.to_owned(), body.to_vec());
        self.storage
            .run_blocking(move || {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                match serve_operation(&connection, &operation, &body) {
                    Ok(body) => ServiceResponse::from_result(&body),
                    Err(error) => error.into(),
                }
            })
            .await
    }
}

fn serve_operation(
    connection: &Connection,
    operation: &str,
    body: &[u8],
) -> Result<Value, EventBridgeError> {
    match operation {
        "PutRule" => put_rule(connection, &serde_json::from_slice(body)?),
        "EnableRule" => set_rule_state(connection, serde_json::from_slice(body)?, "ENABLED"),
        "DisableRule" => set_rule_state(connection, serde_json::from_slice(body)?, "DISABLED"),
        "DescribeRule" => describe_rule(connection, serde_json::from_slice(body)?),
        "ListRules" => list_rules(connection, &serde_json::from_slice(body)?),
        _ => Err(EventBridgeError::UnknownOperation(operation.to_owned())),
    }
}

fn put_rule(connection: &Connection, rule: &Rule) -> Result<Value, EventBridgeError> {
    connection.execute(
        "INSERT OR REPLACE INTO rules (name, state, schedule, description)
         VALUES (:name, :state, :schedule, :description)",
        named_params! {
            ":name": rule.name,
            ":state": rule.state,
            ":schedule": rule.schedule_expression,
            ":description": rule.description,
        },
    )?;
    Ok(json!({ "RuleArn": rule_arn(&rule.name) }))
}

fn set_rule_state(
    connection: &Connection,
    rule: RuleByNameRequest,
    state: &str,
) -> Result<Value, EventBridgeError> {
    let updated = connection.execute(
        "UPDATE rules SET state = :state WHERE name = :name",
        named_params! { ":name": rule.name, ":state": state },
    )?;
    if updated == 0 {
        return Err(EventBridgeError::RuleNotFound(rule.name));
    }
    Ok(json!({}))
}

fn describe_rule(
    connection: &Connection,
    request: RuleByNameRequest,
) -> Result<Value, EventBridgeError> {
    let rule = connection
        .query_row(
            "SELECT name, state, schedule, description FROM rules WHERE name = :name",
            named_params! { ":name": request.name },
            read_rule,
        )
        .optional()?;
    let rule = rule.ok_or(EventBridgeError::RuleNotFound(request.name))?;
    Ok(serde_json::to_value(rule)?)
}

fn list_rules(
    connection: &Connection,
    request: &ListRulesRequest,
) -> Result<Value, EventBridgeError> {
    let mut statement = connection
        .prepare_cached("SELECT name, state, schedule, description FROM rules ORDER BY name")?;
    let prefix = request.name_prefix.as_deref().unwrap_or_default();
    let mut rules: Vec<Rule> = statement
        .query_map([], read_rule)?
        .collect::<Result<_, _>>()?;
    rules.retain(|rule| rule.name.starts_with(prefix));
    Ok(json!({ "Rules": rules }))
}

fn read_rule(row: &Row<'_>) -> rusqlite::Result<Rule> {
    let name: String = row.get(0)?;
    Ok(Rule {
        arn: rule_arn(&name),
        name,
        state: row.get(1)?,
        schedule_expression: row.get(2)?,
        description: row.get(3)?,
    })
}

/// The code of what is wrong with an entry.
fn entry_error_code(entry: &Value) -> Option<&'static str> {
    let detail = entry["Detail"].as_str().unwrap_or("{}");
    if detail.len() > MAX_DETAIL_BYTES {
        return Some("EntrySizeExceeded");
    }
    match serde_json::from_str(detail) {
        Ok(Value::Object(_)) => None,
        _ => Some("MalformedDetail"),
    }
}
