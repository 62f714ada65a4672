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
    feed::{
        BodyVersion, Change, Confidence, FeedEntry, Modified, PayloadMode, Pull, TransactionsDiff,
    },
    ids::{AccountId, AppId, BalanceId, BankId, CustomerId, EventId, RecordId, TransactionId},
    model::{
        AccountFacts, BalanceFacts, BookingStatus, Direction, Environment, Product,
        TransactionFacts,
    },
    money::Currency,
    state::{ProductChange, StateChange, TokenReason},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    balance::{Periodic, amounts},
    feed::Drift,
    origin::{Ids, Times},
    record::callback_url,
    scalar::{Empty, Instant, Number},
    transaction::Transaction,
};

/// JSON schemas of all bodies, `components.schemas`, and the `webhooks` of an OpenAPI 3.1 document that
/// refer to them; `WebhookEvent` is any of them.
pub const SCHEMAS: &str = include_str!("../webhooks.json");

/// What a body says besides the feed entry itself.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where the API is reached, without a trailing slash.
    pub public_url: &'a str,
    /// The endpoint's URL.
    pub endpoint_url: &'a str,
    /// What the endpoint is sent.
    pub payload: PayloadMode,
    /// The version of the body.
    pub version: BodyVersion,
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
    pub account: Option<&'a AccountFacts>,
    /// What the app gave when linking; receivers know their user by it.
    pub options: &'a Value,
    /// What it gave besides.
    pub meta: &'a Map<String, Value>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Body<'a> {
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
    error: Option<ErrorBody>,
    #[serde(rename = "callbackURL")]
    endpoint_url: &'a str,
    callback_url: String,
    env: Environment,
    started_at: Instant,
    ended_at: Instant,
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
    resource: Resource<'a>,
}

/// Why the user must act: in the words of Okra's errors, its code of refused credentials.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ErrorBody {
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
    created_at: Instant,
    last_updated: Instant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
#[serde(untagged)]
enum Resource<'a> {
    Auth {
        auth: AuthBody,
    },
    Expiring {
        auth: AuthBody,
        expires_at: Instant,
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
        since: Instant,
    },
    Drift {
        /// Null: they agree again.
        drift: Option<Drift>,
    },
    History {
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
        modified_transactions: Vec<ModifiedBody<'a>>,
        removed_transactions: Vec<TransactionId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        transactions: Option<Vec<Transaction>>,
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
    available_balance: Number,
    ledger_balance: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_available_balance: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_ledger_balance: Option<Number>,
    currency: Currency,
    status: &'static str,
    env: Environment,
    periodic: Periodic,
    connected: Empty,
    owner: [AppId; 1],
    record: [RecordId; 1],
    projects: Empty,
    created_at: Instant,
    last_updated: Instant,
}

/// A transaction that reads otherwise now. How sure we are that it is the same one is said, because
/// banks change ids.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ModifiedBody<'a> {
    _id: TransactionId,
    id: TransactionId,
    #[serde(flatten)]
    change: Option<ChangeBody<'a>>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct ChangeBody<'a> {
    confidence: &'static str,
    /// The bank's id that the row had before, where it has another now.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
    /// The same, where the row was pending and is booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_transaction_id: Option<&'a str>,
    changed: Vec<&'static str>,
    before: FactsBody<'a>,
    after: FactsBody<'a>,
}

/// The facts that changed, in Okra's words, and no others. A fact that the bank does not state is
/// null.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct FactsBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bank_transaction_id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_date: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_date: Option<Option<Instant>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a str>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Option<Number>>,
}

impl<'a> FactsBody<'a> {
    /// The facts of these names, which are those of [`TransactionFacts::changed`].
    fn of(facts: &'a TransactionFacts, names: &[&str]) -> Self {
        let named = |name| names.contains(&name);
        let direction = match facts.direction {
            Direction::Credit => "credit",
            Direction::Debit => "debit",
        };
        Self {
            bank_transaction_id: named("bank_transaction_id").then_some(facts.bank_id.as_deref()),
            pending: named("pending").then(|| facts.status == BookingStatus::Pending),
            direction: named("direction").then_some(direction),
            amount: named("amount").then_some(Number(facts.amount)),
            trans_date: named("trans_date").then_some(Instant(facts.booked_at)),
            cleared_date: named("cleared_date").then(|| facts.value_at.map(Instant)),
            notes: named("notes").then_some(&facts.description),
            reference: named("ref").then_some(facts.reference.as_deref()),
            code: named("code").then_some(facts.code.as_deref()),
            balance: named("balance").then(|| facts.balance_after.map(Number)),
        }
    }
}

impl<'a> ChangeBody<'a> {
    pub(crate) fn new(
        before: &'a TransactionFacts,
        after: &'a TransactionFacts,
        confidence: Confidence,
    ) -> Self {
        let changed = before.changed(after);
        let replaces = before.bank_id.as_deref();
        let replaces = replaces.filter(|_| before.bank_id != after.bank_id);
        let booked =
            before.status == BookingStatus::Pending && after.status == BookingStatus::Booked;
        Self {
            confidence: confidence.as_str(),
            replaces,
            pending_transaction_id: replaces.filter(|_| booked),
            before: FactsBody::of(before, &changed),
            after: FactsBody::of(after, &changed),
            changed,
        }
    }
}

impl<'a> ModifiedBody<'a> {
    fn new(modified: &'a Modified, full: bool) -> Self {
        let (before, after) = (&modified.before, &modified.after.facts);
        let change = || ChangeBody::new(before, after, modified.confidence);
        Self {
            _id: modified.after.id,
            id: modified.after.id,
            change: full.then(change),
        }
    }
}

/// The body of the event that tells an endpoint of a feed entry. It depends on nothing but its
/// arguments, so every attempt sends the same bytes.
pub fn body(context: &Context<'_>, entry: &FeedEntry) -> Vec<u8> {
    let body = Body::new(context, entry);
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
            StateChange::TokenRequired { .. } => "record.token_required",
            StateChange::Recovered => "record.recovered",
            StateChange::ConsentExpiring { .. } => "record.consent_expiring",
            StateChange::Product(_) => "product.state",
            StateChange::HistoryComplete(_) => "transaction.history_complete",
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

impl<'a> Body<'a> {
    fn new(context: &Context<'a>, entry: &'a FeedEntry) -> Self {
        let full = context.payload == PayloadMode::Full;
        let mut error = None;
        let (method, code, message, resource) = match &entry.change {
            Change::State(change) => {
                error = error_of(change);
                state(context, entry, change)
            }
            Change::Balance { before, after } => (
                "BALANCE",
                "BALANCE_SUCCESS",
                "Successfully fetched balance",
                Resource::Balance {
                    balance: account_of(context, entry)
                        .filter(|_| full)
                        .map(|account| balance(context, entry, account, before.as_ref(), after)),
                    balance_id: entry.account.map(BalanceId::of),
                },
            ),
            Change::Transactions(diff) => (
                "TRANSACTIONS",
                code_of(diff),
                "Successfully fetched transactions",
                transactions(context, entry, diff),
            ),
        };
        Self {
            event: event_name(&entry.change),
            event_id: entry.event_id(),
            version: context.version.as_str(),
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
            started_at: Instant(entry.at),
            ended_at: Instant(entry.at),
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
            nuban: context.account.map(|account| account.number.as_str()),
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
fn account_of<'a>(
    context: &Context<'a>,
    entry: &FeedEntry,
) -> Option<(AccountId, &'a AccountFacts)> {
    Some((entry.account?, context.account?))
}

fn error_of(change: &StateChange) -> Option<ErrorBody> {
    let StateChange::TokenRequired { reason } = change else {
        return None;
    };
    Some(ErrorBody {
        kind: "EXPIRED",
        code: 1006,
        reason: reason.as_str(),
        message: match reason {
            TokenReason::ConsentExpired => {
                "The consent has expired; the user has to authorise again"
            }
            TokenReason::ConsentRefused => {
                "The bank refuses the consent; the user has to authorise again"
            }
            TokenReason::UserNeeded => "The bank wants the user there for each refresh",
        },
    })
}

fn state<'a>(
    context: &Context<'a>,
    entry: &FeedEntry,
    change: &StateChange,
) -> (&'static str, &'static str, &'static str, Resource<'a>) {
    let auth = |status, reauth| AuthBody {
        client_id: format!("okr-{}-{}", entry.at.as_millisecond(), entry.record),
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
            Resource::Auth {
                auth: auth(true, false),
            },
        ),
        StateChange::AccountLinked => (
            "ACCOUNTS",
            "ACCOUNTS_SUCCESS",
            "Successfully fetched accounts",
            Resource::Account {
                account: account_of(context, entry)
                    .map(|(id, facts)| account(context, entry, id, facts)),
            },
        ),
        StateChange::TokenRequired { .. } => (
            "AUTH",
            "TOKEN_REQUIRED",
            "The user has to authorise the record again",
            Resource::Auth {
                auth: auth(false, true),
            },
        ),
        StateChange::Recovered => (
            "AUTH",
            "RECOVERED",
            "The record is refreshed again",
            Resource::Auth {
                auth: auth(true, false),
            },
        ),
        StateChange::ConsentExpiring { expires_at, days } => (
            "AUTH",
            "CONSENT_EXPIRING",
            "The consent of the record will end",
            Resource::Expiring {
                auth: auth(true, true),
                expires_at: Instant(*expires_at),
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
            Resource::Product {
                product: *product,
                data_status: availability.as_str(),
                reason: class.map(okra_core::fault::FaultClass::as_str),
                since: Instant(entry.at),
            },
        ),
        StateChange::HistoryComplete(history) => (
            "TRANSACTIONS",
            "FULL_TRANSACTIONS",
            "Successfully fetched transactions",
            Resource::History {
                new_transactions: history.rows,
                new_transactions_camel: history.rows,
                oldest_date: history.oldest.to_string(),
                history_end: history.end.as_str(),
            },
        ),
        StateChange::Drift { drift } => (
            "BALANCE",
            "DRIFT",
            "Balance and transactions of an account disagree, or agree again",
            Resource::Drift {
                drift: drift.as_ref().map(Drift::from),
            },
        ),
        StateChange::Unlinked => (
            "AUTH",
            "UNLINKED",
            "The record was unlinked",
            Resource::Auth {
                auth: auth(false, false),
            },
        ),
    }
}

fn account<'a>(
    context: &Context<'_>,
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
        created_at: Instant(entry.at),
        last_updated: Instant(entry.at),
    }
}

fn balance<'a>(
    context: &Context<'a>,
    entry: &FeedEntry,
    (id, facts): (AccountId, &'a AccountFacts),
    before: Option<&BalanceFacts>,
    after: &BalanceFacts,
) -> BalanceBody<'a> {
    let (available, ledger) = amounts(after, facts.currency);
    let before = before.map(|before| amounts(before, facts.currency));
    BalanceBody {
        _id: BalanceId::of(id),
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
        periodic: Periodic::default(),
        connected: Empty,
        owner: [context.app],
        record: [entry.record],
        projects: Empty,
        created_at: Instant(entry.at),
        last_updated: Instant(entry.at),
    }
}

fn code_of(diff: &TransactionsDiff) -> &'static str {
    if diff.added.is_empty() && diff.modified.is_empty() && !diff.removed.is_empty() {
        return "TRANSACTIONS_DELETED";
    }
    match diff.pull {
        // Okra's page spelled it with an S; receivers were seen to compare with this.
        Pull::Initial => "INITIAL_TRANSACTION",
        // Not Okra's: its `FULL_TRANSACTIONS` says that all of it is there.
        Pull::Full => "HISTORICAL_TRANSACTIONS",
        Pull::Periodic => "PERIODIC_TRANSACTIONS",
    }
}

fn transactions<'a>(
    context: &Context<'a>,
    entry: &FeedEntry,
    diff: &'a TransactionsDiff,
) -> Resource<'a> {
    let full = context.payload == PayloadMode::Full;
    let ids = |account| Ids {
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
            .map(|row| Transaction::plain(ids, row, Times::at(entry.at)))
            .collect()
    };
    Resource::Transactions {
        new_transactions: diff.added.len(),
        new_transactions_camel: diff.added.len(),
        added_transactions: diff.added.iter().map(|row| row.id).collect(),
        modified_transactions: diff
            .modified
            .iter()
            .map(|modified| ModifiedBody::new(modified, full))
            .collect(),
        removed_transactions: diff.removed.iter().map(|row| row.id).collect(),
        transactions: entry.account.filter(|_| full).map(rows),
    }
}

#[cfg(test)]
mod tests {
    use okra_core::{
        fault::FaultClass,
        model::Transaction as Known,
        money::Money,
        state::{Availability, HistoryComplete, HistoryEnd},
    };

    use super::*;

    fn facts(minor: i64, text: &str) -> TransactionFacts {
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

    fn row(id: u8, facts: TransactionFacts) -> Known {
        Known {
            id: TransactionId::from_bytes([id; 12]),
            facts,
        }
    }

    fn balance(before: Option<i64>, after: i64) -> Change {
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
    fn mixed() -> Change {
        let pending = TransactionFacts {
            status: BookingStatus::Pending,
            value_at: None,
            reference: None,
            bank_id: None,
            ..facts(490_000, "POS SHOPRITE")
        };
        Change::Transactions(TransactionsDiff {
            pull: Pull::Periodic,
            added: vec![row(1, facts(500_000, "POS PURCHASE \"IKEJA\""))],
            modified: vec![Modified {
                before: pending,
                after: row(2, facts(500_050, "POS SHOPRITE IKEJA")),
                confidence: Confidence::Medium,
            }],
            removed: vec![row(3, facts(1, "GONE"))],
            previous: std::collections::BTreeMap::new(),
        })
    }

    fn entry(change: Change) -> FeedEntry {
        FeedEntry {
            record: RecordId::from_bytes([0x64; 12]),
            seq: okra_core::ids::Seq(7),
            at: "2023-06-04T00:27:46.459Z".parse().unwrap(),
            account: Some(AccountId::from_bytes([0xac; 12])),
            change,
        }
    }

    fn holder() -> AccountFacts {
        AccountFacts {
            bank_account_id: "b-1".to_owned(),
            name: "ADA TEST".to_owned(),
            number: "0001112223".to_owned(),
            kind: "SAVINGS".to_owned(),
            currency: Currency::NGN,
        }
    }

    fn context<'a>(
        (options, meta): (&'a Value, &'a Map<String, Value>),
        account: Option<&'a AccountFacts>,
        payload: PayloadMode,
    ) -> Context<'a> {
        Context {
            public_url: "https://sync.example",
            endpoint_url: "https://app.example/okra/hook/",
            payload,
            version: BodyVersion::LATEST,
            app: AppId::from_bytes([0xa0; 12]),
            env: Environment::Sandbox,
            customer: CustomerId::from_bytes([0xc0; 12]),
            customer_email: Some("ada@app.example"),
            bank: BankId::from_bytes([0xba; 12]),
            bank_name: "Guaranty Trust Bank",
            bank_slug: "guaranty-trust-bank",
            country: "NG",
            account,
            options,
            meta,
        }
    }

    fn check(name: &str, payload: PayloadMode, change: Change) {
        let options = serde_json::json!({ "UserId": 42 });
        let (holder, mut entry) = (holder(), entry(change));
        let of_account = match &entry.change {
            Change::State(change) => matches!(
                change,
                StateChange::AccountLinked
                    | StateChange::Product(_)
                    | StateChange::HistoryComplete(_)
                    | StateChange::Drift { .. }
            ),
            Change::Balance { .. } | Change::Transactions(_) => true,
        };
        if !of_account {
            entry.account = None;
        }
        let meta = Map::new();
        let context = context((&options, &meta), of_account.then_some(&holder), payload);
        let pretty = serde_json::to_string_pretty(&Body::new(&context, &entry)).unwrap();
        insta::assert_snapshot!(name, pretty);
        let sent = body(&context, &entry);
        assert_eq!(sent, body(&context, &entry), "every attempt is the same");
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent, serde_json::from_str::<Value>(&pretty).unwrap());
        crate::operation::tests::conforms(&sent);
    }

    #[test]
    fn what_the_app_gave_comes_back() {
        let options = serde_json::json!({ "UserId": 42 });
        let meta = Map::from_iter([("plan".to_owned(), Value::from("gold"))]);
        for payload in [PayloadMode::Full, PayloadMode::Reference] {
            let context = context((&options, &meta), None, payload);
            let mut entry = entry(Change::State(StateChange::Linked));
            entry.account = None;
            let sent: Value = serde_json::from_slice(&body(&context, &entry)).unwrap();
            assert_eq!(sent["options"], options);
            assert_eq!(sent["meta"]["plan"], "gold");
        }
    }

    #[test]
    fn every_event_is_documented() {
        let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
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
        check("balance_full", full, balance(Some(15_337), 15_300));
        let first = balance(None, 2_918_000);
        check("balance_reference", PayloadMode::Reference, first);
        check("transactions_full", full, mixed());
        check("transactions_reference", PayloadMode::Reference, mixed());
    }

    #[test]
    fn changes_of_state_are_events_in_the_same_envelope() {
        let full = PayloadMode::Full;
        let check = |name, change| check(name, full, Change::State(change));
        check("linked", StateChange::Linked);
        check("account_linked", StateChange::AccountLinked);
        let reason = TokenReason::ConsentRefused;
        check("token_required", StateChange::TokenRequired { reason });
        check("recovered", StateChange::Recovered);
        let expiring = StateChange::ConsentExpiring {
            expires_at: "2023-06-11T00:27:46Z".parse().unwrap(),
            days: 7,
        };
        check("consent_expiring", expiring);
        let product = ProductChange {
            product: Product::Balance,
            availability: Availability::Unavailable,
            class: Some(FaultClass::BankUnavailable),
        };
        check("product_state", StateChange::Product(product));
        let history = HistoryComplete {
            oldest: jiff::civil::date(2021, 6, 4),
            rows: 231,
            end: HistoryEnd::Limit,
        };
        check("history_complete", StateChange::HistoryComplete(history));
        let drift = okra_core::tieout::Drift {
            amount: Money::new(-2_500, Currency::NGN),
            since: "2023-06-04T00:27:46Z".parse().unwrap(),
            check: okra_core::tieout::Check::Movement,
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
                    .then(|| row(1, facts(1, "")))
                    .into_iter()
                    .collect::<Vec<_>>()
            };
            let diff = TransactionsDiff {
                pull,
                added: some(added),
                modified: vec![],
                removed: some(removed),
                previous: std::collections::BTreeMap::new(),
            };
            assert_eq!(code_of(&diff), expected, "{pull:?} {added} {removed}");
        };
        check(Pull::Initial, true, false, "INITIAL_TRANSACTION");
        check(Pull::Initial, false, false, "INITIAL_TRANSACTION");
        check(Pull::Full, true, false, "HISTORICAL_TRANSACTIONS");
        check(Pull::Periodic, true, true, "PERIODIC_TRANSACTIONS");
        check(Pull::Periodic, false, true, "TRANSACTIONS_DELETED");
    }

    #[test]
    fn every_fact_that_can_change_is_shown_under_its_name() {
        let before = facts(1, "a");
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
        let changed = before.changed(&after);
        let shown = serde_json::to_value(FactsBody::of(&after, &changed)).unwrap();
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
