//! EventBridge: rules that are kept, and events that are taken.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    folder::{OpenError, Place},
    sqlite,
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

/// Entries of one `PutEvents` (EventBridge).
const MAX_EVENTS: usize = 10;

/// Bytes of the `Detail` of one entry at most.
const MAX_DETAIL_BYTES: usize = 256 * 1024;

/// Entries that are remembered, the last ones.
const MAX_REMEMBERED: usize = 1000;

/// The rules, and the last events that were taken.
#[derive(Debug)]
pub(crate) struct Events {
    connection: Arc<Mutex<Connection>>,
    place: Place,
    taken: Mutex<VecDeque<Value>>,
}

/// A rule, as it is put and described.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    name: String,
    #[serde(default = "enabled")]
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_expression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_deserializing)]
    arn: String,
}

fn enabled() -> String {
    "ENABLED".to_owned()
}

fn arn(name: &str) -> String {
    format!("arn:aws:events:local:000000000000:rule/{name}")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByName {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByPrefix {
    name_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<Value>,
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("Rule {0} does not exist on EventBus default.")]
    NoRule(String),
    #[error("1 to {MAX_EVENTS} entries can be put at once")]
    Entries,
    #[error("{0} is not emulated")]
    Unknown(String),
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::Unreadable(error) => return Self::unreadable(error),
            Refusal::Unknown(operation) => return Self::unknown(operation),
            Refusal::Database(_) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Self::error(status, "InternalException", &refusal.to_string());
            }
            Refusal::NoRule(_) => "ResourceNotFoundException",
            Refusal::Entries => "ValidationException",
        };
        Self::error(StatusCode::BAD_REQUEST, kind, &refusal.to_string())
    }
}

impl Events {
    pub(crate) fn open(place: Place) -> Result<Self, OpenError> {
        let connection = Arc::new(Mutex::new(sqlite::open(&place, FILE, SCHEMA)?));
        let taken = Mutex::default();
        Ok(Self {
            connection,
            place,
            taken,
        })
    }

    /// The entries that were taken, the last [`MAX_REMEMBERED`], in order.
    pub(crate) fn taken(&self) -> Vec<Value> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().cloned().collect()
    }

    /// Takes the first half of the entries, and fails the others.
    pub(crate) async fn call_half(&self, operation: &str, body: &[u8]) -> Answer {
        match operation {
            "PutEvents" => self.take(body, true),
            _ => self.call(operation, body).await,
        }
    }

    fn take(&self, body: &[u8], half: bool) -> Answer {
        let put: PutEvents = match serde_json::from_slice(body) {
            Ok(put) => put,
            Err(error) => return Answer::unreadable(&error),
        };
        let count = put.entries.len();
        if count == 0 || count > MAX_EVENTS {
            return Refusal::Entries.into();
        }
        let served = if half { count.div_ceil(2) } else { count };
        let mut remembered = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut answers, mut failed) = (Vec::new(), 0);
        for (n, entry) in put.entries.into_iter().enumerate() {
            let fault = if n >= served {
                Some("ThrottlingException")
            } else {
                fault(&entry)
            };
            if let Some(code) = fault {
                failed += 1;
                answers.push(json!({ "ErrorCode": code, "ErrorMessage": "not taken" }));
                continue;
            }
            answers.push(json!({ "EventId": format!("event-{n}") }));
            if remembered.len() == MAX_REMEMBERED {
                remembered.pop_front();
            }
            remembered.push_back(entry);
        }
        Answer::ok(&json!({ "FailedEntryCount": failed, "Entries": answers }))
    }

    pub(crate) async fn call(&self, operation: &str, body: &[u8]) -> Answer {
        if operation == "PutEvents" {
            return self.take(body, false);
        }
        let connection = Arc::clone(&self.connection);
        let (operation, body) = (operation.to_owned(), body.to_vec());
        self.place
            .run(move || {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                match serve(&connection, &operation, &body) {
                    Ok(body) => Answer::ok(&body),
                    Err(refusal) => refusal.into(),
                }
            })
            .await
    }
}

fn serve(connection: &Connection, operation: &str, body: &[u8]) -> Result<Value, Refusal> {
    match operation {
        "PutRule" => put(connection, &serde_json::from_slice(body)?),
        "EnableRule" => switch(connection, serde_json::from_slice(body)?, "ENABLED"),
        "DisableRule" => switch(connection, serde_json::from_slice(body)?, "DISABLED"),
        "DescribeRule" => describe(connection, serde_json::from_slice(body)?),
        "ListRules" => list(connection, &serde_json::from_slice(body)?),
        _ => Err(Refusal::Unknown(operation.to_owned())),
    }
}

fn put(connection: &Connection, rule: &Rule) -> Result<Value, Refusal> {
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
    Ok(json!({ "RuleArn": arn(&rule.name) }))
}

fn switch(connection: &Connection, ByName { name }: ByName, state: &str) -> Result<Value, Refusal> {
    let switched = connection.execute(
        "UPDATE rules SET state = :state WHERE name = :name",
        named_params! { ":name": name, ":state": state },
    )?;
    if switched == 0 {
        return Err(Refusal::NoRule(name));
    }
    Ok(json!({}))
}

fn describe(connection: &Connection, ByName { name }: ByName) -> Result<Value, Refusal> {
    let rule = connection
        .query_row(
            "SELECT name, state, schedule, description FROM rules WHERE name = :name",
            named_params! { ":name": name },
            read,
        )
        .optional()?;
    Ok(serde_json::to_value(rule.ok_or(Refusal::NoRule(name))?)?)
}

fn list(connection: &Connection, ByPrefix { name_prefix }: &ByPrefix) -> Result<Value, Refusal> {
    let mut statement = connection
        .prepare_cached("SELECT name, state, schedule, description FROM rules ORDER BY name")?;
    let prefix = name_prefix.as_deref().unwrap_or_default();
    let mut rules: Vec<Rule> = statement.query_map([], read)?.collect::<Result<_, _>>()?;
    rules.retain(|rule| rule.name.starts_with(prefix));
    Ok(json!({ "Rules": rules }))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Rule> {
    let name: String = row.get(0)?;
    Ok(Rule {
        arn: arn(&name),
        name,
        state: row.get(1)?,
        schedule_expression: row.get(2)?,
        description: row.get(3)?,
    })
}

/// What is wrong with an entry.
fn fault(entry: &Value) -> Option<&'static str> {
    let detail = entry["Detail"].as_str().unwrap_or("{}");
    if detail.len() > MAX_DETAIL_BYTES {
        return Some("EntrySizeExceeded");
    }
    match serde_json::from_str(detail) {
        Ok(Value::Object(_)) => None,
        _ => Some("MalformedDetail"),
    }
}
