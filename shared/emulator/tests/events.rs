//! The rules, as the SDK sees them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use aws_sdk_eventbridge::{
    Client,
    types::{PutEventsRequestEntry, RuleState},
};
use okra_aws::{AwsConfig, Clock, TickRules, TickRulesError};
use okra_core::model::interval::Interval;
use okra_emulator::Emulator;

fn events_client() -> Client {
    let emulator = Emulator::in_memory(Clock::system()).unwrap();
    AwsConfig::with_http_client(emulator.http_client()).eventbridge_client()
}

async fn put_disabled_rule(client: &Client, name: &str) {
    let rule = client.put_rule().name(name).state(RuleState::Disabled);
    let put = rule.schedule_expression("rate(1 minute)").send().await;
    let arn = put.unwrap().rule_arn.unwrap();
    assert!(arn.ends_with(&format!("rule/{name}")), "{arn}");
}

async fn rule_state(client: &Client, name: &str) -> RuleState {
    let rule = client.describe_rule().name(name).send().await.unwrap();
    assert_eq!(rule.schedule_expression(), Some("rate(1 minute)"));
    rule.state.unwrap()
}

#[tokio::test]
async fn a_rule_is_switched_on_and_off() {
    let client = events_client();
    put_disabled_rule(&client, "okra-daily").await;
    put_disabled_rule(&client, "okra-one-hour").await;
    let rules = TickRules::new(client.clone(), "okra");
    rules.enable_rule(Interval::Daily).await.unwrap();
    assert_eq!(rule_state(&client, "okra-daily").await, RuleState::Enabled);
    assert_eq!(
        rule_state(&client, "okra-one-hour").await,
        RuleState::Disabled
    );
    rules.disable_rule(Interval::Daily).await.unwrap();
    assert_eq!(rule_state(&client, "okra-daily").await, RuleState::Disabled);
}

#[tokio::test]
async fn rules_are_listed_by_prefix() {
    let client = events_client();
    for name in ["b-2", "a", "b-1"] {
        put_disabled_rule(&client, name).await;
    }
    let listed = client.list_rules().name_prefix("b-").send().await.unwrap();
    let names: Vec<_> = listed.rules().iter().filter_map(|r| r.name()).collect();
    assert_eq!(names, ["b-1", "b-2"]);
}

#[tokio::test]
async fn an_unknown_rule_is_not_found() {
    let client = events_client();
    let error = client.describe_rule().name("no").send().await.unwrap_err();
    assert!(error.into_service_error().is_resource_not_found_exception());
    let rules = TickRules::new(client, "okra");
    let error = rules.enable_rule(Interval::Daily).await.unwrap_err();
    assert!(matches!(error, TickRulesError::NotFound { .. }));
}

#[tokio::test]
async fn events_are_taken() {
    let entry = PutEventsRequestEntry::builder().source("okra").build();
    let put = events_client()
        .put_events()
        .entries(entry.clone())
        .entries(entry);
    let put = put.send().await.unwrap();
    assert_eq!((put.failed_entry_count, put.entries().len()), (0, 2));
}
