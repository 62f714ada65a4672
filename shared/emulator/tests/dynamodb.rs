//! The table, as the SDK sees it. The guarantees of DynamoDB are tested by the store's own tests.

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

    /// Sets the fate of the first put; the others are served.
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
    let fixture = TableFixture::new().await;
    fixture.put_item("a").await.unwrap();
    let error = fixture.put_item("a").await.unwrap_err();
    assert!(error.is_conditional_check_failed_exception(), "{error:?}");
    let got = fixture
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
async fn an_expired_row_is_deleted() {
    let fixture = TableFixture::new().await;
    let ttl = TimeToLiveSpecification::builder()
        .attribute_name("ttl")
        .enabled(true)
        .build()
        .unwrap();
    let update = fixture.client.update_time_to_live().table_name(TABLE);
    update.time_to_live_specification(ttl).send().await.unwrap();
    let over = fixture.clock.now() + SignedDuration::from_secs(60);
    let put = fixture
        .client
        .put_item()
        .table_name(TABLE)
        .item("pk", string_value("a"));
    let put = put.item("ttl", AttributeValue::N(over.as_second().to_string()));
    put.send().await.unwrap();
    assert_eq!(fixture.emulator.sweep_expired_items().await.unwrap(), 0);
    assert!(fixture.item_exists("a").await);
    fixture.clock.set_time(over + SignedDuration::from_secs(1));
    assert_eq!(fixture.emulator.sweep_expired_items().await.unwrap(), 1);
    assert!(!fixture.item_exists("a").await);
}

#[tokio::test]
async fn each_fate_has_its_effect_on_a_call() {
    // The SDK retries, and finds the row that its call with the lost response wrote.
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
        let fixture = TableFixture::new().await;
        fixture.set_first_put_fate(fate);
        let put = fixture.put_item("a").await;
        let put = put.map_err(|error| error.code().unwrap_or_default().to_owned());
        assert_eq!(
            put.as_ref().map_err(|code| &**code).copied(),
            expected,
            "{fate:?}"
        );
        assert!(fixture.item_exists("a").await, "{fate:?}");
        let counted = fixture.emulator.call_count(AwsService::DynamoDb, "PutItem");
        assert_eq!(counted, calls, "{fate:?}");
    }
}

#[tokio::test]
async fn half_a_batch_is_returned_unprocessed() {
    let fixture = TableFixture::new().await;
    fixture
        .emulator
        .inject_fates(|_, _| CallFate::ServeFirstHalf);
    let keys = ["a", "b", "c"];
    let write = |pk: &&str| {
        let put = PutRequest::builder()
            .item("pk", string_value(pk))
            .build()
            .unwrap();
        WriteRequest::builder().put_request(put).build()
    };
    let batch = fixture.client.batch_write_item();
    let batch = batch.request_items(TABLE, keys.iter().map(write).collect());
    let unprocessed = batch.send().await.unwrap().unprocessed_items.unwrap();
    assert_eq!(unprocessed[TABLE], [write(&"c")]);

    let key = |pk: &&str| [("pk".to_owned(), string_value(pk))].into();
    let request = KeysAndAttributes::builder()
        .set_keys(Some(keys.iter().map(key).collect()))
        .consistent_read(true)
        .build()
        .unwrap();
    let batch = fixture
        .client
        .batch_get_item()
        .request_items(TABLE, request);
    let response = batch.send().await.unwrap();
    assert_eq!(response.responses.unwrap()[TABLE].len(), 2);
    let unprocessed = &response.unprocessed_keys.unwrap()[TABLE];
    assert_eq!(unprocessed.keys(), [key(&"c")]);
    assert_eq!(unprocessed.consistent_read(), Some(true));
}

#[tokio::test]
async fn a_request_that_dynamodb_would_reject_is_rejected() {
    let fixture = TableFixture::new().await;
    let put = fixture
        .client
        .put_item()
        .table_name("no")
        .item("pk", string_value("a"));
    let error = put.send().await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let put = fixture.client.put_item().table_name(TABLE);
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
async fn an_operation_that_is_not_emulated_is_rejected() {
    let fixture = TableFixture::new().await;
    let error = fixture.client.describe_limits().send().await.unwrap_err();
    assert_eq!(error.code(), Some("UnknownOperationException"));
    assert_eq!(error.message(), Some("DescribeLimits is not emulated"));
}
