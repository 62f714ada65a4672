//! JSON schemas of the types that serialise as a text. The OpenAPI document is made from them.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

use crate::model::{
    ids::{
        AccountId, AppId, BalanceId, BankId, CustomerId, EndpointId, EventId, LinkId, ReceiptId,
        RecordId, ReplayId, SubscriptionId, TransactionId,
    },
    money::Currency,
};

fn text_schema(pattern: &str, description: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .description(Some(description))
        .into()
}

macro_rules! texts {
    ($($kind:ty, $name:literal, $pattern:literal, $description:literal;)+) => {$(
        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                text_schema($pattern, $description)
            }
        }

        impl ToSchema for $kind {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    )+};
}

texts! {
    AccountId, "AccountId", "^[0-9a-f]{24}$", "An account of a record.";
    AppId, "AppId", "^[0-9a-f]{24}$", "One integrating business.";
    BalanceId, "BalanceId", "^[0-9a-f]{24}$", "The balance of an account.";
    BankId, "BankId", "^[0-9a-f]{24}$", "An institution.";
    CustomerId, "CustomerId", "^[0-9a-f]{24}$", "A person of an app, across banks.";
    EndpointId, "EndpointId", "^[0-9a-f]{24}$", "A webhook URL of an app.";
    EventId, "EventId", "^evt_[0-9a-f]{24}_[0-9]+$", "An event: its record and sequence number.";
    RecordId, "RecordId", "^[0-9a-f]{24}$", "One login of a customer at one bank.";
    LinkId, "LinkId", "^[0-9a-f]{24}$", "A short link that opens the widget.";
    ReceiptId, "ReceiptId", "^[0-9a-f]{24}$", "A removal, and its receipt.";
    ReplayId, "ReplayId", "^[0-9a-f]{24}$", "A replay of events to an endpoint.";
    SubscriptionId, "SubscriptionId", "^[0-9a-f]{24}$", "A request for data sync.";
    TransactionId, "TransactionId", "^[0-9a-f]{24}$", "A transaction; it stays when the bank changes its own id.";
    Currency, "Currency", "^[A-Z]{3}$", "ISO 4217.";
}
