//! The keys of all items of the table: [`Key`] has a variant for each kind, which says where the item lies and what is
//! in it, and builds its partition key (`pk`) and sort key (`sk`). Nothing else in this crate writes a key.
//!
//! There is no index: ids carry their keys, and what must be listed has a link item or lies in one partition under one
//! prefix. Times, numbers and minutes are written with leading zeros, so that sort keys are in their order.
//!
//! The documentation of each variant reads "Name: `pk` / `sk`. Value: ...". A test makes the table of
//! `docs/ARCHITECTURE.md` from it, and compares it with the keys as they are built.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use okra_core::{
    delivery::state_machine::DeliveryKey,
    model::{
        ids::{
            ACCOUNT_TAG_BYTES, AccountId, AccountTag, AppId, BankId, CustomerId, CustomerTag,
            EndpointId, EpochDay, FeedSource, ID_BYTES, ReceiptId, RecordId, ReplayId, Seq,
            SubscriptionId, TransactionId,
        },
        interval::{DueKey, Interval, LANES_PER_SLOT, Lane, Slot},
        snapshot::Product,
    },
};

use crate::{
    limits::usage_limits::UsageCounter,
    table::attributes::{HIGHEST_SORT_CHAR, PrimaryKey},
    tenants::key_hash::KeyHash,
};

/// The key of an item. Attributes that only say when DynamoDB may delete an item (`ttl`) are not listed.
#[expect(clippy::enum_variant_names, reason = "an API key is called a key")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    // Tenants.
    /// App: `APP#<app>` / `APP`. Value: `j` the app.
    App(AppId),
    /// API key: `KEY#<sha-256>` / `KEY`. Value: `app` its app, `x` when it expires.
    ApiKey(KeyHash),
    /// API key, in its app's list: `APP#<app>` / `KEY#<sha-256>`. Value: `j` the key without its secret.
    ApiKeyLink { app: AppId, hash: KeyHash },
    /// Public key: `PUB#<sha-256>` / `PUB`. Value: `app` its app.
    PublicKey(KeyHash),
    /// Bank: `INS` / `INS#<bank>`. Value: `j` its configuration, `app` the one app that has it.
    Bank(BankId),
    /// Endpoint: `APP#<app>` / `WHK#<endpoint>`. Value: `j` its settings, `s` and `b` its sealed secrets and bearer token.
    Endpoint { app: AppId, endpoint: EndpointId },
    /// Session of the dashboard that was signed out: `SES#<sha-256>` / `SES`. Value: none.
    EndedSession(KeyHash),
    /// Counts of a minute: `CNT#<app>#<hour>` / `<minute>`. Value: numbers by their names.
    MinuteCounts { app: AppId, minute: u64 },

    // Records.
    /// Customer: `CUS#<customer's tag>` / `CUS#<customer>`. Value: `j` the customer.
    Customer(CustomerId),
    /// Customer, in its app's list: `APP#<app>` / `CUS#<customer>`. Value: none.
    CustomerLink { app: AppId, customer: CustomerId },
    /// Account: `CUS#<customer's tag>` / `ACC#<account>`. Value: `j` facts, `b` balance (`q` its seq), `bs` and `ts` states of the products, `dt` pending deletions, `to` tie-out, `ur` unreadable rows, `dr` drift reported.
    Account(AccountId),
    /// Record head: `REC#<record>` / `HEAD`. Value: `q` and `sq` last seq and last state seq, `bd bq td tq` watermarks, `bi ti` intervals, `st` status, `n` transactions, `op` and `me` options and meta.
    RecordHead(RecordId),
    /// Record, in its customer's list: `CUS#<customer's tag>` / `REC#<customer>#<record>`. Value: none.
    RecordLinkOfCustomer {
        customer: CustomerId,
        record: RecordId,
    },
    /// Record, in its app's list: `APP#<app>` / `REC#<record>`. Value: none.
    RecordLinkOfApp { app: AppId, record: RecordId },
    /// Consent: `REC#<record>` / `CRED`. Value: `s` sealed secret, `j` accounts, `xp` and `xn` end and last notice of it, `rn` claim to renew the tokens.
    Consent(RecordId),
    /// Subscription: `REC#<record>` / `SUB#<subscription>`. Value: `j` the subscription.
    Subscription {
        record: RecordId,
        subscription: SubscriptionId,
    },
    /// Job: `REC#<record>` / `JOB#<product>`. Value: `id` its id, `u` runs until, `o` outcome, `c` findings, `j` requests of the day.
    Job { record: RecordId, product: Product },
    /// Backfill: `REC#<record>` / `HIST`. Value: `j` its progress, `n` the step.
    Backfill(RecordId),
    /// Feed entry, or several of one commit and account: `REC#<record>` / `FED#<seq of the last>`. Value: `j` changes, `t` commit time, `a` account, `c` count.
    FeedEntry { record: RecordId, last_seq: Seq },
    /// Transaction: `ACC#<account's tag>` / `T#<day>#<hash>#<rest of account>`. Value: `j` facts, `q` the seq that wrote it; without `j` a tombstone.
    Transaction {
        account: AccountId,
        transaction: TransactionId,
    },
    /// Removal, in the end its receipt: `APP#<app>` / `RCP#<receipt>`. Value: `j` the removal.
    Removal { app: AppId, receipt: ReceiptId },

    // Schedule.
    /// Due entry: `DUE#<interval>#<slot>#<lane>` / `<bank>#<record>`. Value: `bd bq td tq` watermarks and `sq` state seq that were dispatched, `f` failure state.
    DueEntry(DueKey),
    /// Due entries of an interval, counted by lane: `INT#<interval>` / `N#<lane>`. Value: `n` how many.
    IntervalCounter { interval: Interval, lane: Lane },

    // Limits.
    /// Calls of an app in a window: `APP#<app>` / `LIM#<call>#<window>`. Value: `n` how many.
    CallCounter {
        app: AppId,
        call: &'a str,
        window: i64,
    },
    /// Call with an idempotency key: `IDM#<app>#<sha-256>` / `IDM`. Value: `f` hash of the request, `u` claimed or kept until, `r` response.
    IdempotentCall { app: AppId, key_hash: KeyHash },
    /// Circuit breaker of a bank: `BRK` / `BRK#<bank>`. Value: `j` the breaker.
    BankBreaker(BankId),
    /// Ad-hoc budget of a bank: `ALW#<bank>` / `ALW`. Value: `i` when it is idle, in microseconds.
    AdHocBudget(BankId),
    /// Rate limiter of an endpoint: `PAC#<endpoint>` / `PAC`. Value: `i` when it is idle, in microseconds.
    EndpointRateLimiter(EndpointId),

    /// Usage counter of an app, a customer or all: `USE#<owner>` / `<kind>`. Value: `n` how many at most, `v` version.
    UsageCounter(UsageCounter),

    // Delivery.
    /// Delivery: `DLV#<endpoint>` / `<commit, ms>#<source>#<seq>`. Value: `j` state and attempts, `n` their number, `v` version.
    Delivery(DeliveryKey),
    /// Parked event: `PRK#<endpoint>` / `<commit, ms>#<source>#<seq>`. Value: none.
    ParkedEvent(DeliveryKey),
    /// Due retry: `RTY#<minute>#<lane>` / `<source>#<seq>#<endpoint>`. Value: `n` which attempt.
    Retry {
        minute: u64,
        source: FeedSource,
        seq: Seq,
        endpoint: EndpointId,
    },
    /// Endpoint health: `HLT#<endpoint>` / `HLT`. Value: `j` the health, `v` version, `p` parked events, `g` last ping.
    EndpointHealth(EndpointId),
    /// App feed: `AEV#<app>` / `HEAD`. Value: `q` last seq, `d` last seq that was dispatched.
    AppFeedHead(AppId),
    /// App feed entry: `AEV#<app>` / `FED#<seq>`. Value: `j` the notice, `t` commit time.
    AppFeedEntry { app: AppId, seq: Seq },
    /// Replay: `APP#<app>` / `RPL#<replay>`. Value: `j` the replay, `v` version.
    Replay { app: AppId, replay: ReplayId },

    // Linking.
    /// Link session: `LNK#<sha-256>` / `LNK`. Value: `s` its sealed state, `n` version.
    LinkSession(KeyHash),
    /// Short link: `SHL#<name>` / `SHL`. Value: `j` the link.
    ShortLink { name: &'a str },
    /// Short link, in its app's list: `APP#<app>` / `SHL#<name>`. Value: none.
    ShortLinkLink { app: AppId, name: &'a str },

    // The system itself.
    /// System state: `SYS#<name>` / `SYS`. Value: `j` the state.
    SystemState { name: &'a str },
}

/// What the sort keys of API keys in an app's list begin with.
pub(crate) const API_KEY_PREFIX: &str = "KEY#";
/// What the sort keys of banks begin with.
pub(crate) const BANK_PREFIX: &str = "INS#";
/// What the sort keys of endpoints begin with.
pub(crate) const ENDPOINT_PREFIX: &str = "WHK#";
/// What the sort keys of customers and of the links to them begin with.
pub(crate) const CUSTOMER_PREFIX: &str = "CUS#";
/// What the sort keys of accounts begin with.
pub(crate) const ACCOUNT_PREFIX: &str = "ACC#";
/// What the sort keys of the links from an app to its records begin with.
pub(crate) const RECORD_PREFIX: &str = "REC#";
/// What the sort keys of subscriptions begin with.
pub(crate) const SUBSCRIPTION_PREFIX: &str = "SUB#";
/// What the sort keys of feed entries begin with, of records and of apps.
pub(crate) const FEED_PREFIX: &str = "FED#";
/// What the sort keys of transactions begin with.
pub(crate) const TRANSACTION_PREFIX: &str = "T#";
/// What the sort keys of removals begin with.
pub(crate) const REMOVAL_PREFIX: &str = "RCP#";
/// What the sort keys of an interval's counters begin with.
pub(crate) const COUNTER_PREFIX: &str = "N#";
/// What the sort keys of banks' circuit breakers begin with.
pub(crate) const BREAKER_PREFIX: &str = "BRK#";
/// What the sort keys of replays begin with.
pub(crate) const REPLAY_PREFIX: &str = "RPL#";
/// What the sort keys of the links from an app to its short links begin with.
pub(crate) const SHORT_LINK_PREFIX: &str = "SHL#";

/// The partition of all banks: each process reads them now and then and keeps them.
pub(crate) const BANK_PARTITION: &str = "INS";
/// The partition of all banks' circuit breakers: a tick reads them with one query.
pub(crate) const BREAKER_PARTITION: &str = "BRK";

/// The largest sequence number that a key of a feed entry can hold.
pub(crate) const MAX_KEY_SEQ: u64 = 999_999_999_999;

/// The largest commit time that a sort key of a delivery can hold, in milliseconds since 1970: the year 2286.
const MAX_KEY_MS: i64 = 9_999_999_999_999;

pub(crate) const MINUTES_PER_HOUR: u8 = 60;

/// Bytes of a transaction's id after the account's tag and the day.
const TRANSACTION_HASH_BYTES: usize = ID_BYTES - ACCOUNT_TAG_BYTES - 2;

impl Key<'_> {
    /// The partition key.
    pub(crate) fn pk(&self) -> String {
        match self {
            Self::App(app)
            | Self::ApiKeyLink { app, .. }
            | Self::Endpoint { app, .. }
            | Self::CustomerLink { app, .. }
            | Self::RecordLinkOfApp { app, .. }
            | Self::Removal { app, .. }
            | Self::CallCounter { app, .. }
            | Self::Replay { app, .. }
            | Self::ShortLinkLink { app, .. } => app_partition(*app),
            Self::RecordHead(record)
            | Self::Consent(record)
            | Self::Subscription { record, .. }
            | Self::Job { record, .. }
            | Self::Backfill(record)
            | Self::FeedEntry { record, .. } => record_partition(*record),
            Self::ApiKey(hash) => format!("KEY#{}", hash.to_hex()),
            Self::PublicKey(hash) => format!("PUB#{}", hash.to_hex()),
            Self::EndedSession(hash) => format!("SES#{}", hash.to_hex()),
            Self::Bank(_) => BANK_PARTITION.to_owned(),
            Self::MinuteCounts { app, minute } => {
                counts_partition(*app, minute / u64::from(MINUTES_PER_HOUR))
            }
            Self::Customer(customer) | Self::RecordLinkOfCustomer { customer, .. } => {
                customer_partition(customer.tag())
            }
            Self::Account(account) => customer_partition(account.customer_tag()),
            Self::Transaction { account, .. } => transactions_partition(account.tag()),
            Self::DueEntry(due_key) => {
                due_partition(due_key.interval, due_key.slot(), due_key.lane())
            }
            Self::IntervalCounter { interval, .. } => interval_partition(*interval),
            Self::IdempotentCall { app, key_hash } => format!("IDM#{app}#{}", key_hash.to_hex()),
            Self::BankBreaker(_) => BREAKER_PARTITION.to_owned(),
            Self::AdHocBudget(bank) => format!("ALW#{bank}"),
            Self::EndpointRateLimiter(endpoint) => format!("PAC#{endpoint}"),
            Self::UsageCounter(counter) => format!("USE#{}", counter.owner()),
            Self::Delivery(delivery) => deliveries_partition(delivery.endpoint),
            Self::ParkedEvent(delivery) => parked_partition(delivery.endpoint),
            Self::Retry { minute, source, .. } => retry_partition(*minute, retry_lane(*source)),
            Self::EndpointHealth(endpoint) => format!("HLT#{endpoint}"),
            Self::AppFeedHead(app) | Self::AppFeedEntry { app, .. } => app_feed_partition(*app),
            Self::LinkSession(hash) => format!("LNK#{}", hash.to_hex()),
            Self::ShortLink { name } => format!("SHL#{name}"),
            Self::SystemState { name } => format!("SYS#{name}"),
        }
    }

    /// The sort key.
    pub(crate) fn sk(&self) -> String {
        match self {
            Self::App(_) => "APP".to_owned(),
            Self::ApiKey(_) => "KEY".to_owned(),
            Self::ApiKeyLink { hash, .. } => format!("{API_KEY_PREFIX}{}", hash.to_hex()),
            Self::PublicKey(_) => "PUB".to_owned(),
            Self::EndedSession(_) => "SES".to_owned(),
            Self::Bank(bank) => format!("{BANK_PREFIX}{bank}"),
            Self::Endpoint { endpoint, .. } => format!("{ENDPOINT_PREFIX}{endpoint}"),
            Self::MinuteCounts { minute, .. } => minute_sort_key(*minute),
            Self::Customer(customer) | Self::CustomerLink { customer, .. } => {
                format!("{CUSTOMER_PREFIX}{customer}")
            }
            Self::Account(account) => format!("{ACCOUNT_PREFIX}{account}"),
            Self::RecordHead(_) | Self::AppFeedHead(_) => "HEAD".to_owned(),
            Self::RecordLinkOfCustomer { customer, record } => {
                format!("{}{record}", record_link_prefix(*customer))
            }
            Self::RecordLinkOfApp { record, .. } => format!("{RECORD_PREFIX}{record}"),
            Self::Consent(_) => "CRED".to_owned(),
            Self::Subscription { subscription, .. } => {
                format!("{SUBSCRIPTION_PREFIX}{subscription}")
            }
            Self::Job { product, .. } => format!("JOB#{}", product.as_str()),
            Self::Backfill(_) => "HIST".to_owned(),
            Self::FeedEntry { last_seq: seq, .. } | Self::AppFeedEntry { seq, .. } => {
                feed_sort_key(*seq)
            }
            Self::Transaction {
                account,
                transaction,
            } => format!(
                "{}{}",
                transaction_sort_prefix(*transaction),
                transaction_sort_suffix(*account)
            ),
            Self::Removal { receipt, .. } => format!("{REMOVAL_PREFIX}{receipt}"),
            Self::DueEntry(due_key) => {
                format!("{}{}", due_bank_prefix(due_key.bank), due_key.record)
            }
            Self::IntervalCounter { lane, .. } => format!("{COUNTER_PREFIX}{:02}", lane.0),
            Self::CallCounter { call, window, .. } => format!("LIM#{call}#{window}"),
            Self::IdempotentCall { .. } => "IDM".to_owned(),
            Self::BankBreaker(bank) => format!("{BREAKER_PREFIX}{bank}"),
            Self::AdHocBudget(_) => "ALW".to_owned(),
            Self::EndpointRateLimiter(_) => "PAC".to_owned(),
            Self::UsageCounter(counter) => counter.kind().to_owned(),
            Self::Delivery(delivery) | Self::ParkedEvent(delivery) => delivery_sort_key(delivery),
            Self::Retry {
                source,
                seq,
                endpoint,
                ..
            } => format!("{source}#{:012}#{endpoint}", seq.0),
            Self::EndpointHealth(_) => "HLT".to_owned(),
            Self::Replay { replay, .. } => format!("{REPLAY_PREFIX}{replay}"),
            Self::LinkSession(_) => "LNK".to_owned(),
            Self::ShortLink { .. } => "SHL".to_owned(),
            Self::ShortLinkLink { name, .. } => format!("{SHORT_LINK_PREFIX}{name}"),
            Self::SystemState { .. } => "SYS".to_owned(),
        }
    }
}

impl From<Key<'_>> for PrimaryKey {
    fn from(key: Key<'_>) -> Self {
        Self {
            pk: key.pk(),
            sk: key.sk(),
        }
    }
}

/// The partition of an app, its endpoints, and the links to its customers and records.
pub(crate) fn app_partition(app: AppId) -> String {
    format!("APP#{app}")
}

/// The partition of a record: its head and all that lies with it.
pub(crate) fn record_partition(record: RecordId) -> String {
    format!("REC#{record}")
}

/// The record of a partition key.
pub(crate) fn parse_record_partition(pk: &str) -> Option<RecordId> {
    pk.strip_prefix("REC#")?.parse().ok()
}

/// The minute of an instant, since 1970. A clock that is before 1970 is broken; its minute is 0.
pub(crate) fn minute_since_epoch(at: Timestamp) -> u64 {
    debug_assert!(at >= Timestamp::UNIX_EPOCH, "the clock is before 1970");
    u64::try_from(at.as_second().div_euclid(60)).unwrap_or(0)
}

/// The partition of an hour of an app's counts.
fn counts_partition(app: AppId, hour: u64) -> String {
    format!("CNT#{app}#{hour}")
}

/// The sort key of a minute (since 1970) within its hour.
pub(crate) fn minute_sort_key(minute: u64) -> String {
    format!("{:02}", minute % u64::from(MINUTES_PER_HOUR))
}

/// The partition of a customer, its accounts and the links to its records. In the order of their sort keys: accounts,
/// customer, records, so that one query reads the customer with either.
pub(crate) fn customer_partition(tag: CustomerTag) -> String {
    format!("CUS#{}", HEXLOWER.encode(&tag))
}

/// What the sort keys of the links to a customer's records begin with.
pub(crate) fn record_link_prefix(customer: CustomerId) -> String {
    format!("REC#{customer}#")
}

/// The sort key of an entry of a feed.
pub(crate) fn feed_sort_key(seq: Seq) -> String {
    format!("{FEED_PREFIX}{:012}", seq.0)
}

/// The partition of an account's transactions.
pub(crate) fn transactions_partition(tag: AccountTag) -> String {
    format!("ACC#{}", HEXLOWER.encode(&tag))
}

/// What the sort keys of the transactions that were first seen under a day begin with.
pub(crate) fn transaction_day_prefix(day: EpochDay) -> String {
    format!("{TRANSACTION_PREFIX}{:05}", day.0)
}

/// What the sort keys of a transaction's id begin with, in whichever account.
pub(crate) fn transaction_sort_prefix(transaction: TransactionId) -> String {
    let hash = HEXLOWER.encode(&transaction.as_bytes()[ACCOUNT_TAG_BYTES + 2..]);
    format!("{}#{hash}#", transaction_day_prefix(transaction.day()))
}

/// What the sort keys of an account's transactions end with: two accounts may share a tag, and so a partition.
pub(crate) fn transaction_sort_suffix(account: AccountId) -> String {
    HEXLOWER.encode(&account.as_bytes()[ACCOUNT_TAG_BYTES..])
}

/// The account and the id of a transaction from its key.
pub(crate) fn parse_transaction_key(pk: &str, sk: &str) -> Option<(AccountId, TransactionId)> {
    let tag = decode_hex(pk.strip_prefix("ACC#")?)?;
    let mut parts = sk.strip_prefix(TRANSACTION_PREFIX)?.split('#');
    let day: u16 = parts.next()?.parse().ok()?;
    let hash = decode_hex(parts.next()?).filter(|hash| hash.len() == TRANSACTION_HASH_BYTES)?;
    let rest = decode_hex(parts.next()?)?;
    let account = [tag.as_slice(), &rest].concat().try_into().ok()?;
    let id = [tag.as_slice(), &day.to_be_bytes(), &hash]
        .concat()
        .try_into()
        .ok()?;
    Some((
        AccountId::from_bytes(account),
        TransactionId::from_bytes(id),
    ))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER.decode(text.as_bytes()).ok()
}

/// The partition of a lane of a slot's due entries.
pub(crate) fn due_partition(interval: Interval, slot: Slot, lane: Lane) -> String {
    format!("DUE#{interval}#{:04}#{:02}", slot.0, lane.0)
}

/// What the sort keys of a bank's due entries begin with.
pub(crate) fn due_bank_prefix(bank: BankId) -> String {
    format!("{bank}#")
}

/// The key of a due entry from the key of its item.
pub(crate) fn parse_due_key(pk: &str, sk: &str) -> Option<DueKey> {
    let interval = pk.strip_prefix("DUE#")?.split('#').next()?.parse().ok()?;
    let (bank, record) = sk.split_once('#')?;
    Some(DueKey {
        interval,
        bank: bank.parse().ok()?,
        record: record.parse().ok()?,
    })
}

/// The partition of an interval's counters.
pub(crate) fn interval_partition(interval: Interval) -> String {
    format!("INT#{interval}")
}

/// The partition of an endpoint's deliveries.
pub(crate) fn deliveries_partition(endpoint: EndpointId) -> String {
    format!("DLV#{endpoint}")
}

/// The partition of an endpoint's parked events.
pub(crate) fn parked_partition(endpoint: EndpointId) -> String {
    format!("PRK#{endpoint}")
}

/// The sort key of deliveries and parked events: in the order of their events' commits.
pub(crate) fn delivery_sort_key(key: &DeliveryKey) -> String {
    format!(
        "{}#{}#{:012}",
        commit_time_prefix(key.committed_at),
        key.source,
        key.seq.0
    )
}

/// What sort keys of events that were committed at `at` begin with. Ends of ranges may lie before 1970 or after 2286,
/// where no event does: they become the first or the last time that a key can hold.
pub(crate) fn commit_time_prefix(at: Timestamp) -> String {
    format!("{:013}", at.as_millisecond().clamp(0, MAX_KEY_MS))
}

/// The highest text below a delivery's sort key: above each other delivery that sorts before it.
pub(crate) fn highest_key_below(key: &DeliveryKey) -> String {
    let mut text = delivery_sort_key(key);
    // It ends in a digit; with the digit below, or what sorts before all digits, nothing of the kind is between.
    let below = match text.pop().and_then(|digit| digit.to_digit(10)) {
        Some(digit @ 1..) => char::from_digit(digit - 1, 10).unwrap_or('/'),
        _ => '/',
    };
    text.push(below);
    text.push(HIGHEST_SORT_CHAR);
    text
}

/// The delivery of a key of a delivery or of a parked event.
pub(crate) fn parse_delivery_key(pk: &str, sk: &str) -> Option<DeliveryKey> {
    let endpoint = pk
        .strip_prefix("DLV#")
        .or_else(|| pk.strip_prefix("PRK#"))?;
    let mut parts = sk.split('#');
    Some(DeliveryKey {
        endpoint: endpoint.parse().ok()?,
        committed_at: Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?,
        source: parts.next()?.parse().ok()?,
        seq: Seq(parts.next()?.parse().ok()?),
    })
}

/// The partition of a lane of a minute's due retries.
pub(crate) fn retry_partition(minute: u64, lane: u8) -> String {
    format!("RTY#{minute}#{lane:02}")
}

const fn retry_lane(source: FeedSource) -> u8 {
    match source {
        FeedSource::Record(record) => record.as_bytes()[7] % LANES_PER_SLOT,
        FeedSource::App(app) => app.as_bytes()[7] % LANES_PER_SLOT,
    }
}

/// The feed, the seq and the endpoint of a due retry from its sort key.
pub(crate) fn parse_retry_sort_key(sk: &str) -> Option<(FeedSource, Seq, EndpointId)> {
    let mut parts = sk.split('#');
    let source = parts.next()?.parse().ok()?;
    let seq = Seq(parts.next()?.parse().ok()?);
    let endpoint = parts.next()?.parse().ok()?;
    Some((source, seq, endpoint))
}

/// The endpoint of a partition key of endpoint health.
pub(crate) fn parse_health_partition(pk: &str) -> Option<EndpointId> {
    pk.strip_prefix("HLT#")?.parse().ok()
}

/// The partition of an app's own feed.
pub(crate) fn app_feed_partition(app: AppId) -> String {
    format!("AEV#{app}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A key of each kind.
    fn sample_keys() -> Vec<Key<'static>> {
        let (app, hash) = (AppId::derive(&[b"app"]), KeyHash::hash_secret("secret"));
        let (bank, endpoint) = (BankId::derive(&[b"bank"]), EndpointId::from_bytes([7; 12]));
        let (customer, record) = (CustomerId::derive(&[b"ada"]), RecordId::derive(&[b"one"]));
        let account = AccountId::derive(&[b"account"]);
        let (seq, minute, source) = (Seq(42), 29_580_480, FeedSource::Record(record));
        let interval = Interval::OneHour;
        let delivery = DeliveryKey {
            endpoint,
            committed_at: Timestamp::from_second(1_774_828_800).unwrap(),
            source,
            seq,
        };
        vec![
            Key::App(app),
            Key::ApiKey(hash),
            Key::ApiKeyLink { app, hash },
            Key::PublicKey(hash),
            Key::EndedSession(hash),
            Key::Bank(bank),
            Key::Endpoint { app, endpoint },
            Key::MinuteCounts { app, minute },
            Key::Customer(customer),
            Key::CustomerLink { app, customer },
            Key::Account(account),
            Key::RecordHead(record),
            Key::RecordLinkOfCustomer { customer, record },
            Key::RecordLinkOfApp { app, record },
            Key::Consent(record),
            Key::Subscription {
                record,
                subscription: SubscriptionId::from_bytes([1; 12]),
            },
            Key::Job {
                record,
                product: Product::Balance,
            },
            Key::Backfill(record),
            Key::FeedEntry {
                record,
                last_seq: seq,
            },
            Key::Transaction {
                account,
                transaction: TransactionId::new(account, EpochDay(20_000), &[b"row"]),
            },
            Key::Removal {
                app,
                receipt: ReceiptId::from_bytes([2; 12]),
            },
            Key::DueEntry(DueKey {
                interval,
                bank,
                record,
            }),
            Key::IntervalCounter {
                interval,
                lane: Lane(3),
            },
            Key::CallCounter {
                app,
                call: "balance",
                window: 29_580_480,
            },
            Key::IdempotentCall {
                app,
                key_hash: hash,
            },
            Key::BankBreaker(bank),
            Key::AdHocBudget(bank),
            Key::EndpointRateLimiter(endpoint),
            Key::UsageCounter(UsageCounter::EndpointsOfApp(app)),
            Key::Delivery(delivery),
            Key::ParkedEvent(delivery),
            Key::Retry {
                minute,
                source,
                seq,
                endpoint,
            },
            Key::EndpointHealth(endpoint),
            Key::AppFeedHead(app),
            Key::AppFeedEntry { app, seq },
            Key::Replay {
                app,
                replay: ReplayId::from_bytes([3; 12]),
            },
            Key::LinkSession(hash),
            Key::ShortLink { name: "a1b2" },
            Key::ShortLinkLink { app, name: "a1b2" },
            Key::SystemState { name: "sweep" },
        ]
    }

    /// What the documentation of a variant says.
    struct ItemDescription {
        item: &'static str,
        pk: &'static str,
        sk: &'static str,
        value: &'static str,
    }

    /// The variants of [`Key`] with what their documentation says, in order.
    fn documented_variants() -> Vec<(&'static str, ItemDescription)> {
        let source = include_str!("key.rs");
        let (_, from_enum) = source.split_once("pub(crate) enum Key<'a> {\n").unwrap();
        let (body, _) = from_enum.split_once("\n}\n").unwrap();
        let lines: Vec<&str> = body.lines().collect();
        let mut variants = Vec::new();
        for pair in lines.windows(2) {
            let Some(documentation) = pair[0].trim().strip_prefix("/// ") else {
                continue;
            };
            let (item, rest) = documentation.split_once(": `").unwrap();
            let (pk, rest) = rest.split_once("` / `").unwrap();
            let (sk, rest) = rest.split_once("`. Value: ").unwrap();
            let value = rest.strip_suffix('.').unwrap();
            let name = pair[1].trim().split([' ', '(', '{', ',']).next().unwrap();
            let description = ItemDescription {
                item,
                pk,
                sk,
                value,
            };
            variants.push((name, description));
        }
        variants
    }

    /// True where a text is a pattern with something in place of each `<name>`.
    fn fits_pattern(pattern: &str, text: &str) -> bool {
        let Some((literal, rest)) = pattern.split_once('<') else {
            return pattern == text;
        };
        let Some(text) = text.strip_prefix(literal) else {
            return false;
        };
        let (_, rest) = rest.split_once('>').unwrap();
        let next = rest.split('<').next().unwrap();
        let end = match next {
            "" => text.len(),
            _ => text.find(next).unwrap_or(0),
        };
        end > 0 && fits_pattern(rest, &text[end..])
    }

    #[test]
    fn every_key_is_built_as_its_documentation_says() {
        let mut samples: BTreeMap<String, Key<'_>> = sample_keys()
            .into_iter()
            .map(|key| {
                let debug = format!("{key:?}");
                let name = debug.split([' ', '(', '{']).next().unwrap().to_owned();
                (name, key)
            })
            .collect();
        for (name, description) in documented_variants() {
            let key = samples.remove(name).expect(name);
            let (pk, sk) = (key.pk(), key.sk());
            assert!(fits_pattern(description.pk, &pk), "{name}: {pk}");
            assert!(fits_pattern(description.sk, &sk), "{name}: {sk}");
        }
        assert!(samples.is_empty(), "without documentation: {samples:?}");
    }

    #[test]
    fn no_two_kinds_share_a_key() {
        let keys: Vec<PrimaryKey> = sample_keys().into_iter().map(PrimaryKey::from).collect();
        for (nth, key) in keys.iter().enumerate() {
            assert!(!keys[..nth].contains(key), "{key:?}");
        }
    }

    #[test]
    fn the_architecture_has_the_table_of_items() {
        let rows = documented_variants().into_iter().map(|(_, item)| {
            let ItemDescription {
                item,
                pk,
                sk,
                value,
            } = item;
            format!("| {item} | `{pk}` | `{sk}` | {value} |\n")
        });
        let table: String = rows.collect();
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ARCHITECTURE.md");
        let page = std::fs::read_to_string(page).unwrap();
        assert!(
            page.contains(&format!(
                "| item | `pk` | `sk` | value |\n|---|---|---|---|\n{table}\n"
            )),
            "the table of docs/ARCHITECTURE.md must be:\n{table}"
        );
    }

    proptest! {
        #[test]
        fn a_transaction_key_holds_account_and_id(account: [u8; ID_BYTES], day: u16, text: String) {
            let account = AccountId::from_bytes(account);
            let transaction = TransactionId::new(account, EpochDay(day), &[text.as_bytes()]);
            let key = Key::Transaction { account, transaction };
            prop_assert_eq!(parse_transaction_key(&key.pk(), &key.sk()), Some((account, transaction)));
            prop_assert!(key.sk().ends_with(&transaction_sort_suffix(account)));
        }

        #[test]
        fn transaction_keys_are_in_the_order_of_days(account: [u8; ID_BYTES], a: u16, b: u16) {
            let account = AccountId::from_bytes(account);
            let key = |day| Key::Transaction { account, transaction: TransactionId::new(account, EpochDay(day), &[]) };
            prop_assert_eq!(key(a).pk(), key(b).pk());
            prop_assert_eq!(key(a).sk().cmp(&key(b).sk()), a.cmp(&b));
        }

        #[test]
        fn feed_keys_are_in_the_order_of_the_feed(a in 0..=MAX_KEY_SEQ, b in 0..=MAX_KEY_SEQ) {
            prop_assert_eq!(feed_sort_key(Seq(a)).cmp(&feed_sort_key(Seq(b))), a.cmp(&b));
            prop_assert_eq!(feed_sort_key(Seq(a)).strip_prefix(FEED_PREFIX).unwrap().parse(), Ok(a));
        }

        #[test]
        fn delivery_keys_are_in_the_order_of_commits(
            a in 0..2_000_000_000_000_i64,
            b in 0..2_000_000_000_000_i64,
            is_of_app: bool,
            seq in 0..1_000_000_u64,
        ) {
            let source = match is_of_app {
                true => FeedSource::App(AppId::from_bytes([9; 12])),
                false => RecordId::from_bytes([9; 12]).into(),
            };
            let delivery = |ms| DeliveryKey {
                endpoint: EndpointId::from_bytes([1; 12]),
                committed_at: Timestamp::from_millisecond(ms).unwrap(),
                source,
                seq: Seq(seq),
            };
            prop_assert_eq!(delivery_sort_key(&delivery(a)).cmp(&delivery_sort_key(&delivery(b))), a.cmp(&b));
            let key = Key::Delivery(delivery(a));
            prop_assert_eq!(parse_delivery_key(&key.pk(), &key.sk()), Some(delivery(a)));
            prop_assert!(highest_key_below(&delivery(a)) < key.sk());
            if let Some(previous) = seq.checked_sub(1) {
                let before = DeliveryKey { seq: Seq(previous), ..delivery(a) };
                prop_assert!(delivery_sort_key(&before) < highest_key_below(&delivery(a)));
            }
        }

        #[test]
        fn the_due_entries_of_a_bank_lie_together(a: ([u8; 12], [u8; 12]), b: ([u8; 12], [u8; 12])) {
            let due_key = |ids: ([u8; 12], [u8; 12])| DueKey {
                interval: Interval::OneHour,
                bank: BankId::from_bytes(ids.0),
                record: RecordId::from_bytes(ids.1),
            };
            let sk = |ids| Key::DueEntry(due_key(ids)).sk();
            prop_assert_eq!(sk(a).cmp(&sk(b)), a.cmp(&b));
            let key = Key::DueEntry(due_key(a));
            prop_assert_eq!(parse_due_key(&key.pk(), &key.sk()), Some(due_key(a)));
        }
    }
}
