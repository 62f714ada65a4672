//! The table, as the SDK sees it. What DynamoDB promises is tested by the store's own suite.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    operation::put_item::PutItemError,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
        KeysAndAttributes, PutRequest, ReturnConsumedCapacity, ScalarAttributeType,
        TimeToLiveSpecification, WriteRequest,
    },
};
use jiff::SignedDuration;
use okra_aws::{AwsConfig, Clock};
use okra_emulator::{AwsService, CallFate, Emulator};

const TABLE: &str = "table";

struct TableFixture {
    client: Client,
    emulator: Emulator,
    clock: Clock,
}

fn string_value(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

impl TableFixture {
    async fn new() -> Self {
        let clock = Clock::manual_at("2026-03-01T12:00:00Z".parse().unwrap());
        let emulator = Emulator::in_memory(clock.clone()).unwrap();
        let client = AwsConfig::with_http_client(emulator.http_client()).dynamodb_client();
        client
            .create_table()
            .table_name(TABLE)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name("pk")
                    .attribute_type(ScalarAttributeType::S)
                    .build()
                    .unwrap(),
            )
            .key_schema(
                KeySchemaElement::builder()
                    .attribute_name("pk")
                    .key_type(KeyType::Hash)
                    .build()
                    .unwrap(),
            )
            .send()
            .await
            .unwrap();
        Self {
            client,
            emulator,
            clock,
        }
    }

    async fn put_item(&self, pk: &str) -> Result<(), PutItemError> {
        let put = self
            .client
            .put_item()
            .table_name(TABLE)
            .item("pk", string_value(pk));
        let put = put.condition_expression("attribute_not_exists(pk)");
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into_service_error()),
        }
    }

    async fn item_exists(&self, pk: &str) -> bool {
        let got = self
            .client
            .get_item()
            .table_name(TABLE)
            .key("pk", string_value(pk));
        got.send().await.unwrap().item.is_some()
    }

    /// Decides what happens to the first put; the others pass.
    fn set_first_put_fate(&self, fate: CallFate) {
        let before = self.emulator.call_count(AwsService::DynamoDb, "PutItem");
        let emulator = self.emulator.clone();
        self.emulator.inject_fates(move |service, operation| {
            let first = emulator.call_count(service, "PutItem") == before + 1;
            if operation == "PutItem" && first {
                fate
            } else {
                CallFate::Serve
            }
        });
    }
}

#[tokio::test]
async fn an_item_is_put_once_and_metered() {
    let world = TableFixture::new().await;
    world.put_item("a").await.unwrap();
    let error = world.put_item("a").await.unwrap_err();
    assert!(error.is_conditional_check_failed_exception(), "{error:?}");
    let got = world
        .client
        .get_item()
        .table_name(TABLE)
        .key("pk", string_value("a"))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .unwrap();
    assert_eq!(got.item.unwrap()["pk"], string_value("a"));
    let units = got.consumed_capacity.unwrap().capacity_units;
    assert_eq!(units, Some(0.5));
}

#[tokio::test]
async fn a_row_whose_time_is_over_is_swept() {
    let world = TableFixture::new().await;
    let ttl = TimeToLiveSpecification::builder()
        .attribute_name("ttl")
        .enabled(true)
        .build()
        .unwrap();
    let update = world.client.update_time_to_live().table_name(TABLE);
    update.time_to_live_specification(ttl).send().await.unwrap();
    let over = world.clock.now() + SignedDuration::from_secs(60);
    let put = world
        .client
        .put_item()
        .table_name(TABLE)
        .item("pk", string_value("a"));
    let put = put.item("ttl", AttributeValue::N(over.as_second().to_string()));
    put.send().await.unwrap();
    assert_eq!(world.emulator.sweep_expired_items().await.unwrap(), 0);
    assert!(world.item_exists("a").await);
    world.clock.set_time(over + SignedDuration::from_secs(1));
    assert_eq!(world.emulator.sweep_expired_items().await.unwrap(), 1);
    assert!(!world.item_exists("a").await);
}

#[tokio::test]
async fn a_call_has_the_fate_it_is_given() {
    // What the SDK does about each: it tries again, and finds the row its lost call wrote.
    let cases = [
        (CallFate::Serve, Ok(()), 1),
        (CallFate::ServeFirstHalf, Ok(()), 1),
        (CallFate::Throttle, Ok(()), 2),
        (CallFate::Fail, Ok(()), 2),
        (CallFate::Unreachable, Ok(()), 2),
        (
            CallFate::LoseResponse,
            Err("ConditionalCheckFailedException"),
            2,
        ),
    ];
    for (fate, expected, calls) in cases {
        let world = TableFixture::new().await;
        world.set_first_put_fate(fate);
        let put = world.put_item("a").await;
        let put = put.map_err(|error| error.code().unwrap_or_default().to_owned());
        assert_eq!(
            put.as_ref().map_err(|code| &**code).copied(),
            expected,
            "{fate:?}"
        );
        assert!(world.item_exists("a").await, "{fate:?}");
        let counted = world.emulator.call_count(AwsService::DynamoDb, "PutItem");
        assert_eq!(counted, calls, "{fate:?}");
    }
}

#[tokio::test]
async fn half_a_batch_is_handed_back() {
    let world = TableFixture::new().await;
    world.emulator.inject_fates(|_, _| CallFate::ServeFirstHalf);
    let keys = ["a", "b", "c"];
    let write = |pk: &&str| {
        let put = PutRequest::builder()
            .item("pk", string_value(pk))
            .build()
            .unwrap();
        WriteRequest::builder().put_request(put).build()
    };
    let batch = world.client.batch_write_item();
    let batch = batch.request_items(TABLE, keys.iter().map(write).collect());
    let left = batch.send().await.unwrap().unprocessed_items.unwrap();
    assert_eq!(left[TABLE], [write(&"c")]);

    let key = |pk: &&str| [("pk".to_owned(), string_value(pk))].into();
    let ask = KeysAndAttributes::builder()
        .set_keys(Some(keys.iter().map(key).collect()))
        .consistent_read(true)
        .build()
        .unwrap();
    let batch = world.client.batch_get_item().request_items(TABLE, ask);
    let answer = batch.send().await.unwrap();
    assert_eq!(answer.responses.unwrap()[TABLE].len(), 2);
    let left = &answer.unprocessed_keys.unwrap()[TABLE];
    assert_eq!(left.keys(), [key(&"c")]);
    assert_eq!(left.consistent_read(), Some(true));
}

#[tokio::test]
async fn a_request_that_dynamodb_would_refuse_is_refused() {
    let world = TableFixture::new().await;
    let put = world
        .client
        .put_item()
        .table_name("no")
        .item("pk", string_value("a"));
    let error = put.send().await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let put = world.client.put_item().table_name(TABLE);
    let put = put
        .item("pk", string_value("a"))
        .item("n", AttributeValue::N("x".to_owned()));
    let error = put.send().await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let message = error.message().unwrap_or_default();
    assert!(
        message.contains("cannot be converted to a numeric value"),
        "{message}"
    );
}

#[tokio::test]
async fn an_operation_that_is_not_emulated_is_refused() {
    let world = TableFixture::new().await;
    let error = world.client.describe_limits().send().await.unwrap_err();
    assert_eq!(error.code(), Some("UnknownOperationException"));
    assert_eq!(error.message(), Some("DescribeLimits is not emulated"));
}
