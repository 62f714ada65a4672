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
use okra_core::{model::ByProduct, schedule::Interval};
use okra_store::{CommitError, Store, StoreError};
use serde_json::{Value, json};

use crate::support::{account, balance_change, commit, entry, new_record, record};

/// Gives its answers one after the other, the last one for ever, and keeps what was asked.
#[derive(Clone, Debug)]
struct Script {
    answers: Vec<(u16, Value)>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Script {
    fn new(answers: &[(u16, Value)]) -> Self {
        Self {
            answers: answers.to_vec(),
            asked: Arc::default(),
        }
    }

    fn store(&self) -> Store {
        let connector = SharedHttpConnector::new(self.clone());
        let http = SharedHttpClient::new(http_client_fn(move |_, _| connector.clone()));
        Store::new(AwsConfig::with_http_client(http).dynamodb(), "scripted")
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut asked = self.asked.lock().unwrap();
        let (status, body) = &self.answers[asked.len().min(self.answers.len() - 1)];
        asked.push(serde_json::from_slice(request.body().bytes().unwrap()).unwrap());
        let answer = http::Response::builder()
            .status(*status)
            .body(SdkBody::from(body.to_string()))
            .unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::try_from(answer).unwrap()))
    }
}

/// A transaction cancelled for these reasons, one for each action.
fn cancelled(codes: &[&str]) -> (u16, Value) {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({ "Code": code })).collect();
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    (
        400,
        json!({ "__type": kind, "CancellationReasons": reasons }),
    )
}

async fn commit_one(script: &Script) -> Result<(), CommitError> {
    let head = new_record(1, Interval::Daily).head;
    let entries = [entry(record(1), 1, account(1), balance_change(1))];
    commit(&script.store(), &head, &entries, ByProduct::default())
        .await
        .map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_collides_is_tried_again() {
    let collision = cancelled(&["TransactionConflict", "None"]);
    let script = Script::new(&[collision.clone(), collision, (200, json!({}))]);
    commit_one(&script).await.unwrap();
    assert_eq!(script.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_keeps_colliding_gives_up() {
    let script = Script::new(&[cancelled(&["TransactionConflict", "None"])]);
    let result = commit_one(&script).await;
    assert!(matches!(
        result,
        Err(CommitError::Store(StoreError::Contended { .. }))
    ));
    assert_eq!(script.asked().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_condition_decides_whatever_collides() {
    let codes = [
        ["ConditionalCheckFailed", "None"],
        ["TransactionConflict", "ConditionalCheckFailed"],
    ];
    for codes in codes {
        let script = Script::new(&[cancelled(&codes)]);
        let result = commit_one(&script).await;
        assert!(matches!(result, Err(CommitError::Lost)), "{codes:?}");
        assert_eq!(script.asked().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_transaction_is_no_lost_race() {
    let script = Script::new(&[cancelled(&["ValidationError", "None"])]);
    let result = commit_one(&script).await;
    assert!(matches!(
        result,
        Err(CommitError::Store(StoreError::Service { .. }))
    ));
    assert_eq!(script.asked().len(), 1);
}

fn unprocessed(n: u32) -> (u16, Value) {
    let key = json!({ "pk": { "S": format!("REC#{}", record(n)) }, "sk": { "S": "CRED" } });
    let left = json!({ "scripted": { "Keys": [key], "ConsistentRead": false } });
    (200, json!({ "Responses": {}, "UnprocessedKeys": left }))
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_leaves_is_asked_for_again() {
    let script = Script::new(&[unprocessed(2), (200, json!({}))]);
    let found = script.store().consents(&[record(1), record(2)]).await;
    assert_eq!(found.unwrap(), []);
    let keys = |ask: &Value| {
        let keys = ask["RequestItems"]["scripted"]["Keys"].as_array();
        keys.map(Vec::len)
    };
    let asked: Vec<_> = script.asked().iter().map(keys).collect();
    assert_eq!(asked, [Some(2), Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_never_done_gives_up() {
    let script = Script::new(&[unprocessed(1)]);
    let found = script.store().consents(&[record(1)]).await;
    assert!(matches!(found, Err(StoreError::Contended { .. })));
    assert_eq!(script.asked().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_tried_four_times_and_named() {
    let failure = json!({ "__type": "InternalServerError", "message": "token 123" });
    let script = Script::new(&[(500, failure)]);
    let error = script.store().account(account(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "DynamoDB did not do GetItem");
    assert_eq!(script.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_does_not_read_is_named_without_its_content() {
    let item = json!({
        "pk": { "S": "APP#x" },
        "sk": { "S": "APP" },
        "j": { "S": "{\"secret\":1}" },
    });
    let script = Script::new(&[(200, json!({ "Item": item }))]);
    let error = script.store().app(crate::support::app()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "attribute j of an item app is missing or unreadable"
    );
    assert!(!format!("{error:?}").contains("secret"));
}
