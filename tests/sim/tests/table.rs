//! The simulation's table is the emulator's: the same calls get the same answers.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::HttpRequest,
};
use okra_aws::{AwsConfig, Clock};
use okra_emulator::Emulator;
use okra_sim::{SimRandom, TableService};
use okra_store::Store;
use serde_json::{Value, json};

const TABLE_NAME: &str = "okra";

/// Sends a call as the SDKs do.
async fn send_call(connector: &SharedHttpConnector, operation: &str, body: &Value) -> (u16, Value) {
    let request = http::Request::builder()
        .method("POST")
        .uri("https://dynamodb.local/")
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .body(aws_smithy_types::body::SdkBody::from(body.to_string()))
        .unwrap();
    let response = connector
        .call(HttpRequest::try_from(request).unwrap())
        .await
        .unwrap();
    let status = response.status().as_u16();
    let body = response.body().bytes().unwrap();
    (status, serde_json::from_slice(body).unwrap_or(Value::Null))
}

/// An emulator with a table, as the SDKs reach it: only they can make a connector.
async fn emulator_connector() -> SharedHttpConnector {
    let clock = Clock::manual_at("2026-03-15T12:00:30Z".parse().unwrap());
    let inner = Emulator::in_memory(clock).unwrap().http_client();
    let made: Arc<Mutex<Option<SharedHttpConnector>>> = Arc::default();
    let kept = Arc::clone(&made);
    let client = SharedHttpClient::new(http_client_fn(move |settings, components| {
        let connector = inner.http_connector(settings, components);
        *kept.lock().unwrap() = Some(connector.clone());
        connector
    }));
    let store = Store::new(
        AwsConfig::with_http_client(client).dynamodb_client(),
        TABLE_NAME,
    );
    store.create_table().await.unwrap();
    let connector = made.lock().unwrap().take();
    connector.unwrap()
}

/// What both have to agree on.
fn comparable_outcome(operation: &str, (status, answer): (u16, Value)) -> Value {
    if let Some(kind) = answer["__type"].as_str() {
        let kind = kind.rsplit('#').next().unwrap();
        let reasons = answer["CancellationReasons"]
            .as_array()
            .into_iter()
            .flatten();
        let codes: Vec<Value> = reasons.map(|reason| reason["Code"].clone()).collect();
        return json!({ "status": status, "kind": kind, "codes": codes });
    }
    match operation {
        "GetItem" => json!({ "item": answer["Item"] }),
        "Query" => json!({ "items": answer["Items"], "count": answer["Count"] }),
        "BatchGetItem" => {
            let items = answer["Responses"][TABLE_NAME]
                .as_array()
                .into_iter()
                .flatten();
            let sorted = |item: &Value| {
                serde_json::from_value::<BTreeMap<String, Value>>(item.clone()).unwrap()
            };
            let mut items: Vec<String> = items
                .map(|item| serde_json::to_string(&sorted(item)).unwrap())
                .collect();
            items.sort();
            json!({ "items": items })
        }
        _ => json!({ "status": status }),
    }
}

struct RandomCalls(SimRandom);

impl RandomCalls {
    fn pick_text(&mut self, of: &[&'static str]) -> &'static str {
        self.0.pick_one(of).copied().unwrap()
    }

    fn random_key(&mut self) -> Value {
        let (pk, sk) = (
            self.pick_text(&["a", "b"]),
            self.pick_text(&["F#1", "F#2", "F#3", "G", "~"]),
        );
        json!({ "pk": { "S": pk }, "sk": { "S": sk } })
    }

    fn random_number(&mut self) -> Value {
        json!({ "N": self.0.number_between(-3, 12).to_string() })
    }

    /// A condition as the store writes them, with its names and values.
    fn add_condition(&mut self, call: &mut Value) {
        if self.0.roll_permille(300) {
            return;
        }
        let text = self.pick_text(&[
            "attribute_exists(#pk)",
            "attribute_not_exists(#pk)",
            "attribute_not_exists(#n)",
            "#n = :c",
            "#n <= :c",
            "(attribute_not_exists(#n) OR #n < :c)",
            "attribute_exists(#pk) AND (attribute_not_exists(#n) OR #n < :c) AND attribute_not_exists(#m)",
        ]);
        call["ConditionExpression"] = json!(text);
        add_attribute_names(call, text);
        if text.contains(":c") {
            call["ExpressionAttributeValues"][":c"] = self.random_number();
        }
    }

    fn random_write(&mut self) -> (&'static str, Value) {
        match self.0.number_below(3) {
            0 => {
                let mut item = self.random_key();
                item["n"] = self.random_number();
                if self.0.roll_permille(400) {
                    item["t"] = json!({ "S": self.pick_text(&["x", "xy", "z"]) });
                }
                let mut call = json!({ "TableName": TABLE_NAME, "Item": item });
                self.add_condition(&mut call);
                ("Put", call)
            }
            1 => {
                let mut call = json!({ "TableName": TABLE_NAME, "Key": self.random_key() });
                let update = self.pick_text(&[
                    "SET #n = :0",
                    "SET #m = :0, #n = if_not_exists(#n, :0)",
                    "ADD #n :0",
                    "SET #t = :0 REMOVE #m ADD #n :0",
                ]);
                call["UpdateExpression"] = json!(update);
                add_attribute_names(&mut call, update);
                call["ExpressionAttributeValues"][":0"] = self.random_number();
                self.add_condition(&mut call);
                ("Update", call)
            }
            _ => {
                let mut call = json!({ "TableName": TABLE_NAME, "Key": self.random_key() });
                self.add_condition(&mut call);
                ("Delete", call)
            }
        }
    }

    fn random_query(&mut self) -> Value {
        let (from, to) = (
            self.pick_text(&[" ", "F#", "F#2", "G"]),
            self.pick_text(&["F#~", "G", "~"]),
        );
        // DynamoDB refuses a range whose end is before its start; the store never asks for one.
        let (from, to) = if from <= to { (from, to) } else { (to, from) };
        let pk = self.pick_text(&["a", "b"]);
        let mut call = json!({
            "TableName": TABLE_NAME,
            "KeyConditionExpression": "#k = :k AND #s BETWEEN :f AND :t",
            "ExpressionAttributeNames": { "#k": "pk", "#s": "sk" },
            "ExpressionAttributeValues": { ":k": { "S": pk }, ":f": { "S": from }, ":t": { "S": to } },
            "ConsistentRead": true,
        });
        if self.0.roll_permille(500) {
            call["Limit"] = json!(1 + self.0.number_below(3));
        }
        call
    }

    fn next_call(&mut self) -> (String, Value) {
        match self.0.number_below(10) {
            0 => {
                let call = json!({ "TableName": TABLE_NAME, "Key": self.random_key(), "ConsistentRead": true });
                ("GetItem".to_owned(), call)
            }
            1 | 2 => ("Query".to_owned(), self.random_query()),
            3 => {
                let keys = [("a", "F#1"), ("b", "G"), ("a", "~")];
                let keys = keys.map(|(pk, sk)| json!({ "pk": { "S": pk }, "sk": { "S": sk } }));
                let asked = json!({ "Keys": keys, "ConsistentRead": true });
                (
                    "BatchGetItem".to_owned(),
                    json!({ "RequestItems": { TABLE_NAME: asked } }),
                )
            }
            4 | 5 => {
                let count = 1 + self.0.number_below(3);
                let actions: Vec<Value> = (0..count)
                    .map(|_| {
                        let (kind, call) = self.random_write();
                        json!({ kind: call })
                    })
                    .collect();
                (
                    "TransactWriteItems".to_owned(),
                    json!({ "TransactItems": actions }),
                )
            }
            _ => {
                let (kind, call) = self.random_write();
                (format!("{kind}Item"), call)
            }
        }
    }
}

fn add_attribute_names(call: &mut Value, text: &str) {
    for name in ["pk", "n", "m", "t"] {
        if text.contains(&format!("#{name}")) {
            call["ExpressionAttributeNames"][format!("#{name}")] = json!(name);
        }
    }
}

#[tokio::test]
async fn every_call_is_answered_as_the_emulator_answers_it() {
    let (mut served, mut refused) = (0, 0);
    for seed in 0..40 {
        let theirs = emulator_connector().await;
        let ours = TableService::new().connector();
        let mut calls = RandomCalls(SimRandom::new(seed));
        for step in 0..120 {
            let (operation, body) = calls.next_call();
            let expected =
                comparable_outcome(&operation, send_call(&theirs, &operation, &body).await);
            let found = comparable_outcome(&operation, send_call(&ours, &operation, &body).await);
            assert_eq!(
                found, expected,
                "seed {seed}, step {step}: {operation} {body}"
            );
            if expected["kind"].is_null() {
                served += 1;
            } else {
                refused += 1;
            }
        }
    }
    // Both ways are taken often, so that agreement means something.
    assert!(
        served > 1000 && refused > 300,
        "{served} served, {refused} refused"
    );
}
