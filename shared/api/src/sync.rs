//! Data sync: subscriptions, and which interval each product of a record is on.

use jiff::Timestamp;
use okra_core::{
    bank::BankLimits,
    ids::{BankId, CustomerId, EndpointId, RecordId, SubscriptionId},
    model::{ByProduct, Product},
    schedule::Interval,
};
use okra_store::{
    Consistency, Head, MAX_SUBSCRIPTIONS_PER_RECORD, RecordStatus, StoreError, Subscription,
};
use okra_webhooks::{check_webhook, endpoint_id};
use okra_wire::record::Schedule;
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{BANK, Input, RECORD, WEBHOOK_URL},
    webhooks::{HealthShown, refused_url},
};

/// Times a record is rescheduled against others that do so at the same time.
const MAX_MOVES: u32 = 3;

/// The interval asked for.
pub(crate) fn interval(input: &Input) -> Result<Option<Interval>, Refusal> {
    input
        .text(&["interval"])
        .map(|text| {
            text.parse()
                .map_err(|error| Refusal::field("interval", format!("is not known: {error}")))
        })
        .transpose()
}

/// The webhook URL asked for, where it may be called.
pub(crate) fn webhook_url(call: &Call, input: &Input) -> Result<Option<String>, Refusal> {
    let url = input.text(WEBHOOK_URL);
    if let Some(url) = &url {
        check_webhook(url, call.state.addresses, &call.state.public_url)
            .map_err(|rule| refused_url("webhook_url", rule))?;
    }
    Ok(url)
}

/// Data sync of these products. Asked for again with the same products and URL it is the same one.
pub(crate) fn subscription(
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
pub(crate) fn fastest(kept: &[Product], subscriptions: &[Subscription]) -> ByProduct<Interval> {
    let mut schedule = ByProduct::default();
    for &product in kept {
        let asked = subscriptions
            .iter()
            .filter(|it| it.products.contains(&product));
        *schedule.slot(product) = Some(asked.map(|it| it.interval).min().unwrap_or_default());
    }
    schedule
}

/// Refuses products that a record was linked without: its customer was not asked for them.
fn kept(head: &Head, products: &[Product]) -> Result<(), Refusal> {
    let mut others = products
        .iter()
        .filter(|it| head.schedule.get(**it).is_none());
    let Some(other) = others.next() else {
        return Ok(());
    };
    Err(Refusal::field("products", without(head, *other)))
}

/// What is wrong with asking a record for a product that it was linked without.
pub(crate) fn without(head: &Head, product: Product) -> String {
    let (record, product) = (head.record, product.as_str());
    format!(
        "has {product}, which record {record} was linked without: its customer has to link anew"
    )
}

/// How the subscriptions of a record change when one more is asked for.
struct Change {
    /// Those that are written: the new one first, so that a crash leaves too many and not too few.
    put: Vec<Subscription>,
    /// Those that nothing is left of.
    delete: Vec<SubscriptionId>,
    /// All that are there afterwards.
    after: Vec<Subscription>,
}

/// What a bank's quota makes of a schedule. An interval that the quota cannot give is taken all the
/// same: what comes of it is said, and it is given once the quota allows it.
pub(crate) async fn effective(
    call: &Call,
    bank: BankId,
    schedule: ByProduct<Interval>,
) -> Result<ByProduct<Interval>, Refusal> {
    let bank = call.state.store.bank(bank).await?;
    let bank = bank.ok_or_else(|| Refusal::not_found("bank"))?;
    Ok(limited(&bank.limits, schedule))
}

/// The schedule under a bank's limits.
pub(crate) fn limited(limits: &BankLimits, schedule: ByProduct<Interval>) -> ByProduct<Interval> {
    ByProduct {
        balance: schedule.balance.map(|it| limits.effective(it)),
        transactions: schedule.transactions.map(|it| limits.effective(it)),
    }
}

/// A URL has one interval for each product, the one asked for last: a new subscription takes its
/// products from the others of its URL. What other URLs asked for stays.
fn subscribe_to(known: Vec<Subscription>, mut new: Subscription) -> Change {
    let mut change = Change {
        put: vec![],
        delete: vec![],
        after: vec![],
    };
    for mut it in known {
        if it.id == new.id {
            new.created_at = it.created_at;
        } else if it.webhook_url != new.webhook_url {
            change.after.push(it);
        } else {
            let before = it.products.len();
            it.products
                .retain(|product| !new.products.contains(product));
            if it.products.is_empty() {
                change.delete.push(it.id);
                continue;
            }
            if it.products.len() != before {
                change.put.push(it.clone());
            }
            change.after.push(it);
        }
    }
    change.put.insert(0, new.clone());
    change.after.push(new);
    change
}

/// Enables the rules of intervals that no record is on, before one is: a record whose rule sleeps
/// would not be refreshed, and a rule without records switches itself off.
pub(crate) async fn wake(call: &Call, schedule: ByProduct<Interval>) -> Result<(), Refusal> {
    let mut intervals: Vec<Interval> = schedule.iter().map(|(_, interval)| *interval).collect();
    intervals.dedup();
    for interval in intervals {
        if call.state.store.interval_count(interval).await? == 0 {
            call.state.rules.enable(interval).await?;
        }
    }
    Ok(())
}

/// Puts the products of a record on these intervals. Rules that are left without records are left to
/// switch themselves off.
async fn reschedule(
    call: &Call,
    mut head: Head,
    schedule: ByProduct<Interval>,
) -> Result<(), Refusal> {
    if head.schedule == schedule {
        return Ok(());
    }
    wake(call, schedule).await?;
    for _ in 0..MAX_MOVES {
        match call.state.store.reschedule(&head, schedule).await {
            Ok(touched) => {
                for interval in touched.started {
                    call.state.rules.enable(interval).await?;
                }
                return Ok(());
            }
            Err(StoreError::Contended { .. }) => {
                head = call.own_record(head.record, Consistency::Strong).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::busy())
}

/// A subscription as it is shown, and what it comes to beside the record's others.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Subscription))]
#[derive(Serialize)]
struct Shown {
    id: SubscriptionId,
    record: RecordId,
    bank: BankId,
    customer: CustomerId,
    products: Vec<Product>,
    interval: Interval,
    effective_interval: Schedule,
    webhook_url: Option<String>,
    /// How the URL does, where it is asked for with `data-sync/list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthShown>,
    created_at: okra_wire::scalar::Instant,
}

impl Shown {
    fn new(head: &Head, schedule: ByProduct<Interval>, subscription: Subscription) -> Self {
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
            created_at: okra_wire::scalar::Instant(subscription.created_at),
        }
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Subscriptions {
    subscriptions: Vec<Shown>,
}

/// The records asked for: the customer's, at one bank or the one record where that is given. Unlinked ones
/// are left out.
async fn asked(call: &Call) -> Result<Vec<Head>, Refusal> {
    let bank: Option<BankId> = call.input.id(BANK)?;
    let record: Option<RecordId> = call.input.id(RECORD)?;
    let customer = call.customer().await?;
    let mut heads = call.state.store.records_of_customer(customer.id).await?;
    heads.retain(|head| {
        head.status != RecordStatus::Invalid
            && bank.is_none_or(|bank| bank == head.bank)
            && record.is_none_or(|record| record == head.record)
    });
    if heads.is_empty() {
        return Err(Refusal::not_found("record"));
    }
    Ok(heads)
}

/// Okra's data-sync call: `{customer, products, bank?, interval?, webhook_url?}`.
pub(crate) async fn subscribe(call: &Call) -> Answer {
    let input = &call.input;
    let products = input.products()?;
    let products = products.ok_or_else(|| Refusal::field("products", "is required"))?;
    let interval = interval(input)?.unwrap_or_default();
    let webhook_url = webhook_url(call, input)?;
    let store = &call.state.store;
    let heads = asked(call).await?;
    heads.iter().try_for_each(|head| kept(head, &products))?;
    let mut subscriptions = Vec::new();
    for head in heads {
        let new = subscription(
            head.record,
            &products,
            interval,
            webhook_url.as_deref(),
            call.now(),
        );
        let change = subscribe_to(store.subscriptions(head.record).await?, new);
        // One more than can be read would stop every delivery of the record.
        if change.after.len() > MAX_SUBSCRIPTIONS_PER_RECORD {
            let problem =
                format!("is one too many: a record has at most {MAX_SUBSCRIPTIONS_PER_RECORD}");
            return Err(Refusal::field("webhook_url", problem));
        }
        for subscription in &change.put {
            store.put_subscription(subscription).await?;
        }
        for id in change.delete {
            store.delete_subscription(head.record, id).await?;
        }
        let schedule = effective(
            call,
            head.bank,
            fastest(&head.schedule.products(), &change.after),
        )
        .await?;
        reschedule(call, head.clone(), schedule).await?;
        let stored = change.put.into_iter().next();
        subscriptions.extend(stored.map(|it| Shown::new(&head, schedule, it)));
    }
    success(
        "Data sync set successfully",
        Subscriptions { subscriptions },
    )
}

/// The subscriptions of a customer's records: an extension.
pub(crate) async fn list(call: &Call) -> Answer {
    let mut subscriptions = Vec::new();
    for head in asked(call).await? {
        let of_record = call.state.store.subscriptions(head.record).await?;
        subscriptions.extend(
            of_record
                .into_iter()
                .map(|it| Shown::new(&head, head.schedule, it)),
        );
    }
    let app = call.app()?.id;
    let id = |it: &Shown| Some(endpoint_id(app, it.webhook_url.as_deref()?));
    let mut ids: Vec<EndpointId> = subscriptions.iter().filter_map(id).collect();
    ids.sort_unstable();
    ids.dedup();
    let healths = call.state.store.healths(&ids).await?;
    for shown in &mut subscriptions {
        if let Some(id) = id(shown) {
            let stored = healths.get(&id).cloned().unwrap_or_default();
            shown.health = Some(HealthShown::of(call, id, stored).await?);
        }
    }
    success(
        "Data sync retrieved successfully",
        Subscriptions { subscriptions },
    )
}

/// Ends a subscription by its id: an extension. Its record goes back to what its others ask for.
pub(crate) async fn cancel(call: &Call) -> Answer {
    let id: SubscriptionId = call.input.needed_id(&["id", "subscription"])?;
    let store = &call.state.store;
    for head in asked(call).await? {
        let mut known = store.subscriptions(head.record).await?;
        let Some(at) = known.iter().position(|it| it.id == id) else {
            continue;
        };
        let ended = known.remove(at);
        store.delete_subscription(head.record, id).await?;
        let schedule =
            effective(call, head.bank, fastest(&head.schedule.products(), &known)).await?;
        reschedule(call, head.clone(), schedule).await?;
        let subscriptions = vec![Shown::new(&head, schedule, ended)];
        return success("Data sync ended", Subscriptions { subscriptions });
    }
    Err(Refusal::not_found("subscription"))
}

documented! {
    subscribe(CUSTOMER, SYNC, needed(PRODUCTS), optional(BANK), optional(RECORD)) -> Subscriptions: "Asks for data sync of a customer's records.";
    list(CUSTOMER, optional(BANK), optional(RECORD)) -> Subscriptions: "The data sync that was asked for.";
    cancel(CUSTOMER, ID) -> Subscriptions: "Ends a data sync.";
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: RecordId = RecordId::from_bytes([1; 12]);
    const BALANCE: &[Product] = &[Product::Balance];

    fn asked(products: &[Product], interval: Interval, url: Option<&str>) -> Subscription {
        subscription(RECORD, products, interval, url, Timestamp::UNIX_EPOCH)
    }

    /// Asks for these one after the other, and says what is there afterwards.
    fn check(
        asked: Vec<Subscription>,
        expected: &[(Option<&str>, &[Product], Interval)],
        balance: Interval,
        transactions: Interval,
    ) {
        let mut known: Vec<Subscription> = Vec::new();
        for new in asked {
            let change = subscribe_to(known.clone(), new.clone());
            assert_eq!(change.put.first(), Some(&new));
            // What is written is what is there.
            known.retain(|it| !change.delete.contains(&it.id));
            for put in change.put {
                known.retain(|it| it.id != put.id);
                known.push(put);
            }
            let by_id = |it: &Subscription| it.id;
            let (mut stored, mut after) = (known.clone(), change.after);
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
        let schedule = fastest(&Product::ALL, &known);
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
        check(vec![], &[], Daily, Daily);
        check(
            vec![asked(both, OneHour, None)],
            &[(None, both, OneHour)],
            OneHour,
            OneHour,
        );
        // Balances every minute and transactions daily, to one URL.
        check(
            vec![asked(BALANCE, OneMinute, a), asked(rows, Daily, a)],
            &[(a, BALANCE, OneMinute), (a, rows, Daily)],
            OneMinute,
            Daily,
        );
        check(
            vec![asked(both, OneHour, a), asked(BALANCE, Daily, a)],
            &[(a, BALANCE, Daily), (a, rows, OneHour)],
            Daily,
            OneHour,
        );
        check(
            vec![asked(BALANCE, OneMinute, a), asked(both, Daily, a)],
            &[(a, both, Daily)],
            Daily,
            Daily,
        );
        // Another URL keeps what it asked for.
        check(
            vec![asked(BALANCE, OneMinute, None), asked(BALANCE, Daily, a)],
            &[(None, BALANCE, OneMinute), (a, BALANCE, Daily)],
            OneMinute,
            Daily,
        );
        check(
            vec![asked(both, OneMinute, a), asked(both, OneHour, a)],
            &[(a, both, OneHour)],
            OneHour,
            OneHour,
        );
    }
}
