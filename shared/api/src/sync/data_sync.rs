//! The calls on data sync: Okra's `auto-refresh`, and extensions. What they do is in [`okra_app::data_sync`].

use okra_app::data_sync::{
    DataSyncTarget, SubscribeRequest, SubscriptionDetails, SubscriptionTerms,
};
use okra_core::model::{
    ids::{BankId, CustomerId, RecordId, SubscriptionId},
    interval::Interval,
    snapshot::Product,
};
use okra_wire::{record::ScheduleResource, scalar::IsoInstant};
use serde::Serialize;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        input::{BANK, CUSTOMER, RECORD, WEBHOOK_URL},
        request::ApiRequest,
    },
    webhooks::endpoints::WebhookHealthSummary,
};

/// A subscription, and the intervals that it comes to beside the others of its record.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Subscription))]
#[derive(Serialize)]
struct SubscriptionSummary {
    id: SubscriptionId,
    record: RecordId,
    bank: BankId,
    customer: CustomerId,
    products: Vec<Product>,
    interval: Interval,
    effective_interval: ScheduleResource,
    webhook_url: Option<String>,
    /// How the URL does; only in the response of `data-sync/list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<WebhookHealthSummary>,
    created_at: IsoInstant,
}

impl From<SubscriptionDetails> for SubscriptionSummary {
    fn from(details: SubscriptionDetails) -> Self {
        let SubscriptionDetails {
            subscription, head, ..
        } = details;
        Self {
            id: subscription.id,
            record: head.record,
            bank: head.bank,
            customer: head.customer,
            products: subscription.products,
            interval: subscription.interval,
            effective_interval: details.effective_schedule.into(),
            webhook_url: subscription.webhook_url,
            health: details.health.map(Into::into),
            created_at: IsoInstant(subscription.created_at),
        }
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct SubscriptionsResponse {
    subscriptions: Vec<SubscriptionSummary>,
}

/// The records that a request is about: the customer's, at one bank or the one record where that is given.
fn parse_target(request: &ApiRequest) -> Result<DataSyncTarget, ApiError> {
    let input = &request.input;
    Ok(DataSyncTarget {
        bank: input.parse_id(BANK)?,
        record: input.parse_id(RECORD)?,
        customer: input.require_id(CUSTOMER)?,
    })
}

/// Okra's data-sync call: `{customer, products, bank?, interval?, webhook_url?}`.
pub(crate) async fn subscribe_to_data_sync(request: &ApiRequest) -> ApiResponse {
    let input = &request.input;
    let products = input.parse_products()?;
    let products = products.ok_or_else(|| ApiError::invalid_field("products", "is required"))?;
    let terms = SubscriptionTerms {
        products,
        interval: input.parse_interval()?.unwrap_or_default(),
        webhook_url: input.find_text(WEBHOOK_URL),
    };
    let target = parse_target(request)?;
    let wanted = SubscribeRequest { target, terms };
    let subscriptions = request.scope()?.subscribe_to_data_sync(&wanted).await?;
    respond_with_subscriptions("Data sync set successfully", subscriptions)
}

pub(crate) async fn list_subscriptions(request: &ApiRequest) -> ApiResponse {
    let target = parse_target(request)?;
    let subscriptions = request.scope()?.list_subscriptions(&target).await?;
    respond_with_subscriptions("Data sync retrieved successfully", subscriptions)
}

pub(crate) async fn cancel_subscription(request: &ApiRequest) -> ApiResponse {
    let id: SubscriptionId = request.input.require_id(&["id", "subscription"])?;
    let target = parse_target(request)?;
    let scope = request.scope()?;
    let subscription = scope.cancel_subscription(&target, id).await?;
    respond_with_subscriptions("Data sync ended", vec![subscription])
}

fn respond_with_subscriptions(
    message: &str,
    subscriptions: Vec<SubscriptionDetails>,
) -> ApiResponse {
    let subscriptions = subscriptions.into_iter().map(Into::into).collect();
    success_response(message, SubscriptionsResponse { subscriptions })
}

routes! {
    Change Key [
        Okra "auto-refresh",
        Ours "data-sync",
    ] => subscribe_to_data_sync(CUSTOMER, SYNC, make_required(PRODUCTS), make_optional(BANK), make_optional(RECORD)) -> SubscriptionsResponse:
        "Subscribes to data sync of a customer's records and returns the subscriptions with their effective intervals.";
    Post Key [Ours "data-sync/list"] => list_subscriptions(CUSTOMER, make_optional(BANK), make_optional(RECORD)) -> SubscriptionsResponse:
        "Lists the data sync subscriptions of a customer's records, each with the health of its webhook URL.";
    Change Key [Ours "data-sync/cancel"] => cancel_subscription(CUSTOMER, ID) -> SubscriptionsResponse:
        "Ends a data sync subscription and returns it.";
}
