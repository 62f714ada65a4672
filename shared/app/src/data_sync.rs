//! Data sync: an app's subscriptions to a record's products ([`SubscribeRequest`], [`SubscriptionDetails`]), and the
//! interval that each product is refreshed on because of them.
//!
//! The rule: a product is on the fastest interval that any subscription wants for it, and daily where none does; on two
//! intervals it would have two watermarks, and each would dispatch what the other had dispatched. A product that the
//! user did not share is on none. A URL has one interval for each product, the one that was wanted last.

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

use crate::{app_scope::AppScope, endpoint_health::EndpointHealthDetails, error::AppError};

/// Most attempts at rescheduling a record that others reschedule at the same time.
const MAX_RESCHEDULE_ATTEMPTS: u32 = 3;

/// The records of a customer that a request is about: all that are linked, or those at one bank, or one.
#[derive(Clone, Copy, Debug)]
pub struct DataSyncTarget {
    /// The customer.
    pub customer: CustomerId,
    /// The bank.
    pub bank: Option<BankId>,
    /// The record.
    pub record: Option<RecordId>,
}

/// Data sync of products of these records.
#[derive(Clone, Debug)]
pub struct SubscribeRequest {
    /// The records.
    pub target: DataSyncTarget,
    /// What is subscribed to.
    pub terms: SubscriptionTerms,
}

/// What is subscribed to of a record.
#[derive(Clone, Debug)]
pub struct SubscriptionTerms {
    /// The products.
    pub products: Vec<Product>,
    /// How often they are refreshed.
    pub interval: Interval,
    /// Where webhooks go, besides the app's endpoints.
    pub webhook_url: Option<String>,
}

/// A subscription, and what it comes to beside the others of its record.
#[derive(Clone, Debug)]
pub struct SubscriptionDetails {
    /// The subscription.
    pub subscription: Subscription,
    /// Its record.
    pub head: RecordHead,
    /// The interval that each product of the record is refreshed on.
    pub effective_schedule: ByProduct<Interval>,
    /// How its URL does, where it has one and the subscriptions are listed.
    pub health: Option<EndpointHealthDetails>,
}

/// How the subscriptions of a record change when one more is wanted.
struct SubscriptionChange {
    /// Those that are written: the new one first, so that a crash leaves too many rather than too few.
    to_write: Vec<Subscription>,
    /// Those that nothing is left of.
    to_delete: Vec<SubscriptionId>,
    /// All that there are afterwards.
    remaining: Vec<Subscription>,
}

impl AppScope {
    /// Subscribes to products of records; subscribed to again with the same products and URL, it is the same
    /// subscription. Returns one for each record.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where no record is meant, [`AppError::RejectedUrl`], [`AppError::Invalid`] for a product
    /// that was not shared or for one subscription too many.
    pub async fn subscribe_to_data_sync(
        &self,
        request: &SubscribeRequest,
    ) -> Result<Vec<SubscriptionDetails>, AppError> {
        // Check everything before anything is written.
        if let Some(url) = &request.terms.webhook_url {
            self.check_sync_url(url)?;
        }
        let heads = self.load_target_records(&request.target).await?;
        for head in &heads {
            check_shared_products(head, &request.terms.products)?;
        }
        let mut details = Vec::with_capacity(heads.len());
        for head in heads {
            details.push(self.subscribe_record(head, &request.terms).await?);
        }
        Ok(details)
    }

    async fn subscribe_record(
        &self,
        head: RecordHead,
        terms: &SubscriptionTerms,
    ) -> Result<SubscriptionDetails, AppError> {
        let store = self.store();
        let new = build_subscription(head.record, terms, self.now());
        let existing = store.list_subscriptions(head.record).await?;
        let change = merge_subscription(existing, new.clone());
        // One more than can be read would stop every delivery of the record.
        if change.remaining.len() > MAX_SUBSCRIPTIONS_PER_RECORD {
            let problem = format!(
                "cannot be added: the record has {MAX_SUBSCRIPTIONS_PER_RECORD} subscriptions, which is the limit"
            );
            return Err(AppError::invalid_field("webhook_url", problem));
        }
        for subscription in &change.to_write {
            store.put_subscription(subscription).await?;
        }
        for id in change.to_delete {
            store.delete_subscription(head.record, id).await?;
        }
        let effective_schedule = self.reschedule_for(&head, &change.remaining).await?;
        // The stored one has the time of the first request.
        let stored = change.to_write.into_iter().next();
        Ok(SubscriptionDetails {
            subscription: stored.unwrap_or(new),
            head,
            effective_schedule,
            health: None,
        })
    }

    /// The subscriptions of records, each with the health of its URL.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where no record is meant.
    pub async fn list_subscriptions(
        &self,
        target: &DataSyncTarget,
    ) -> Result<Vec<SubscriptionDetails>, AppError> {
        let mut details = Vec::new();
        for head in self.load_target_records(target).await? {
            let subscriptions = self.store().list_subscriptions(head.record).await?;
            let of_record = subscriptions
                .into_iter()
                .map(|subscription| SubscriptionDetails {
                    subscription,
                    head: head.clone(),
                    effective_schedule: head.schedule,
                    health: None,
                });
            details.extend(of_record);
        }
        let mut ids: Vec<EndpointId> = details
            .iter()
            .filter_map(|it| self.sync_endpoint_id(it))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let health_by_id = self.store().load_health_of_endpoints(&ids).await?;
        for it in &mut details {
            if let Some(id) = self.sync_endpoint_id(it) {
                // A URL without a stored health has never failed.
                let stored = health_by_id.get(&id).cloned().unwrap_or_default();
                it.health = Some(self.describe_endpoint_health(id, stored).await?);
            }
        }
        Ok(details)
    }

    /// Ends a subscription; its record goes back to the intervals that the others want. Returns it as it was.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the records have no such subscription.
    pub async fn cancel_subscription(
        &self,
        target: &DataSyncTarget,
        id: SubscriptionId,
    ) -> Result<SubscriptionDetails, AppError> {
        for head in self.load_target_records(target).await? {
            let mut subscriptions = self.store().list_subscriptions(head.record).await?;
            let Some(position) = subscriptions.iter().position(|it| it.id == id) else {
                continue;
            };
            let subscription = subscriptions.remove(position);
            self.store().delete_subscription(head.record, id).await?;
            let effective_schedule = self.reschedule_for(&head, &subscriptions).await?;
            return Ok(SubscriptionDetails {
                subscription,
                head,
                effective_schedule,
                health: None,
            });
        }
        Err(AppError::NotFound {
            what: "subscription",
        })
    }

    fn sync_endpoint_id(&self, details: &SubscriptionDetails) -> Option<EndpointId> {
        let url = details.subscription.webhook_url.as_deref()?;
        Some(endpoint_id(self.app().id, url))
    }

    /// Refuses a URL that webhooks of a data sync cannot be sent to.
    pub(crate) fn check_sync_url(&self, url: &str) -> Result<(), AppError> {
        let services = self.services();
        let field = "webhook_url";
        check_webhook_url(url, services.address_policy, &services.public_url)
            .map_err(|rule| AppError::RejectedUrl { field, rule })
    }

    /// The records that are meant, without those that were unlinked.
    async fn load_target_records(
        &self,
        target: &DataSyncTarget,
    ) -> Result<Vec<RecordHead>, AppError> {
        let customer = self.load_own_customer(target.customer).await?;
        let mut heads = self.store().list_records_of_customer(customer.id).await?;
        heads.retain(|head| {
            head.status != RecordStatus::Invalid
                && target.bank.is_none_or(|bank| bank == head.bank)
                && target.record.is_none_or(|record| record == head.record)
        });
        match heads.is_empty() {
            true => Err(AppError::NotFound { what: "record" }),
            false => Ok(heads),
        }
    }

    /// Puts the products of a record on the intervals that these subscriptions come to under the bank's limits.
    async fn reschedule_for(
        &self,
        head: &RecordHead,
        subscriptions: &[Subscription],
    ) -> Result<ByProduct<Interval>, AppError> {
        let bank = self.store().find_bank(head.bank).await?;
        let bank = bank.ok_or(AppError::NotFound { what: "bank" })?;
        let wanted = find_fastest_intervals(&head.schedule.products(), subscriptions);
        let schedule = limit_schedule(&bank.limits, wanted);
        self.reschedule_record(head.clone(), schedule).await?;
        Ok(schedule)
    }

    /// Puts the products of a record on these intervals. Rules that are left without records switch themselves off.
    async fn reschedule_record(
        &self,
        mut head: RecordHead,
        schedule: ByProduct<Interval>,
    ) -> Result<(), AppError> {
        if head.schedule == schedule {
            return Ok(());
        }
        self.enable_rules(schedule).await?;
        for _ in 0..MAX_RESCHEDULE_ATTEMPTS {
            match self.store().reschedule_record(&head, schedule).await {
                Ok(touched) => {
                    for interval in touched.started {
                        self.services().tick_rules.enable_rule(interval).await?;
                    }
                    return Ok(());
                }
                Err(StoreError::Contended { .. }) => {
                    head = self
                        .load_own_record(head.record, Consistency::Strong)
                        .await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppError::Busy)
    }

    /// Enables the rules of intervals that no record is on, before one is: a record whose rule is disabled would not
    /// be refreshed, and a rule without records switches itself off.
    pub(crate) async fn enable_rules(&self, schedule: ByProduct<Interval>) -> Result<(), AppError> {
        let mut intervals: Vec<Interval> = schedule.iter().map(|(_, interval)| *interval).collect();
        intervals.dedup();
        for interval in intervals {
            if self.store().count_interval_entries(interval).await? == 0 {
                self.services().tick_rules.enable_rule(interval).await?;
            }
        }
        Ok(())
    }
}

/// A subscription. Its id is derived from record, URL and products, so that the same request makes the same one.
pub(crate) fn build_subscription(
    record: RecordId,
    terms: &SubscriptionTerms,
    now: Timestamp,
) -> Subscription {
    let names: Vec<&str> = terms.products.iter().map(|it| it.as_str()).collect();
    let names = names.join(",");
    // Without a URL the part of the id that names it is empty.
    let url = terms.webhook_url.as_deref().unwrap_or_default();
    Subscription {
        id: SubscriptionId::derive(&[record.as_bytes(), url.as_bytes(), names.as_bytes()]),
        record,
        products: terms.products.clone(),
        interval: terms.interval,
        webhook_url: terms.webhook_url.clone(),
        created_at: now,
    }
}

/// The fastest interval that any subscription wants for each of `products`; daily where none does.
pub(crate) fn find_fastest_intervals(
    products: &[Product],
    subscriptions: &[Subscription],
) -> ByProduct<Interval> {
    let mut schedule = ByProduct::default();
    for &product in products {
        let wanted = subscriptions
            .iter()
            .filter(|subscription| subscription.products.contains(&product));
        let fastest = wanted.map(|subscription| subscription.interval).min();
        // The default interval is daily.
        *schedule.get_mut(product) = Some(fastest.unwrap_or_default());
    }
    schedule
}

/// A schedule under a bank's limits. An interval that a quota does not allow is accepted all the same: it takes effect
/// once the quota allows it, and until then the effective interval says what it comes to.
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

/// A URL has one interval for each product, the one that was wanted last: a new subscription takes its products from
/// the others of its URL. What other URLs want stays.
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

/// Refuses products that the user did not share when the record was linked.
fn check_shared_products(head: &RecordHead, products: &[Product]) -> Result<(), AppError> {
    let mut others = products
        .iter()
        .filter(|product| head.schedule.get(**product).is_none());
    match others.next() {
        Some(other) => Err(unshared_product_error(head, *other)),
        None => Ok(()),
    }
}

/// A request for a product that the user did not share.
pub(crate) fn unshared_product_error(head: &RecordHead, product: Product) -> AppError {
    let (record, product) = (head.record, product.as_str());
    let problem = format!(
        "must not contain {product}: the user did not share it with record {record} and must link again"
    );
    AppError::invalid_field("products", problem)
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
        let terms = SubscriptionTerms {
            products: products.to_vec(),
            interval,
            webhook_url: url.map(str::to_owned),
        };
        build_subscription(RECORD, &terms, Timestamp::UNIX_EPOCH)
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
