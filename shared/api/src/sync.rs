//! Data sync: subscriptions, and which interval each product of a record is on.

use jiff::Timestamp;
use okra_core::model::{
    bank::BankLimits,
    ids::{BankId, CustomerId, EndpointId, RecordId, SubscriptionId},
    interval::Interval,
    snapshot::{ByProduct, Product},
};
use okra_store::{
    Consistency, MAX_SUBSCRIPTIONS_PER_RECORD, RecordHead, RecordStatus, StoreError, Subscription,
};
use okra_webhooks::{check_webhook_url, endpoint_id};
use okra_wire::record::ScheduleResource;
use serde::Serialize;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    input::{BANK, Input, RECORD, WEBHOOK_URL},
    webhooks::{WebhookHealthSummary, rejected_url_error},
};

/// Times a record is rescheduled against others that do so at the same time.
const MAX_RESCHEDULE_ATTEMPTS: u32 = 3;

/// The interval asked for.
pub(crate) fn parse_interval(input: &Input) -> Result<Option<Interval>, ApiError> {
    input
        .find_text(&["interval"])
        .map(|text| {
            text.parse().map_err(|error| {
                ApiError::invalid_field("interval", format!("is not known: {error}"))
            })
        })
        .transpose()
}

/// The webhook URL asked for, where it may be called.
pub(crate) fn parse_webhook_url(
    request: &ApiRequest,
    input: &Input,
) -> Result<Option<String>, ApiError> {
    let url = input.find_text(WEBHOOK_URL);
    if let Some(url) = &url {
        check_webhook_url(url, request.state.address_policy, &request.state.public_url)
            .map_err(|rule| rejected_url_error("webhook_url", rule))?;
    }
    Ok(url)
}

/// Data sync of these products. Asked for again with the same products and URL it is the same one.
pub(crate) fn build_subscription(
    record: RecordId,
    products: &[Product],
    interval: Interval,
    webhook_url: Option<&str>,
    now: Timestamp,
) -> Subscription {
    let names: Vec<&str> = products.iter().map(|product| product.as_str()).collect();
    let (names, url) = (names.join(","), webhook_url.unwrap_or_default());
    Subscription {
        id: SubscriptionId::derive(&[record.as_bytes(), url.as_bytes(), names.as_bytes()]),
        record,
        products: products.to_vec(),
        interval,
        webhook_url: webhook_url.map(str::to_owned),
        created_at: now,
    }
}

/// The fastest interval that any subscription asks for each product of `kept`; daily where none does. A
/// product sits on one interval only: on two it would have two marks, and each would dispatch again what
/// the other had dispatched. What the record was linked without is on none, whoever asks.
pub(crate) fn find_fastest_intervals(
    products: &[Product],
    subscriptions: &[Subscription],
) -> ByProduct<Interval> {
    let mut schedule = ByProduct::default();
    for &product in products {
        let asked = subscriptions
            .iter()
            .filter(|it| it.products.contains(&product));
        *schedule.get_mut(product) = Some(asked.map(|it| it.interval).min().unwrap_or_default());
    }
    schedule
}

/// Refuses products that a record was linked without: its customer was not asked for them.
fn check_linked_products(head: &RecordHead, products: &[Product]) -> Result<(), ApiError> {
    let mut others = products
        .iter()
        .filter(|it| head.schedule.get(**it).is_none());
    let Some(other) = others.next() else {
        return Ok(());
    };
    Err(ApiError::invalid_field(
        "products",
        describe_unlinked_product(head, *other),
    ))
}

/// What is wrong with asking a record for a product that it was linked without.
pub(crate) fn describe_unlinked_product(head: &RecordHead, product: Product) -> String {
    let (record, product) = (head.record, product.as_str());
    format!(
        "has {product}, which record {record} was linked without: its customer has to link anew"
    )
}

/// How the subscriptions of a record change when one more is asked for.
struct SubscriptionChange {
    /// Those that are written: the new one first, so that a crash leaves too many and not too few.
    to_write: Vec<Subscription>,
    /// Those that nothing is left of.
    to_delete: Vec<SubscriptionId>,
    /// All that are there afterwards.
    remaining: Vec<Subscription>,
}

/// What a bank's quota makes of a schedule. An interval that the quota cannot give is taken all the
/// same: what comes of it is said, and it is given once the quota allows it.
pub(crate) async fn load_effective_schedule(
    request: &ApiRequest,
    bank: BankId,
    schedule: ByProduct<Interval>,
) -> Result<ByProduct<Interval>, ApiError> {
    let bank = request.state.store.find_bank(bank).await?;
    let bank = bank.ok_or_else(|| ApiError::not_found("bank"))?;
    Ok(limit_schedule(&bank.limits, schedule))
}

/// The schedule under a bank's limits.
pub(crate) fn limit_schedule(
    limits: &BankLimits,
    schedule: ByProduct<Interval>,
) -> ByProduct<Interval> {
    ByProduct {
        balance: schedule.balance.map(|it| limits.effective_interval(it)),
        transactions: schedule
            .transactions
            .map(|it| limits.effective_interval(it)),
    }
}

/// A URL has one interval for each product, the one asked for last: a new subscription takes its
/// products from the others of its URL. What other URLs asked for stays.
fn merge_subscription(existing: Vec<Subscription>, mut new: Subscription) -> SubscriptionChange {
    let mut change = SubscriptionChange {
        to_write: vec![],
        to_delete: vec![],
        remaining: vec![],
    };
    for mut it in existing {
        if it.id == new.id {
            new.created_at = it.created_at;
        } else if it.webhook_url != new.webhook_url {
            change.remaining.push(it);
        } else {
            let before = it.products.len();
            it.products
                .retain(|product| !new.products.contains(product));
            if it.products.is_empty() {
                change.to_delete.push(it.id);
                continue;
            }
            if it.products.len() != before {
                change.to_write.push(it.clone());
            }
            change.remaining.push(it);
        }
    }
    change.to_write.insert(0, new.clone());
    change.remaining.push(new);
    change
}

/// Enables the rules of intervals that no record is on, before one is: a record whose rule sleeps
/// would not be refreshed, and a rule without records switches itself off.
pub(crate) async fn enable_rules(
    request: &ApiRequest,
    schedule: ByProduct<Interval>,
) -> Result<(), ApiError> {
    let mut intervals: Vec<Interval> = schedule.iter().map(|(_, interval)| *interval).collect();
    intervals.dedup();
    for interval in intervals {
        if request.state.store.count_interval_entries(interval).await? == 0 {
            request.state.tick_rules.enable_rule(interval).await?;
        }
    }
    Ok(())
}

/// Puts the products of a record on these intervals. Rules that are left without records are left to
/// switch themselves off.
async fn reschedule_record(
    request: &ApiRequest,
    mut head: RecordHead,
    schedule: ByProduct<Interval>,
) -> Result<(), ApiError> {
    if head.schedule == schedule {
        return Ok(());
    }
    enable_rules(request, schedule).await?;
    for _ in 0..MAX_RESCHEDULE_ATTEMPTS {
        match request.state.store.reschedule_record(&head, schedule).await {
            Ok(touched) => {
                for interval in touched.started {
                    request.state.tick_rules.enable_rule(interval).await?;
                }
                return Ok(());
            }
            Err(StoreError::Contended { .. }) => {
                head = request
                    .load_own_record(head.record, Consistency::Strong)
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::retry_later())
}

/// A subscription as it is shown, and what it comes to beside the record's others.
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
    /// How the URL does, where it is asked for with `data-sync/list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<WebhookHealthSummary>,
    created_at: okra_wire::scalar::IsoInstant,
}

impl SubscriptionSummary {
    fn new(head: &RecordHead, schedule: ByProduct<Interval>, subscription: Subscription) -> Self {
        Self {
            id: subscription.id,
            record: head.record,
            bank: head.bank,
            customer: head.customer,
            products: subscription.products,
            interval: subscription.interval,
            effective_interval: schedule.into(),
            webhook_url: subscription.webhook_url,
            health: None,
            created_at: okra_wire::scalar::IsoInstant(subscription.created_at),
        }
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct SubscriptionsResponse {
    subscriptions: Vec<SubscriptionSummary>,
}

/// The records asked for: the customer's, at one bank or the one record where that is given. Unlinked ones
/// are left out.
async fn load_requested_records(request: &ApiRequest) -> Result<Vec<RecordHead>, ApiError> {
    let bank: Option<BankId> = request.input.parse_id(BANK)?;
    let record: Option<RecordId> = request.input.parse_id(RECORD)?;
    let customer = request.load_requested_customer().await?;
    let mut heads = request
        .state
        .store
        .list_records_of_customer(customer.id)
        .await?;
    heads.retain(|head| {
        head.status != RecordStatus::Invalid
            && bank.is_none_or(|bank| bank == head.bank)
            && record.is_none_or(|record| record == head.record)
    });
    if heads.is_empty() {
        return Err(ApiError::not_found("record"));
    }
    Ok(heads)
}

/// Okra's data-sync call: `{customer, products, bank?, interval?, webhook_url?}`.
pub(crate) async fn subscribe_to_data_sync(request: &ApiRequest) -> ApiResponse {
    let input = &request.input;
    let products = input.parse_products()?;
    let products = products.ok_or_else(|| ApiError::invalid_field("products", "is required"))?;
    let interval = parse_interval(input)?.unwrap_or_default();
    let webhook_url = parse_webhook_url(request, input)?;
    let store = &request.state.store;
    let heads = load_requested_records(request).await?;
    heads
        .iter()
        .try_for_each(|head| check_linked_products(head, &products))?;
    let mut subscriptions = Vec::new();
    for head in heads {
        let new = build_subscription(
            head.record,
            &products,
            interval,
            webhook_url.as_deref(),
            request.now(),
        );
        let change = merge_subscription(store.list_subscriptions(head.record).await?, new);
        // One more than can be read would stop every delivery of the record.
        if change.remaining.len() > MAX_SUBSCRIPTIONS_PER_RECORD {
            let problem =
                format!("is one too many: a record has at most {MAX_SUBSCRIPTIONS_PER_RECORD}");
            return Err(ApiError::invalid_field("webhook_url", problem));
        }
        for subscription in &change.to_write {
            store.put_subscription(subscription).await?;
        }
        for id in change.to_delete {
            store.delete_subscription(head.record, id).await?;
        }
        let schedule = load_effective_schedule(
            request,
            head.bank,
            find_fastest_intervals(&head.schedule.products(), &change.remaining),
        )
        .await?;
        reschedule_record(request, head.clone(), schedule).await?;
        let stored = change.to_write.into_iter().next();
        subscriptions.extend(stored.map(|it| SubscriptionSummary::new(&head, schedule, it)));
    }
    success_response(
        "Data sync set successfully",
        SubscriptionsResponse { subscriptions },
    )
}

/// The subscriptions of a customer's records: an extension.
pub(crate) async fn list_subscriptions(request: &ApiRequest) -> ApiResponse {
    let mut subscriptions = Vec::new();
    for head in load_requested_records(request).await? {
        let of_record = request.state.store.list_subscriptions(head.record).await?;
        subscriptions.extend(
            of_record
                .into_iter()
                .map(|it| SubscriptionSummary::new(&head, head.schedule, it)),
        );
    }
    let app = request.require_app()?.id;
    let id = |it: &SubscriptionSummary| Some(endpoint_id(app, it.webhook_url.as_deref()?));
    let mut ids: Vec<EndpointId> = subscriptions.iter().filter_map(id).collect();
    ids.sort_unstable();
    ids.dedup();
    let healths = request.state.store.load_health_of_endpoints(&ids).await?;
    for shown in &mut subscriptions {
        if let Some(id) = id(shown) {
            let stored = healths.get(&id).cloned().unwrap_or_default();
            shown.health =
                Some(WebhookHealthSummary::load_for_endpoint(request, id, stored).await?);
        }
    }
    success_response(
        "Data sync retrieved successfully",
        SubscriptionsResponse { subscriptions },
    )
}

/// Ends a subscription by its id: an extension. Its record goes back to what its others ask for.
pub(crate) async fn cancel_subscription(request: &ApiRequest) -> ApiResponse {
    let id: SubscriptionId = request.input.require_id(&["id", "subscription"])?;
    let store = &request.state.store;
    for head in load_requested_records(request).await? {
        let mut known = store.list_subscriptions(head.record).await?;
        let Some(at) = known.iter().position(|it| it.id == id) else {
            continue;
        };
        let ended = known.remove(at);
        store.delete_subscription(head.record, id).await?;
        let schedule = load_effective_schedule(
            request,
            head.bank,
            find_fastest_intervals(&head.schedule.products(), &known),
        )
        .await?;
        reschedule_record(request, head.clone(), schedule).await?;
        let subscriptions = vec![SubscriptionSummary::new(&head, schedule, ended)];
        return success_response("Data sync ended", SubscriptionsResponse { subscriptions });
    }
    Err(ApiError::not_found("subscription"))
}

documented! {
    subscribe_to_data_sync(CUSTOMER, SYNC, make_required(PRODUCTS), make_optional(BANK), make_optional(RECORD)) -> SubscriptionsResponse: "Asks for data sync of a customer's records.";
    list_subscriptions(CUSTOMER, make_optional(BANK), make_optional(RECORD)) -> SubscriptionsResponse: "The data sync that was asked for.";
    cancel_subscription(CUSTOMER, ID) -> SubscriptionsResponse: "Ends a data sync.";
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: RecordId = RecordId::from_bytes([1; 12]);
    const BALANCE: &[Product] = &[Product::Balance];

    fn build_test_subscription(
        products: &[Product],
        interval: Interval,
        url: Option<&str>,
    ) -> Subscription {
        build_subscription(RECORD, products, interval, url, Timestamp::UNIX_EPOCH)
    }

    /// Asks for these one after the other, and says what is there afterwards.
    fn check_merge(
        requested: Vec<Subscription>,
        expected: &[(Option<&str>, &[Product], Interval)],
        balance: Interval,
        transactions: Interval,
    ) {
        let mut known: Vec<Subscription> = Vec::new();
        for new in requested {
            let change = merge_subscription(known.clone(), new.clone());
            assert_eq!(change.to_write.first(), Some(&new));
            // What is written is what is there.
            known.retain(|it| !change.to_delete.contains(&it.id));
            for put in change.to_write {
                known.retain(|it| it.id != put.id);
                known.push(put);
            }
            let by_id = |it: &Subscription| it.id;
            let (mut stored, mut after) = (known.clone(), change.remaining);
            stored.sort_by_key(by_id);
            after.sort_by_key(by_id);
            assert_eq!(stored, after);
        }
        let mut found: Vec<_> = known
            .iter()
            .map(|it| {
                (
                    it.webhook_url.as_deref(),
                    it.products.as_slice(),
                    it.interval,
                )
            })
            .collect();
        found.sort();
        assert_eq!(found, expected);
        let schedule = find_fastest_intervals(&Product::ALL, &known);
        assert_eq!(
            (schedule.balance, schedule.transactions),
            (Some(balance), Some(transactions))
        );
    }

    #[test]
    fn the_fastest_subscription_wins_and_the_latest_of_a_url() {
        use Interval::{Daily, OneHour, OneMinute};
        let (a, both) = (Some("https://a.example/"), &Product::ALL);
        let rows: &[Product] = &[Product::Transactions];
        check_merge(vec![], &[], Daily, Daily);
        check_merge(
            vec![build_test_subscription(both, OneHour, None)],
            &[(None, both, OneHour)],
            OneHour,
            OneHour,
        );
        // Balances every minute and transactions daily, to one URL.
        check_merge(
            vec![
                build_test_subscription(BALANCE, OneMinute, a),
                build_test_subscription(rows, Daily, a),
            ],
            &[(a, BALANCE, OneMinute), (a, rows, Daily)],
            OneMinute,
            Daily,
        );
        check_merge(
            vec![
                build_test_subscription(both, OneHour, a),
                build_test_subscription(BALANCE, Daily, a),
            ],
            &[(a, BALANCE, Daily), (a, rows, OneHour)],
            Daily,
            OneHour,
        );
        check_merge(
            vec![
                build_test_subscription(BALANCE, OneMinute, a),
                build_test_subscription(both, Daily, a),
            ],
            &[(a, both, Daily)],
            Daily,
            Daily,
        );
        // Another URL keeps what it asked for.
        check_merge(
            vec![
                build_test_subscription(BALANCE, OneMinute, None),
                build_test_subscription(BALANCE, Daily, a),
            ],
            &[(None, BALANCE, OneMinute), (a, BALANCE, Daily)],
            OneMinute,
            Daily,
        );
        check_merge(
            vec![
                build_test_subscription(both, OneMinute, a),
                build_test_subscription(both, OneHour, a),
            ],
            &[(a, both, OneHour)],
            OneHour,
            OneHour,
        );
    }
}
