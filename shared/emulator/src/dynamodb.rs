//! DynamoDB, by `dynoxide`.

use std::{fmt, sync::Arc};

use dynoxide::{Database, DynoxideError, storage_backend};
use http::StatusCode;
use okra_aws::Clock;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    answer::ServiceResponse,
    folder::{EmulatorOpenError, Storage},
    sqlite,
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
        f.write_str("DynamoDb")
    }
}

struct TimeToLiveClock(Clock);

impl storage_backend::Clock for TimeToLiveClock {
    fn now_unix_secs(&self) -> u64 {
        u64::try_from(self.0.now().as_second()).unwrap_or(0)
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds fit a double")]
    fn now_unix_secs_f64(&self) -> f64 {
        self.0.now().as_millisecond() as f64 / 1e3
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

    pub(crate) async fn sweep_expired_items(&self) -> Result<usize, String> {
        let database = self.database.clone();
        let swept = self
            .storage
            .run_blocking(move || database.sweep_ttl())
            .await;
        swept.map_err(|error| error.to_string())
    }

    pub(crate) async fn call_operation(&self, operation: &str, body: &[u8]) -> ServiceResponse {
        let Some(method) = find_method(operation) else {
            return ServiceResponse::unknown_operation(operation);
        };
        let (database, body) = (self.database.clone(), body.to_vec());
        let done = self
            .storage
            .run_blocking(move || method(&database, &body))
            .await;
        done.map_or_else(
            |error| error_response(&error),
            |body| ServiceResponse::from_json(StatusCode::OK, body),
        )
    }

    /// Serves the first half of a batch, and hands the rest back as unprocessed.
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
        let answer = self
            .call_operation(operation, request.to_string().as_bytes())
            .await;
        answer.insert_member(unprocessed, rest)
    }
}

fn error_response(error: &DynoxideError) -> ServiceResponse {
    let status =
        StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ServiceResponse::from_json(status, error.to_json().into_bytes())
}

/// Takes the second half of every table's entries out of a batch; `nested` where they are under
/// `Keys`.
fn split_batch(request: &mut Value, nested: bool) -> Value {
    let mut rest = Map::new();
    let tables = request["RequestItems"]
        .as_object_mut()
        .into_iter()
        .flatten();
    for (table, entries) in tables {
        let mut left = entries.clone();
        let (served, later) = if nested {
            (entries.get_mut("Keys"), left.get_mut("Keys"))
        } else {
            (Some(entries), Some(&mut left))
        };
        let (Some(Value::Array(served)), Some(later)) = (served, later) else {
            continue;
        };
        let later_entries = served.split_off(served.len().div_ceil(2));
        if !later_entries.is_empty() {
            *later = json!(later_entries);
            rest.insert(table.clone(), left);
        }
    }
    Value::Object(rest)
}

type DatabaseMethod = fn(&Database, &[u8]) -> Result<Vec<u8>, DynoxideError>;

fn serve<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    method: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<Vec<u8>, DynoxideError> {
    let request =
        serde_json::from_slice(body).map_err(|error| classify_read_error(&error.to_string()))?;
    serde_json::to_vec(&method(request)?)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The database refuses much of what DynamoDB refuses while it reads a request. A prefix of the
/// message then says which kind of refusal it is.
fn classify_read_error(error: &str) -> DynoxideError {
    let message = error.rfind(" at line ").map_or(error, |end| &error[..end]);
    let marked = [
        "VALIDATION_REQUEST:",
        "VALIDATION_AS_READ:",
        "VALIDATION:",
        "SERIALIZATION_AS_READ:",
        "SERIALIZATION:",
    ];
    for marker in marked {
        if let Some(message) = message.strip_prefix(marker) {
            return if marker.starts_with('V') {
                DynoxideError::ValidationException(message.to_owned())
            } else {
                DynoxideError::SerializationException(message.to_owned())
            };
        }
    }
    let of_content = [
        "missing field",
        "unknown variant",
        "invalid type: null",
        "AttributeValue",
    ];
    if of_content.iter().any(|text| message.contains(text)) {
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
                $($operation => |database, body| serve(body, |request| database.$method(request)),)+
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
