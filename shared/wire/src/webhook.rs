//! Webhook bodies: the union of what Okra's receivers were seen to read, plus what makes events safe
//! to process: an id, a dense sequence number, and the changed rows.
//!
//! There is one event for each feed entry. Its `callback_code` follows from the entry: for a balance
//! `BALANCE_SUCCESS`; for transactions `TRANSACTIONS_DELETED` where rows are gone, else by the pull that
//! found them `INITIAL_TRANSACTION` (also where it found nothing: an app waits for it) or
//! `PERIODIC_TRANSACTIONS`. New and changed rows are one event, each kind in its own list; what is gone has
//! an entry, and so an event, of its own.
//!
//! Changes of state are events too: `AUTH_SUCCESS` and `ACCOUNTS_SUCCESS` when a record is linked,
//! `FULL_TRANSACTIONS` when an account's history is complete, and, as extensions, `TOKEN_REQUIRED`,
//! `RECOVERED`, `CONSENT_EXPIRING`, `PRODUCT_STATE` and `UNLINKED`. Rows that the pull of the history
//! found on its way come as `HISTORICAL_TRANSACTIONS`.
//!
//! Endpoints in reference mode are sent ids and counts; those in full mode the rows too.

use okra_core::{
    model::{
        ids::{AccountId, AppId, BalanceId, BankId, CustomerId, EventId, RecordId, TransactionId},
        money::Currency,
        snapshot::{
            AccountFacts, BalanceFacts, BookingStatus, Direction, Environment, Product,
            TransactionFacts,
        },
    },
    sync::{
        feed::{
            BodyVersion, Change, FeedEntry, FetchKind, MatchConfidence, ModifiedRow, PayloadMode,
            TransactionsDiff,
        },
        state::{ProductChange, ReauthorisationReason, StateChange},
    },
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    balance::{PeriodicBalance, balance_amounts},
    feed::DriftResource,
    origin::{ResourceIds, ResourceTimes},
    record::callback_url,
    scalar::{EmptyList, IsoInstant, MajorUnits},
    transaction::TransactionResource,
};

/// JSON schemas of all bodies, `components.schemas`, and the `webhooks` of an OpenAPI 3.1 document that
/// refer to them; `WebhookEvent` is any of them.
pub const WEBHOOK_SCHEMAS: &str = include_str!("../webhooks.json");

/// What a body says besides the feed entry itself.
#[derive(Clone, Copy)]
pub struct EventContext<'a> {
    /// Where the API is reached, without a trailing slash.
    pub public_url: &'a str,
    /// The endpoint's URL.
    pub endpoint_url: &'a str,
    /// What the endpoint is sent.
    pub payload_mode: PayloadMode,
    /// The version of the body.
    pub body_version: BodyVersion,
    /// The app.
    pub app: AppId,
    /// Its environment.
    pub env: Environment,
    /// The customer.
    pub customer: CustomerId,
    /// The customer's address, where it is known.
    pub customer_email: Option<&'a str>,
    /// The bank.
    pub bank: BankId,
    /// Its name.
    pub bank_name: &'a str,
    /// Its slug.
    pub bank_slug: &'a str,
    /// Its country, ISO 3166.
    pub country: &'a str,
    /// The account that the entry is about; `None` where it is about the record as a whole.
    pub account_facts: Option<&'a AccountFacts>,
    /// What the app gave when linking; receivers know their user by it.
    pub options: &'a Value,
    /// What it gave besides.
    pub meta: &'a Map<String, Value>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct EventBody<'a> {
    event: &'static str,
    event_id: EventId,
    version: &'static str,
    sequence: u64,
    previous_sequence: u64,
    method: &'static str,
    callback_type: &'static str,
    callback_code: &'static str,
    code: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    message: &'static str,
    meta_responses: (),
    error: Option<EventErrorBody>,
    #[serde(rename = "callbackURL")]
    endpoint_url: &'a str,
    callback_url: String,
    env: Environment,
    started_at: IsoInstant,
    ended_at: IsoInstant,
    record: RecordId,
    #[serde(rename = "recordId")]
    record_id: RecordId,
    #[serde(rename = "customerId")]
    customer_id: CustomerId,
    #[serde(rename = "customerEmail")]
    customer_email: Vec<&'a str>,
    login_type: &'static str,
    country: &'a str,
    #[serde(rename = "bankName")]
    bank_name: &'a str,
    #[serde(rename = "bankType")]
    bank_type: &'static str,
    #[serde(rename = "bankId")]
    bank_id: BankId,
    #[serde(rename = "bankSlug")]
    bank_slug: &'a str,
    #[serde(rename = "accountId", skip_serializing_if = "Option::is_none")]
    account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nuban: Option<&'a str>,
    options: &'a Value,
    meta: &'a Map<String, Value>,
    extras: Map<String, Value>,
    owner: AppId,
    current_project: AppId,
    token: AppId,
    #[serde(rename = "identityType")]
    identity_type: (),
    #[serde(flatten)]
    resource: EventPayload<'a>,
}

/// Why the user must act: in the words of Okra's errors, its code of refused credentials.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct EventErrorBody {
    #[serde(rename = "type")]
    kind: &'static str,
    code: u16,
    reason: &'static str,
    message: &'static str,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AuthBody {
    #[serde(rename = "clientId")]
    client_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    status: bool,
    reauth: bool,
    record: RecordId,
    data: Map<String, Value>,
}

/// Both bodies that receivers were seen to read, in one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AccountBody<'a> {
    _id: AccountId,
    account: AccountId,
    #[serde(rename = "accountId")]
    account_id: AccountId,
    bank: BankId,
    customer: CustomerId,
    env: Environment,
    name: &'a str,
    nuban: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    currency: Currency,
    status: &'static str,
    created_at: IsoInstant,
    last_updated: IsoInstant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
#[serde(untagged)]
enum EventPayload<'a> {
    Auth {
        auth: AuthBody,
    },
    Expiring {
        auth: AuthBody,
        expires_at: IsoInstant,
        days_left: u8,
    },
    Account {
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<AccountBody<'a>>,
    },
    Product {
        product: Product,
        data_status: &'static str,
        reason: Option<&'static str>,
        since: IsoInstant,
    },
    Drift {
        /// Null: they agree again.
        drift: Option<DriftResource>,
    },
    BackfillComplete {
        new_transactions: u64,
        #[serde(rename = "newTransactions")]
        new_transactions_camel: u64,
        oldest_date: String,
        history_end: &'static str,
    },
    Balance {
        #[serde(skip_serializing_if = "Option::is_none")]
        balance: Option<BalanceBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        balance_id: Option<BalanceId>,
    },
    Transactions {
        new_transactions: usize,
        #[serde(rename = "newTransactions")]
        new_transactions_camel: usize,
        added_transactions: Vec<TransactionId>,
        modified_transactions: Vec<ModifiedTransactionBody<'a>>,
        removed_transactions: Vec<TransactionId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        transactions: Option<Vec<TransactionResource>>,
    },
}

/// Both bodies that receivers were seen to read, in one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct BalanceBody<'a> {
    _id: BalanceId,
    __v: u8,
    #[serde(rename = "accountId")]
    account_id: AccountId,
    account: AccountId,
    customer: CustomerId,
    name: &'a str,
    nuban: &'a str,
    available_balance: MajorUnits,
    ledger_balance: MajorUnits,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_available_balance: Option<MajorUnits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_ledger_balance: Option<MajorUnits>,
    currency: Currency,
    status: &'static str,
    env: Environment,
    periodic: PeriodicBalance,
    connected: EmptyList,
    owner: [AppId; 1],
    record: [RecordId; 1],
    projects: EmptyList,
    created_at: IsoInstant,
    last_updated: IsoInstant,
}

/// A transaction that reads otherwise now. How sure we are that it is the same one is said, because
/// banks change ids.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ModifiedTransactionBody<'a> {
    _id: TransactionId,
    id: TransactionId,
    #[serde(flatten)]
    change: Option<TransactionChangeBody<'a>>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct TransactionChangeBody<'a> {
    confidence: &'static str,
    /// The bank's id that the row had before, where it has another now.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
    /// The same, where the row was pending and is booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_transaction_id: Option<&'a str>,
    changed: Vec<&'static str>,
    before: TransactionFactsBody<'a>,
    after: TransactionFactsBody<'a>,
}

/// The facts that changed, in Okra's words, and no others. A fact that the bank does not state is
/// null.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct TransactionFactsBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bank_transaction_id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<MajorUnits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_date: Option<IsoInstant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_date: Option<Option<IsoInstant>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a str>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Option<MajorUnits>>,
}

impl<'a> TransactionFactsBody<'a> {
    /// The facts of these names, which are those of [`TransactionFacts::changed`].
    fn from_named_facts(facts: &'a TransactionFacts, names: &[&str]) -> Self {
        let named = |name| names.contains(&name);
        let direction = match facts.direction {
            Direction::Credit => "credit",
            Direction::Debit => "debit",
        };
        Self {
            bank_transaction_id: named("bank_transaction_id").then_some(facts.bank_id.as_deref()),
            pending: named("pending").then(|| facts.status == BookingStatus::Pending),
            direction: named("direction").then_some(direction),
            amount: named("amount").then_some(MajorUnits(facts.amount)),
            trans_date: named("trans_date").then_some(IsoInstant(facts.booked_at)),
            cleared_date: named("cleared_date").then(|| facts.value_at.map(IsoInstant)),
            notes: named("notes").then_some(&facts.description),
            reference: named("ref").then_some(facts.reference.as_deref()),
            code: named("code").then_some(facts.code.as_deref()),
            balance: named("balance").then(|| facts.balance_after.map(MajorUnits)),
        }
    }
}

impl<'a> TransactionChangeBody<'a> {
    pub(crate) fn new(
        before: &'a TransactionFacts,
        after: &'a TransactionFacts,
        confidence: MatchConfidence,
    ) -> Self {
        let changed = before.changed_fields(after);
        let replaces = before.bank_id.as_deref();
        let replaces = replaces.filter(|_| before.bank_id != after.bank_id);
        let booked =
            before.status == BookingStatus::Pending && after.status == BookingStatus::Booked;
        Self {
            confidence: confidence.as_str(),
            replaces,
            pending_transaction_id: replaces.filter(|_| booked),
            before: TransactionFactsBody::from_named_facts(before, &changed),
            after: TransactionFactsBody::from_named_facts(after, &changed),
            changed,
        }
    }
}

impl<'a> ModifiedTransactionBody<'a> {
    fn new(modified: &'a ModifiedRow, full: bool) -> Self {
        let (before, after) = (&modified.before, &modified.after.facts);
        let change = || TransactionChangeBody::new(before, after, modified.confidence);
        Self {
            _id: modified.after.id,
            id: modified.after.id,
            change: full.then(change),
        }
    }
}

/// The body of the event that tells an endpoint of a feed entry. It depends on nothing but its
/// arguments, so every attempt sends the same bytes.
pub fn render_event_body(context: &EventContext<'_>, entry: &FeedEntry) -> Vec<u8> {
    let body = EventBody::new(context, entry);
    // A body holds texts, numbers and maps with text keys: there is nothing JSON cannot say.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// The name of the event that tells of a change: Okra's `balance.success` and `transaction.success`, and
/// ours in their manner.
pub const fn event_name(change: &Change) -> &'static str {
    match change {
        Change::State(state) => match state {
            StateChange::Linked => "auth.success",
            StateChange::AccountLinked => "accounts.success",
            StateChange::ReauthorisationRequired { .. } => "record.token_required",
            StateChange::Recovered => "record.recovered",
            StateChange::ConsentExpiring { .. } => "record.consent_expiring",
            StateChange::Product(_) => "product.state",
            StateChange::BackfillComplete(_) => "transaction.history_complete",
            StateChange::Drift { .. } => "account.drift",
            StateChange::Unlinked => "record.unlinked",
        },
        Change::Balance { .. } => "balance.success",
        Change::Transactions(_) => "transaction.success",
    }
}

/// The events that records bring, and those about an app's endpoints, which are sent to those alone
/// who ask for them.
pub const EVENT_NAMES: [&str; 16] = [
    "auth.success",
    "accounts.success",
    "balance.success",
    "transaction.success",
    "transaction.history_complete",
    "product.state",
    "account.drift",
    "record.token_required",
    "record.recovered",
    "record.consent_expiring",
    "record.unlinked",
    "endpoint.failing",
    "endpoint.parked",
    "endpoint.disabled",
    "endpoint.recovered",
    "delivery.exhausted",
];

/// True where a filter, a name or `family.*` or `*`, means an event.
pub fn event_matches(filter: &str, name: &str) -> bool {
    match filter.strip_suffix('*') {
        Some(family) => name.starts_with(family),
        None => filter == name,
    }
}

/// True for a filter that means at least one of [`EVENT_NAMES`].
pub fn is_event_filter(filter: &str) -> bool {
    let whole = filter == "*" || !filter.ends_with('*') || filter.ends_with(".*");
    whole && EVENT_NAMES.iter().any(|name| event_matches(filter, name))
}

impl<'a> EventBody<'a> {
    fn new(context: &EventContext<'a>, entry: &'a FeedEntry) -> Self {
        let full = context.payload_mode == PayloadMode::Full;
        let mut error = None;
        let (method, code, message, resource) =
            match &entry.change {
                Change::State(change) => {
                    error = error_for_change(change);
                    state_change_payload(context, entry, change)
                }
                Change::Balance { before, after } => (
                    "BALANCE",
                    "BALANCE_SUCCESS",
                    "Successfully fetched balance",
                    EventPayload::Balance {
                        balance: account_with_facts(context, entry).filter(|_| full).map(
                            |account| balance_body(context, entry, account, before.as_ref(), after),
                        ),
                        balance_id: entry.account.map(BalanceId::for_account),
                    },
                ),
                Change::Transactions(diff) => (
                    "TRANSACTIONS",
                    transactions_code(diff),
                    "Successfully fetched transactions",
                    transactions_payload(context, entry, diff),
                ),
            };
        Self {
            event: event_name(&entry.change),
            event_id: entry.event_id(),
            version: context.body_version.as_str(),
            sequence: entry.seq.0,
            previous_sequence: entry.seq.0.saturating_sub(1),
            method,
            callback_type: method,
            callback_code: code,
            code,
            kind: "CALLBACK",
            status: if error.is_some() {
                "is_error"
            } else {
                "is_success"
            },
            message,
            meta_responses: (),
            error,
            endpoint_url: context.endpoint_url,
            callback_url: callback_url(context.public_url, entry.record, method),
            env: context.env,
            started_at: IsoInstant(entry.committed_at),
            ended_at: IsoInstant(entry.committed_at),
            record: entry.record,
            record_id: entry.record,
            customer_id: context.customer,
            customer_email: context.customer_email.into_iter().collect(),
            login_type: "bank",
            country: context.country,
            bank_name: context.bank_name,
            bank_type: "ind",
            bank_id: context.bank,
            bank_slug: context.bank_slug,
            account_id: entry.account,
            nuban: context.account_facts.map(|account| account.number.as_str()),
            options: context.options,
            meta: context.meta,
            extras: Map::new(),
            owner: context.app,
            current_project: context.app,
            token: context.app,
            identity_type: (),
            resource,
        }
    }
}

/// The account an entry is about, with what is known of it.
fn account_with_facts<'a>(
    context: &EventContext<'a>,
    entry: &FeedEntry,
) -> Option<(AccountId, &'a AccountFacts)> {
    Some((entry.account?, context.account_facts?))
}

fn error_for_change(change: &StateChange) -> Option<EventErrorBody> {
    let StateChange::ReauthorisationRequired { reason } = change else {
        return None;
    };
    Some(EventErrorBody {
        kind: "EXPIRED",
        code: 1006,
        reason: reason.as_str(),
        message: match reason {
            ReauthorisationReason::ConsentExpired => {
                "The consent has expired; the user has to authorise again"
            }
            ReauthorisationReason::ConsentRejected => {
                "The bank refuses the consent; the user has to authorise again"
            }
            ReauthorisationReason::UserPresenceRequired => {
                "The bank wants the user there for each refresh"
            }
        },
    })
}

fn state_change_payload<'a>(
    context: &EventContext<'a>,
    entry: &FeedEntry,
    change: &StateChange,
) -> (&'static str, &'static str, &'static str, EventPayload<'a>) {
    let auth = |status, reauth| AuthBody {
        client_id: format!(
            "okr-{}-{}",
            entry.committed_at.as_millisecond(),
            entry.record
        ),
        kind: "validate",
        status,
        reauth,
        record: entry.record,
        data: Map::new(),
    };
    match change {
        StateChange::Linked => (
            "AUTH",
            "AUTH_SUCCESS",
            "Record callback started!",
            EventPayload::Auth {
                auth: auth(true, false),
            },
        ),
        StateChange::AccountLinked => (
            "ACCOUNTS",
            "ACCOUNTS_SUCCESS",
            "Successfully fetched accounts",
            EventPayload::Account {
                account: account_with_facts(context, entry)
                    .map(|(id, facts)| account_body(context, entry, id, facts)),
            },
        ),
        StateChange::ReauthorisationRequired { .. } => (
            "AUTH",
            "TOKEN_REQUIRED",
            "The user has to authorise the record again",
            EventPayload::Auth {
                auth: auth(false, true),
            },
        ),
        StateChange::Recovered => (
            "AUTH",
            "RECOVERED",
            "The record is refreshed again",
            EventPayload::Auth {
                auth: auth(true, false),
            },
        ),
        StateChange::ConsentExpiring {
            expires_at,
            days_before: days,
        } => (
            "AUTH",
            "CONSENT_EXPIRING",
            "The consent of the record will end",
            EventPayload::Expiring {
                auth: auth(true, true),
                expires_at: IsoInstant(*expires_at),
                days_left: *days,
            },
        ),
        StateChange::Product(ProductChange {
            product,
            availability,
            class,
        }) => (
            match product {
                Product::Balance => "BALANCE",
                Product::Transactions => "TRANSACTIONS",
            },
            "PRODUCT_STATE",
            "The state of a product changed",
            EventPayload::Product {
                product: *product,
                data_status: availability.as_str(),
                reason: class.map(okra_core::model::fault::FaultClass::as_str),
                since: IsoInstant(entry.committed_at),
            },
        ),
        StateChange::BackfillComplete(history) => (
            "TRANSACTIONS",
            "FULL_TRANSACTIONS",
            "Successfully fetched transactions",
            EventPayload::BackfillComplete {
                new_transactions: history.rows,
                new_transactions_camel: history.rows,
                oldest_date: history.oldest_date.to_string(),
                history_end: history.end_reason.as_str(),
            },
        ),
        StateChange::Drift { drift } => (
            "BALANCE",
            "DRIFT",
            "Balance and transactions of an account disagree, or agree again",
            EventPayload::Drift {
                drift: drift.as_ref().map(DriftResource::from),
            },
        ),
        StateChange::Unlinked => (
            "AUTH",
            "UNLINKED",
            "The record was unlinked",
            EventPayload::Auth {
                auth: auth(false, false),
            },
        ),
    }
}

fn account_body<'a>(
    context: &EventContext<'_>,
    entry: &FeedEntry,
    id: AccountId,
    facts: &'a AccountFacts,
) -> AccountBody<'a> {
    AccountBody {
        _id: id,
        account: id,
        account_id: id,
        bank: context.bank,
        customer: context.customer,
        env: context.env,
        name: &facts.name,
        nuban: &facts.number,
        kind: &facts.kind,
        currency: facts.currency,
        status: "Active",
        created_at: IsoInstant(entry.committed_at),
        last_updated: IsoInstant(entry.committed_at),
    }
}

fn balance_body<'a>(
    context: &EventContext<'a>,
    entry: &FeedEntry,
    (id, facts): (AccountId, &'a AccountFacts),
    before: Option<&BalanceFacts>,
    after: &BalanceFacts,
) -> BalanceBody<'a> {
    let (available, ledger) = balance_amounts(after, facts.currency);
    let before = before.map(|before| balance_amounts(before, facts.currency));
    BalanceBody {
        _id: BalanceId::for_account(id),
        __v: 0,
        account_id: id,
        account: id,
        customer: context.customer,
        name: &facts.name,
        nuban: &facts.number,
        available_balance: available,
        ledger_balance: ledger,
        previous_available_balance: before.map(|before| before.0),
        previous_ledger_balance: before.map(|before| before.1),
        currency: facts.currency,
        status: "Active",
        env: context.env,
        periodic: PeriodicBalance::default(),
        connected: EmptyList,
        owner: [context.app],
        record: [entry.record],
        projects: EmptyList,
        created_at: IsoInstant(entry.committed_at),
        last_updated: IsoInstant(entry.committed_at),
    }
}

fn transactions_code(diff: &TransactionsDiff) -> &'static str {
    if diff.added.is_empty() && diff.modified.is_empty() && !diff.removed.is_empty() {
        return "TRANSACTIONS_DELETED";
    }
    match diff.fetch_kind {
        // Okra's page spelled it with an S; receivers were seen to compare with this.
        FetchKind::Initial => "INITIAL_TRANSACTION",
        // Not Okra's: its `FULL_TRANSACTIONS` says that all of it is there.
        FetchKind::Backfill => "HISTORICAL_TRANSACTIONS",
        FetchKind::Periodic => "PERIODIC_TRANSACTIONS",
    }
}

fn transactions_payload<'a>(
    context: &EventContext<'a>,
    entry: &FeedEntry,
    diff: &'a TransactionsDiff,
) -> EventPayload<'a> {
    let full = context.payload_mode == PayloadMode::Full;
    let ids = |account| ResourceIds {
        app: context.app,
        env: context.env,
        record: entry.record,
        customer: context.customer,
        bank: context.bank,
        account,
    };
    let rows = |account| {
        let ids = ids(account);
        let modified = diff.modified.iter().map(|modified| &modified.after);
        diff.added
            .iter()
            .chain(modified)
            .map(|row| {
                TransactionResource::with_plain_ids(
                    ids,
                    row,
                    ResourceTimes::at_instant(entry.committed_at),
                )
            })
            .collect()
    };
    EventPayload::Transactions {
        new_transactions: diff.added.len(),
        new_transactions_camel: diff.added.len(),
        added_transactions: diff.added.iter().map(|row| row.id).collect(),
        modified_transactions: diff
            .modified
            .iter()
            .map(|modified| ModifiedTransactionBody::new(modified, full))
            .collect(),
        removed_transactions: diff.removed.iter().map(|row| row.id).collect(),
        transactions: entry.account.filter(|_| full).map(rows),
    }
}

#[cfg(test)]
mod tests {
    use okra_core::{
        model::{fault::FaultClass, money::Money, snapshot::Transaction as Known},
        sync::state::{Availability, BackfillComplete, BackfillEnd},
    };

    use super::*;

    fn sample_facts(minor: i64, text: &str) -> TransactionFacts {
        TransactionFacts {
            bank_id: Some("b-1".to_owned()),
            status: BookingStatus::Booked,
            direction: Direction::Debit,
            amount: Money::new(minor, Currency::NGN),
            booked_at: "2023-06-01T10:00:00Z".parse().unwrap(),
            value_at: Some("2023-06-02T00:00:00Z".parse().unwrap()),
            description: text.to_owned(),
            reference: Some("000123".to_owned()),
            code: None,
            balance_after: Some(Money::new(2_918_050, Currency::NGN)),
        }
    }

    fn sample_row(id: u8, facts: TransactionFacts) -> Known {
        Known {
            id: TransactionId::from_bytes([id; 12]),
            facts,
        }
    }

    fn balance_change(before: Option<i64>, after: i64) -> Change {
        let facts = |minor| BalanceFacts {
            available: Some(Money::new(minor, Currency::NGN)),
            ledger: None,
        };
        Change::Balance {
            before: before.map(facts),
            after: facts(after),
        }
    }

    /// One new row, one that was booked, one that is gone.
    fn mixed_change() -> Change {
        let pending = TransactionFacts {
            status: BookingStatus::Pending,
            value_at: None,
            reference: None,
            bank_id: None,
            ..sample_facts(490_000, "POS SHOPRITE")
        };
        Change::Transactions(TransactionsDiff {
            fetch_kind: FetchKind::Periodic,
            added: vec![sample_row(
                1,
                sample_facts(500_000, "POS PURCHASE \"IKEJA\""),
            )],
            modified: vec![ModifiedRow {
                before: pending,
                after: sample_row(2, sample_facts(500_050, "POS SHOPRITE IKEJA")),
                confidence: MatchConfidence::Medium,
            }],
            removed: vec![sample_row(3, sample_facts(1, "GONE"))],
            previous_seqs: std::collections::BTreeMap::new(),
        })
    }

    fn sample_entry(change: Change) -> FeedEntry {
        FeedEntry {
            record: RecordId::from_bytes([0x64; 12]),
            seq: okra_core::model::ids::Seq(7),
            committed_at: "2023-06-04T00:27:46.459Z".parse().unwrap(),
            account: Some(AccountId::from_bytes([0xac; 12])),
            change,
        }
    }

    fn sample_account() -> AccountFacts {
        AccountFacts {
            bank_account_id: "b-1".to_owned(),
            name: "ADA TEST".to_owned(),
            number: "0001112223".to_owned(),
            kind: "SAVINGS".to_owned(),
            currency: Currency::NGN,
        }
    }

    fn sample_context<'a>(
        (options, meta): (&'a Value, &'a Map<String, Value>),
        account: Option<&'a AccountFacts>,
        payload: PayloadMode,
    ) -> EventContext<'a> {
        EventContext {
            public_url: "https://sync.example",
            endpoint_url: "https://app.example/okra/hook/",
            payload_mode: payload,
            body_version: BodyVersion::LATEST,
            app: AppId::from_bytes([0xa0; 12]),
            env: Environment::Sandbox,
            customer: CustomerId::from_bytes([0xc0; 12]),
            customer_email: Some("ada@app.example"),
            bank: BankId::from_bytes([0xba; 12]),
            bank_name: "Guaranty Trust Bank",
            bank_slug: "guaranty-trust-bank",
            country: "NG",
            account_facts: account,
            options,
            meta,
        }
    }

    fn check_snapshot(name: &str, payload: PayloadMode, change: Change) {
        let options = serde_json::json!({ "UserId": 42 });
        let (holder, mut entry) = (sample_account(), sample_entry(change));
        let of_account = match &entry.change {
            Change::State(change) => matches!(
                change,
                StateChange::AccountLinked
                    | StateChange::Product(_)
                    | StateChange::BackfillComplete(_)
                    | StateChange::Drift { .. }
            ),
            Change::Balance { .. } | Change::Transactions(_) => true,
        };
        if !of_account {
            entry.account = None;
        }
        let meta = Map::new();
        let context = sample_context((&options, &meta), of_account.then_some(&holder), payload);
        let pretty = serde_json::to_string_pretty(&EventBody::new(&context, &entry)).unwrap();
        insta::assert_snapshot!(name, pretty);
        let sent = render_event_body(&context, &entry);
        assert_eq!(
            sent,
            render_event_body(&context, &entry),
            "every attempt is the same"
        );
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent, serde_json::from_str::<Value>(&pretty).unwrap());
        crate::operation::tests::assert_documented(&sent);
    }

    #[test]
    fn what_the_app_gave_comes_back() {
        let options = serde_json::json!({ "UserId": 42 });
        let meta = Map::from_iter([("plan".to_owned(), Value::from("gold"))]);
        for payload in [PayloadMode::Full, PayloadMode::Reference] {
            let context = sample_context((&options, &meta), None, payload);
            let mut entry = sample_entry(Change::State(StateChange::Linked));
            entry.account = None;
            let sent: Value = serde_json::from_slice(&render_event_body(&context, &entry)).unwrap();
            assert_eq!(sent["options"], options);
            assert_eq!(sent["meta"]["plan"], "gold");
        }
    }

    #[test]
    fn every_event_is_documented() {
        let schemas: Value = serde_json::from_str(WEBHOOK_SCHEMAS).unwrap();
        let documented: Vec<&String> = schemas["webhooks"].as_object().unwrap().keys().collect();
        let mut known: Vec<&str> = EVENT_NAMES.to_vec();
        known.push("webhook.ping");
        known.sort_unstable();
        assert_eq!(documented, known);
        for (filter, expected) in [
            ("balance.success", true),
            ("balance.*", true),
            ("*", true),
            ("balance", false),
            ("bal*", false),
            ("income.*", false),
            ("", false),
        ] {
            assert_eq!(is_event_filter(filter), expected, "{filter}");
        }
        assert!(event_matches("endpoint.*", "endpoint.failing"));
        assert!(!event_matches("endpoint.*", "balance.success"));
    }

    #[test]
    fn bodies_are_the_union_of_what_receivers_read() {
        let full = PayloadMode::Full;
        check_snapshot("balance_full", full, balance_change(Some(15_337), 15_300));
        let first = balance_change(None, 2_918_000);
        check_snapshot("balance_reference", PayloadMode::Reference, first);
        check_snapshot("transactions_full", full, mixed_change());
        check_snapshot(
            "transactions_reference",
            PayloadMode::Reference,
            mixed_change(),
        );
    }

    #[test]
    fn changes_of_state_are_events_in_the_same_envelope() {
        let full = PayloadMode::Full;
        let check = |name, change| check_snapshot(name, full, Change::State(change));
        check("linked", StateChange::Linked);
        check("account_linked", StateChange::AccountLinked);
        let reason = ReauthorisationReason::ConsentRejected;
        check(
            "token_required",
            StateChange::ReauthorisationRequired { reason },
        );
        check("recovered", StateChange::Recovered);
        let expiring = StateChange::ConsentExpiring {
            expires_at: "2023-06-11T00:27:46Z".parse().unwrap(),
            days_before: 7,
        };
        check("consent_expiring", expiring);
        let product = ProductChange {
            product: Product::Balance,
            availability: Availability::Unavailable,
            class: Some(FaultClass::BankUnavailable),
        };
        check("product_state", StateChange::Product(product));
        let history = BackfillComplete {
            oldest_date: jiff::civil::date(2021, 6, 4),
            rows: 231,
            end_reason: BackfillEnd::RequestedLimit,
        };
        check("history_complete", StateChange::BackfillComplete(history));
        let drift = okra_core::sync::drift::Drift {
            amount: Money::new(-2_500, Currency::NGN),
            since: "2023-06-04T00:27:46Z".parse().unwrap(),
            check: okra_core::sync::drift::TieOutCheck::Movement,
            days: 0,
        };
        check("drift", StateChange::Drift { drift: Some(drift) });
        check("drift_over", StateChange::Drift { drift: None });
    }

    #[test]
    fn the_code_follows_from_the_diff() {
        let check = |pull, added: bool, removed: bool, expected: &str| {
            let some = |there: bool| {
                there
                    .then(|| sample_row(1, sample_facts(1, "")))
                    .into_iter()
                    .collect::<Vec<_>>()
            };
            let diff = TransactionsDiff {
                fetch_kind: pull,
                added: some(added),
                modified: vec![],
                removed: some(removed),
                previous_seqs: std::collections::BTreeMap::new(),
            };
            assert_eq!(
                transactions_code(&diff),
                expected,
                "{pull:?} {added} {removed}"
            );
        };
        check(FetchKind::Initial, true, false, "INITIAL_TRANSACTION");
        check(FetchKind::Initial, false, false, "INITIAL_TRANSACTION");
        check(FetchKind::Backfill, true, false, "HISTORICAL_TRANSACTIONS");
        check(FetchKind::Periodic, true, true, "PERIODIC_TRANSACTIONS");
        check(FetchKind::Periodic, false, true, "TRANSACTIONS_DELETED");
    }

    #[test]
    fn every_fact_that_can_change_is_shown_under_its_name() {
        let before = sample_facts(1, "a");
        let after = TransactionFacts {
            bank_id: None,
            status: BookingStatus::Pending,
            direction: Direction::Credit,
            amount: Money::new(2, Currency::NGN),
            booked_at: "2023-06-03T10:00:00Z".parse().unwrap(),
            value_at: None,
            description: "b".to_owned(),
            reference: None,
            code: Some("k".to_owned()),
            balance_after: None,
        };
        let changed = before.changed_fields(&after);
        let shown =
            serde_json::to_value(TransactionFactsBody::from_named_facts(&after, &changed)).unwrap();
        let mut shown: Vec<&str> = shown
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut changed = changed;
        shown.sort_unstable();
        changed.sort_unstable();
        assert_eq!(shown, changed);
    }
}
