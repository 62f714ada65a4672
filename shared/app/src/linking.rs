//! Linking a record: a consent at a bank becomes accounts that are kept fresh from then on ([`LinkRecordRequest`]), and
//! a record whose consent ended gets a new one ([`RenewRecordRequest`]). Both return a [`LinkedRecord`].
//!
//! The rule: everything is checked and the bank has responded before anything is stored, and what is stored first is
//! harmless without the rest: a subscription without a record is never read, and a rule without records switches itself
//! off.

use std::net::IpAddr;

use jiff::Timestamp;
use okra_connectors::{
    ConsentSecret, ConsentTerms,
    security::{MAX_TOKEN_BYTES, is_usable_token},
};
use okra_core::{
    model::{
        bank::BankConfig,
        ids::{AccountId, BankId, CustomerId, RecordId, Seq},
        interval::{DueKey, Interval},
        snapshot::{AccountFacts, ByProduct, Product},
    },
    schedule::plan::DueEntry,
    sync::{decide::Watermark, state::StateChange},
};
use okra_refresh::{announce, backfill, follow_up};
use okra_store::{
    Account, AccountChecks, CallLimit, Consent, ConsentAccount, Consistency, Customer,
    MAX_OPTIONS_BYTES, MAX_RECORDS_PER_CUSTOMER, NewRecord, RecordHead, RecordStatus,
};
use serde_json::{Map, Value};

use crate::{
    app_scope::AppScope,
    consents::{limit_backfill_months, start_consent_clock},
    data_sync::{SubscriptionTerms, build_subscription, find_fastest_intervals, limit_schedule},
    error::AppError,
};

/// Links of one customer in an hour at most, as Okra's widget had it.
const LINKS_PER_HOUR: u32 = 5;

const HOUR_S: u32 = 3600;

/// Whose record it becomes.
#[derive(Clone, Debug)]
pub enum LinkCustomer {
    /// A customer of the app.
    Existing(CustomerId),
    /// One who is created once the bank has responded.
    New {
        /// The name.
        name: String,
        /// The address.
        email: Option<String>,
    },
}

/// The data sync of a new record, and what its webhooks echo.
#[derive(Clone, Debug)]
pub struct LinkTerms {
    /// How often `synced_products` are refreshed; daily by default.
    pub interval: Option<Interval>,
    /// All products that are read.
    pub products: Vec<Product>,
    /// Those of them that are refreshed at `interval`; the others are refreshed daily.
    pub synced_products: Vec<Product>,
    /// Where webhooks go, besides the app's endpoints.
    pub webhook_url: Option<String>,
    /// Months of backfill.
    pub backfill_months: u8,
    /// When the consent ends, where the app knows.
    pub consent_expires_at: Option<Timestamp>,
    /// What the app wants echoed.
    pub options: Map<String, Value>,
    /// Echoed in webhooks beside them.
    pub meta: Map<String, Value>,
}

/// A record to link.
pub struct LinkRecordRequest {
    /// Its bank.
    pub bank: BankId,
    /// The consent.
    pub consent: ConsentSecret,
    /// Its customer.
    pub customer: LinkCustomer,
    /// Accounts to link, by the bank's ids; where empty, all that the consent covers.
    pub account_ids: Vec<String>,
    /// Its data sync.
    pub terms: LinkTerms,
    /// The address from which the user calls the app, where the user is present.
    pub user_address: Option<IpAddr>,
}

/// A new consent for a record.
pub struct RenewRecordRequest {
    /// The record.
    pub record: RecordId,
    /// The consent, which has to cover every account of the record.
    pub consent: ConsentSecret,
    /// When it ends, where the app knows.
    pub consent_expires_at: Option<Timestamp>,
    /// The address from which the user calls the app, where the user is present.
    pub user_address: Option<IpAddr>,
}

/// A record that was linked or renewed.
#[derive(Clone, Debug)]
pub struct LinkedRecord {
    /// The record.
    pub head: RecordHead,
    /// The name of its customer.
    pub customer_name: String,
    /// Its accounts.
    pub accounts: Vec<Account>,
}

/// Refuses tokens that no bank issues: they go into headers and forms as they are.
fn check_consent_tokens(consent: &ConsentSecret) -> Result<(), AppError> {
    let access_token = Some(&consent.access_token);
    // An access token may be missing where the refresh token buys one.
    let access_token =
        access_token.filter(|token| !token.is_empty() || consent.refresh_token.is_none());
    for (field, token) in [
        ("access_token", access_token),
        ("refresh_token", consent.refresh_token.as_ref()),
    ] {
        if token.is_some_and(|token| !is_usable_token(token)) {
            let problem = format!("must be 1 to {MAX_TOKEN_BYTES} visible ASCII characters");
            return Err(AppError::invalid_field(field, problem));
        }
    }
    Ok(())
}

/// What a new record is built from.
struct RecordParts<'a> {
    customer: &'a Customer,
    bank: &'a BankConfig,
    facts: Vec<AccountFacts>,
    consent: &'a ConsentSecret,
    terms: &'a LinkTerms,
    bank_terms: Option<ConsentTerms>,
}

impl AppScope {
    /// Links a record: reads its accounts from the bank, stores everything at once, and enqueues the first refresh.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where bank or customer are not the app's, [`AppError::Invalid`], [`AppError::RejectedUrl`],
    /// [`AppError::CustomerFlagged`], [`AppError::RateLimited`], [`AppError::BankBusy`], [`AppError::BankFault`].
    pub async fn link_record(&self, request: LinkRecordRequest) -> Result<LinkedRecord, AppError> {
        // Check what can be checked without the bank.
        let terms = &request.terms;
        check_consent_tokens(&request.consent)?;
        self.check_link_terms(terms)?;
        match &request.customer {
            LinkCustomer::Existing(customer) => {
                self.load_own_customer(*customer).await?;
            }
            LinkCustomer::New { name, .. } if name.trim().is_empty() => {
                return Err(AppError::invalid_field("name", "must not be blank"));
            }
            LinkCustomer::New { .. } => {}
        }
        let bank = self.load_visible_bank(request.bank).await?;
        // Read the accounts and the terms of the consent from the bank.
        self.await_bank_permit(&bank).await?;
        let consent = self.ensure_access_token(&bank, request.consent).await?;
        let facts = self.fetch_account_facts(&bank, &consent).await?;
        let facts = select_accounts(facts, &request.account_ids)?;
        let customer = self.resolve_customer(request.customer).await?;
        let bank_terms = self.fetch_consent_terms(&bank, &consent).await?;
        let new = self.build_new_record(RecordParts {
            customer: &customer,
            bank: &bank,
            facts,
            consent: &consent,
            terms,
            bank_terms,
        })?;
        // Store it. The follow-up heals a crash between here and the end.
        let (services, head) = (self.services(), &new.head);
        follow_up::schedule_follow_up(&services.queues, head).await?;
        if let Some(subscription) = build_link_subscription(head.record, terms, self.now()) {
            self.store().put_subscription(&subscription).await?;
        }
        self.enable_rules(head.schedule).await?;
        let touched = self.store().create_record(&new).await?;
        for interval in touched.started {
            services.tick_rules.enable_rule(interval).await?;
        }
        // Announce it, and refresh it for the first time.
        announce::dispatch_state_changes(self.store(), &services.queues, head).await?;
        self.enqueue_first_refresh(head.record, request.user_address)
            .await?;
        Ok(LinkedRecord {
            head: new.head,
            customer_name: customer.name,
            accounts: new.accounts,
        })
    }

    /// Gives a record a new consent in place of one that the bank rejects. It has to cover every account of the record,
    /// by the bank's id or, where the bank gave new ones, by number.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the record is not the app's, [`AppError::Invalid`] where it was unlinked or an
    /// account is not covered, [`AppError::CustomerFlagged`], [`AppError::BankBusy`], [`AppError::BankFault`].
    pub async fn renew_record(
        &self,
        request: RenewRecordRequest,
    ) -> Result<LinkedRecord, AppError> {
        // Check what can be checked without the bank.
        check_consent_tokens(&request.consent)?;
        let head = self
            .load_own_record(request.record, Consistency::Eventual)
            .await?;
        if head.status == RecordStatus::Invalid {
            let problem = "must be of a record that is still linked; link it as a new one";
            return Err(AppError::invalid_field("record_id", problem));
        }
        let customer = self.load_own_customer(head.customer).await?;
        check_unflagged(&customer)?;
        let store = self.store();
        let bank = store.find_bank(head.bank).await?;
        let bank = bank.ok_or(AppError::NotFound { what: "bank" })?;
        let before = store.find_consent(head.record, Consistency::Strong).await?;
        let before = before.ok_or(AppError::NotFound { what: "record" })?;
        // Read the accounts and the terms of the consent from the bank.
        self.await_bank_permit(&bank).await?;
        let consent = self.ensure_access_token(&bank, request.consent).await?;
        let facts = self.fetch_account_facts(&bank, &consent).await?;
        let accounts = store
            .load_accounts_of_consent(&before, Consistency::Strong)
            .await?;
        let covered = match_accounts(&accounts, &before.accounts, &facts)?;
        let bank_terms = self.fetch_consent_terms(&bank, &consent).await?;
        // Store the consent, and resume what waited for it.
        let now = self.now();
        let renewed = Consent {
            app: Some(head.app),
            sealed_secret: self.seal_consent(head.record, &consent)?,
            accounts: covered,
            consent_clock: start_consent_clock(bank_terms, request.consent_expires_at, now),
            ..before
        };
        let queues = &self.services().queues;
        follow_up::schedule_follow_up(queues, &head).await?;
        backfill::retry_backfill(store, head.record, now).await?;
        store.put_consent(&renewed).await?;
        announce::commit_state_changes(store, queues, head.record, now, decide_recovery).await?;
        backfill::resume_backfill(store, queues, &head, now).await?;
        self.enqueue_first_refresh(head.record, request.user_address)
            .await?;
        Ok(LinkedRecord {
            head,
            customer_name: customer.name,
            accounts,
        })
    }

    /// Refuses terms that cannot be stored or delivered to.
    fn check_link_terms(&self, terms: &LinkTerms) -> Result<(), AppError> {
        if count_bytes(&terms.options)? + count_bytes(&terms.meta)? > MAX_OPTIONS_BYTES {
            let field = if terms.meta.is_empty() {
                "options"
            } else {
                "meta"
            };
            let problem =
                format!("must be at most {MAX_OPTIONS_BYTES} bytes, together with options");
            return Err(AppError::invalid_field(field, problem));
        }
        match &terms.webhook_url {
            Some(url) => self.check_sync_url(url),
            None => Ok(()),
        }
    }

    /// The customer, created where it is a new one.
    async fn resolve_customer(&self, link_customer: LinkCustomer) -> Result<Customer, AppError> {
        match link_customer {
            LinkCustomer::Existing(id) => {
                // It was read and compared with the app before the bank was called.
                let customer = self.load_cached_customer(id).await?;
                let customer = customer.ok_or(AppError::NotFound { what: "customer" })?;
                check_unflagged(&customer)?;
                self.check_link_limits(&customer).await?;
                Ok(Customer::clone(&customer))
            }
            LinkCustomer::New { name, email } => {
                let customer = Customer {
                    id: CustomerId::from_bytes(self.services().random_bytes()?),
                    app: self.app().id,
                    name,
                    email,
                    is_blocked: false,
                    created_at: self.now(),
                };
                self.store().put_customer(&customer).await?;
                Ok(customer)
            }
        }
    }

    /// Refuses one link too many of a customer, in an hour or at all.
    async fn check_link_limits(&self, customer: &Customer) -> Result<(), AppError> {
        let limit = CallLimit {
            max_calls: LINKS_PER_HOUR,
            window_s: HOUR_S,
        };
        let name = format!("link#{}", customer.id);
        if let Some(retry) = self.count_against_limit(&name, limit).await? {
            return Err(AppError::RateLimited {
                limit: format!("{LINKS_PER_HOUR} links of one customer in an hour"),
                retry,
                is_refresh: false,
            });
        }
        let records = self.store().list_records_of_customer(customer.id).await?;
        if records.len() >= MAX_RECORDS_PER_CUSTOMER {
            let problem = format!("has {MAX_RECORDS_PER_CUSTOMER} records, which is the limit");
            return Err(AppError::invalid_field("customer", problem));
        }
        Ok(())
    }

    fn build_new_record(&self, parts: RecordParts<'_>) -> Result<NewRecord, AppError> {
        let (now, app, terms) = (self.now(), self.app().id, parts.terms);
        let (bank, customer) = (parts.bank.id, parts.customer.id);
        let record = RecordId::from_bytes(self.services().random_bytes()?);
        // The accounts, and the consent that covers them.
        let accounts = parts.facts.into_iter().map(|facts| Account {
            id: AccountId::for_bank_account(customer, record, &facts.bank_account_id),
            record,
            app,
            customer,
            bank,
            facts,
            balance: None,
            balance_seq: Seq::ZERO,
            balance_at: None,
            checks: AccountChecks::default(),
            is_drift_reported: false,
            product_states: ByProduct::default(),
            created_at: now,
            last_updated: now,
        });
        let accounts: Vec<Account> = accounts.collect();
        let covered = accounts.iter().map(|account| ConsentAccount {
            account_id: account.id,
            bank_account_id: account.facts.bank_account_id.clone(),
        });
        let consent = Consent {
            consent_clock: start_consent_clock(parts.bank_terms, terms.consent_expires_at, now),
            record,
            app: Some(app),
            bank,
            sealed_secret: self.seal_consent(record, parts.consent)?,
            accounts: covered.collect(),
        };
        // The first entries of its feed, and the record itself.
        let accounts_linked = accounts
            .iter()
            .map(|account| (Some(account.id), StateChange::AccountLinked));
        let changes = std::iter::once((None, StateChange::Linked)).chain(accounts_linked);
        let feed_entries = announce::build_state_entries(record, Seq::ZERO, now, changes.collect());
        let seq = feed_entries.last().map_or(Seq::ZERO, |entry| entry.seq);
        let head = RecordHead {
            record,
            app,
            customer,
            bank,
            seq,
            watermarks: ByProduct::default(),
            state_seq: seq,
            schedule: limit_schedule(&parts.bank.limits, build_link_schedule(terms)),
            status: RecordStatus::Active,
            first_fetch_done: false,
            transaction_count: Some(0),
            options: Value::Object(terms.options.clone()),
            meta: terms.meta.clone(),
            backfill_months: limit_backfill_months(parts.bank_terms, terms.backfill_months, now),
            created_at: now,
            last_changed_at: now,
        };
        let due_keys = head.due_keys().into_iter();
        let due_entries = due_keys.map(|key| build_due_entry(&head, key)).collect();
        Ok(NewRecord {
            head,
            consent,
            accounts,
            due_entries,
            feed_entries,
        })
    }
}

/// Bytes of a JSON object; none of an empty one.
fn count_bytes(object: &Map<String, Value>) -> Result<usize, AppError> {
    match object.is_empty() {
        true => Ok(0),
        false => Ok(serde_json::to_vec(object)?.len()),
    }
}

/// The accounts with these ids; all where there are none.
fn select_accounts(
    mut facts: Vec<AccountFacts>,
    account_ids: &[String],
) -> Result<Vec<AccountFacts>, AppError> {
    if account_ids.is_empty() {
        return Ok(facts);
    }
    for id in account_ids {
        if !facts.iter().any(|it| it.bank_account_id == *id) {
            let problem = "must be accounts that the consent covers";
            return Err(AppError::invalid_field("account_ids", problem));
        }
    }
    facts.retain(|it| account_ids.contains(&it.bank_account_id));
    Ok(facts)
}

/// The bank's ids of a record's accounts under a new consent.
fn match_accounts(
    accounts: &[Account],
    before: &[ConsentAccount],
    facts: &[AccountFacts],
) -> Result<Vec<ConsentAccount>, AppError> {
    let mut covered = Vec::with_capacity(accounts.len());
    for (account, before) in accounts.iter().zip(before) {
        let number = &account.facts.number;
        let by_id = facts
            .iter()
            .find(|it| it.bank_account_id == before.bank_account_id);
        let matched = by_id.or_else(|| {
            facts
                .iter()
                .find(|it| !it.number.is_empty() && it.number == *number)
        });
        let matched = matched.ok_or_else(|| {
            let problem = "must be of a consent that covers every account of the record";
            AppError::invalid_field("access_token", problem)
        })?;
        covered.push(ConsentAccount {
            account_id: account.id,
            bank_account_id: matched.bank_account_id.clone(),
        });
    }
    Ok(covered)
}

/// A record whose user re-authorised is active again.
fn decide_recovery(head: &RecordHead) -> Option<announce::StatusTransition> {
    (head.status == RecordStatus::ReauthorisationRequired).then(|| announce::StatusTransition {
        status: RecordStatus::Active,
        changes: vec![(None, StateChange::Recovered)],
    })
}

/// The interval of each product.
fn build_link_schedule(terms: &LinkTerms) -> ByProduct<Interval> {
    let mut schedule = find_fastest_intervals(&terms.products, &[]);
    for &product in &terms.synced_products {
        *schedule.get_mut(product) = Some(terms.interval.unwrap_or_default());
    }
    schedule
}

/// The subscription of a link that wants an interval or has a URL.
fn build_link_subscription(
    record: RecordId,
    terms: &LinkTerms,
    now: Timestamp,
) -> Option<okra_store::Subscription> {
    if terms.interval.is_none() && terms.webhook_url.is_none() {
        return None;
    }
    let wanted = SubscriptionTerms {
        products: terms.synced_products.clone(),
        interval: terms.interval.unwrap_or_default(),
        webhook_url: terms.webhook_url.clone(),
    };
    Some(build_subscription(record, &wanted, now))
}

/// A due entry of a new record, of which nothing was dispatched yet.
fn build_due_entry(head: &RecordHead, key: DueKey) -> DueEntry {
    let mut watermarks = ByProduct::default();
    for (product, interval) in head.schedule.iter() {
        if *interval == key.interval {
            *watermarks.get_mut(product) = Some(Watermark::default());
        }
    }
    DueEntry {
        key,
        watermarks,
        state_seq: (head.state_due_key() == Some(key)).then_some(Seq::ZERO),
        failure_state: None,
    }
}

/// Refuses a customer that the app has flagged.
const fn check_unflagged(customer: &Customer) -> Result<(), AppError> {
    match customer.is_blocked {
        true => Err(AppError::CustomerFlagged),
        false => Ok(()),
    }
}
