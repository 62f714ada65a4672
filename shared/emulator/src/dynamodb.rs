//! DynamoDB, by `dynoxide`: [`DynamoDbEmulator`] passes each operation to the database's method for it.

use std::{fmt, sync::Arc};

use dynoxide::{Database, DynoxideError, storage_backend};
use http::StatusCode;
use okra_aws::Clock;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    response::ServiceResponse,
    sqlite,
    storage::{EmulatorOpenError, Storage},
};

/// File of the table.
const FILE: &str = "dynamodb.sqlite";

/// The database and where it lives.
pub(crate) struct DynamoDbEmulator {
    database: Database,
    storage: Storage,
}

impl fmt::Debug for DynamoDbEmulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynamoDbEmulator")
    }
}

/// The clock by which rows expire, where the database is in memory.
struct TimeToLiveClock(Clock);

impl storage_backend::Clock for TimeToLiveClock {
    fn now_unix_secs(&self) -> u64 {
        // A clock before 1970 is at its first second for the database.
        u64::try_from(self.0.now().as_second()).unwrap_or(0)
    }

    fn now_unix_secs_f64(&self) -> f64 {
        self.0.now().as_duration().as_secs_f64()
    }
}

impl DynamoDbEmulator {
    pub(crate) fn open_storage(storage: Storage, clock: Clock) -> Result<Self, EmulatorOpenError> {
        let path = sqlite::unlocked_path(&storage, FILE)?;
        let database = match storage {
            Storage::Memory => Database::memory_with_clock(Arc::new(TimeToLiveClock(clock))),
            Storage::Folder(..) => Database::new(&path),
        };
        let database =
            database.map_err(|error| EmulatorOpenError::damaged_database(path, error))?;
        Ok(Self { database, storage })
    }

    pub(crate) async fn sweep_expired_items(&self) -> Result<usize, DynoxideError> {
        let database = self.database.clone();
        self.storage
            .run_blocking(move || database.sweep_ttl())
            .await
    }

    pub(crate) async fn call_operation(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        let Some(method) = find_method(operation) else {
            return ServiceResponse::unknown_operation(operation);
        };
        let (database, body) = (self.database.clone(), body.to_vec());
        let result = self
            .storage
            .run_blocking(move || method(&database, &body))
            .await;
        result.map_or_else(
            |error| error_response(&error),
            |body| ServiceResponse::from_json(StatusCode::OK, body),
        )
    }

    /// Serves the first half of a batch, and returns the rest as unprocessed.
    pub(crate) async fn call_first_half(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        let (unprocessed, nested) = match operation {
            "BatchGetItem" => ("UnprocessedKeys", true),
            "BatchWriteItem" => ("UnprocessedItems", false),
            _ => return self.call_operation(operation, body).await,
        };
        let mut request: Value = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return ServiceResponse::unreadable_request(&error),
        };
        let rest = split_batch(&mut request, nested);
        let response = self
            .call_operation(operation, request.to_string().as_bytes())
            .await;
        response.insert_member(unprocessed, rest)
    }
}

fn error_response(error: &DynoxideError) -> ServiceResponse {
    let status =
        StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ServiceResponse::from_json(status, error.to_json().into_bytes())
}

/// Removes the second half of every table's entries from a batch, and returns it; `nested` where the entries are under
/// `Keys`.
fn split_batch(request: &mut Value, nested: bool) -> Value {
    let mut rest = Map::new();
    let tables = request["RequestItems"]
        .as_object_mut()
        .into_iter()
        .flatten();
    for (table, entries) in tables {
        let mut unserved = entries.clone();
        let (served, later) = if nested {
            (entries.get_mut("Keys"), unserved.get_mut("Keys"))
        } else {
            (Some(entries), Some(&mut unserved))
        };
        let (Some(Value::Array(served)), Some(later)) = (served, later) else {
            continue;
        };
        let later_entries = served.split_off(served.len().div_ceil(2));
        if !later_entries.is_empty() {
            *later = json!(later_entries);
            rest.insert(table.clone(), unserved);
        }
    }
    Value::Object(rest)
}

type DatabaseMethod = fn(&Database, &[u8]) -> Result<Vec<u8>, DynoxideError>;

fn serve_request<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    method: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<Vec<u8>, DynoxideError> {
    let request =
        serde_json::from_slice(body).map_err(|error| classify_read_error(&error.to_string()))?;
    serde_json::to_vec(&method(request)?)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The database rejects much of what DynamoDB rejects while it reads a request, and serde passes on its message only: a
/// prefix or the text of the message is all that tells the two kinds of rejection apart.
fn classify_read_error(error: &str) -> DynoxideError {
    let message = error.rfind(" at line ").map_or(error, |end| &error[..end]);
    let prefixes = [
        "VALIDATION_REQUEST:",
        "VALIDATION_AS_READ:",
        "VALIDATION:",
        "SERIALIZATION_AS_READ:",
        "SERIALIZATION:",
    ];
    for prefix in prefixes {
        if let Some(message) = message.strip_prefix(prefix) {
            return if prefix.starts_with('V') {
                DynoxideError::ValidationException(message.to_owned())
            } else {
                DynoxideError::SerializationException(message.to_owned())
            };
        }
    }
    let validation_texts = [
        "missing field",
        "unknown variant",
        "invalid type: null",
        "AttributeValue",
    ];
    if validation_texts.iter().any(|text| message.contains(text)) {
        DynoxideError::ValidationException(message.to_owned())
    } else {
        DynoxideError::SerializationException(message.to_owned())
    }
}

/// The database's method for an operation.
fn find_method(operation: &str) -> Option<DatabaseMethod> {
    macro_rules! methods {
        ($($operation:literal => $method:ident,)+) => {
            match operation {
                $($operation => |database, body| serve_request(body, |request| database.$method(request)),)+
                _ => return None,
            }
        };
    }
    Some(methods! {
        "BatchGetItem" => batch_get_item,
        "BatchWriteItem" => batch_write_item,
        "CreateTable" => create_table,
        "DeleteItem" => delete_item,
        "DeleteTable" => delete_table,
        "DescribeTable" => describe_table,
        "DescribeTimeToLive" => describe_time_to_live,
        "GetItem" => get_item,
        "ListTables" => list_tables,
        "PutItem" => put_item,
        "Query" => query,
        "Scan" => scan,
        "TransactGetItems" => transact_get_items,
        "TransactWriteItems" => transact_write_items,
        "UpdateItem" => update_item,
        "UpdateTable" => update_table,
        "UpdateTimeToLive" => update_time_to_live,
    })
}
