//! A DynamoDB that is busy: what is tried again, and for how long.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use okra_aws::AwsConfig;
use okra_core::model::{interval::Interval, snapshot::ByProduct};
use okra_store::{CommitError, Store, StoreError};
use serde_json::{Value, json};

use crate::support::{
    account_id, balance_change, commit_entries, feed_entry, new_record, record_id,
};

/// Gives its answers one after the other, the last one for ever, and keeps what was asked.
#[derive(Clone, Debug)]
struct ScriptedService {
    responses: Vec<(u16, Value)>,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl ScriptedService {
    fn new(responses: &[(u16, Value)]) -> Self {
        Self {
            responses: responses.to_vec(),
            requests: Arc::default(),
        }
    }

    fn scripted_store(&self) -> Store {
        let connector = SharedHttpConnector::new(self.clone());
        let http = SharedHttpClient::new(http_client_fn(move |_, _| connector.clone()));
        Store::new(
            AwsConfig::with_http_client(http).dynamodb_client(),
            "scripted",
        )
    }

    fn requests_made(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

impl HttpConnector for ScriptedService {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut asked = self.requests.lock().unwrap();
        let (status, body) = &self.responses[asked.len().min(self.responses.len() - 1)];
        asked.push(serde_json::from_slice(request.body().bytes().unwrap()).unwrap());
        let answer = http::Response::builder()
            .status(*status)
            .body(SdkBody::from(body.to_string()))
            .unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::try_from(answer).unwrap()))
    }
}

/// A transaction cancelled for these reasons, one for each action.
fn cancelled_response(codes: &[&str]) -> (u16, Value) {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({ "Code": code })).collect();
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    (
        400,
        json!({ "__type": kind, "CancellationReasons": reasons }),
    )
}

async fn commit_one_entry(script: &ScriptedService) -> Result<(), CommitError> {
    let head = new_record(1, Interval::Daily).head;
    let entries = [feed_entry(
        record_id(1),
        1,
        account_id(1),
        balance_change(1),
    )];
    commit_entries(
        &script.scripted_store(),
        &head,
        &entries,
        ByProduct::default(),
    )
    .await
    .map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_collides_is_tried_again() {
    let collision = cancelled_response(&["TransactionConflict", "None"]);
    let script = ScriptedService::new(&[collision.clone(), collision, (200, json!({}))]);
    commit_one_entry(&script).await.unwrap();
    assert_eq!(script.requests_made().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_keeps_colliding_gives_up() {
    let script = ScriptedService::new(&[cancelled_response(&["TransactionConflict", "None"])]);
    let result = commit_one_entry(&script).await;
    assert!(matches!(
        result,
        Err(CommitError::Store(StoreError::Contended { .. }))
    ));
    assert_eq!(script.requests_made().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_condition_decides_whatever_collides() {
    let codes = [
        ["ConditionalCheckFailed", "None"],
        ["TransactionConflict", "ConditionalCheckFailed"],
    ];
    for codes in codes {
        let script = ScriptedService::new(&[cancelled_response(&codes)]);
        let result = commit_one_entry(&script).await;
        assert!(matches!(result, Err(CommitError::Conflict)), "{codes:?}");
        assert_eq!(script.requests_made().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_transaction_is_no_lost_race() {
    let script = ScriptedService::new(&[cancelled_response(&["ValidationError", "None"])]);
    let result = commit_one_entry(&script).await;
    assert!(matches!(
        result,
        Err(CommitError::Store(StoreError::Service { .. }))
    ));
    assert_eq!(script.requests_made().len(), 1);
}

fn unprocessed_response(n: u32) -> (u16, Value) {
    let key = json!({ "pk": { "S": format!("REC#{}", record_id(n)) }, "sk": { "S": "CRED" } });
    let left = json!({ "scripted": { "Keys": [key], "ConsistentRead": false } });
    (200, json!({ "Responses": {}, "UnprocessedKeys": left }))
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_leaves_is_asked_for_again() {
    let script = ScriptedService::new(&[unprocessed_response(2), (200, json!({}))]);
    let found = script
        .scripted_store()
        .load_consents(&[record_id(1), record_id(2)])
        .await;
    assert_eq!(found.unwrap(), []);
    let keys = |ask: &Value| {
        let keys = ask["RequestItems"]["scripted"]["Keys"].as_array();
        keys.map(Vec::len)
    };
    let asked: Vec<_> = script.requests_made().iter().map(keys).collect();
    assert_eq!(asked, [Some(2), Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_never_done_gives_up() {
    let script = ScriptedService::new(&[unprocessed_response(1)]);
    let found = script.scripted_store().load_consents(&[record_id(1)]).await;
    assert!(matches!(found, Err(StoreError::Contended { .. })));
    assert_eq!(script.requests_made().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_tried_four_times_and_named() {
    let failure = json!({ "__type": "InternalServerError", "message": "token 123" });
    let script = ScriptedService::new(&[(500, failure)]);
    let error = script
        .scripted_store()
        .find_account(account_id(1))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "DynamoDB GetItem on table scripted failed: DynamoDB had an internal error"
    );
    assert_eq!(script.requests_made().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_does_not_read_is_named_without_its_content() {
    let item = json!({
        "pk": { "S": "APP#x" },
        "sk": { "S": "APP" },
        "j": { "S": "{\"secret\":1}" },
    });
    let script = ScriptedService::new(&[(200, json!({ "Item": item }))]);
    let error = script
        .scripted_store()
        .find_app(crate::support::app_id())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "attribute j of a stored app is missing or unreadable"
    );
    assert!(!format!("{error:?}").contains("secret"));
}
