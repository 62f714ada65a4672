//! What was: a transaction or a balance as it stood at a sequence number or a time gone by.
//!
//! The feed is the truth, and what is stored is its projection; so the past is read from the feed, and
//! without folding all of it. Each transaction leads back through its versions: its row says which
//! entry wrote it last, and that entry says which one did before. A balance is looked for backwards
//! from the entry asked for.

use axum::http::StatusCode;
use jiff::Timestamp;
use okra_core::{
    feed::{Change, Confidence, FeedEntry},
    ids::{AccountId, BalanceId, RecordId, Seq, TransactionId},
    model::{BalanceFacts, TransactionFacts},
};
use okra_store::{Account, Consistency, Store};
use okra_wire::{
    feed::{PastBalance, Version, Versions, plain},
    origin::{Ids, Times},
    scalar::Instant,
};

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::ACCOUNT,
};

/// Versions of one answer at most.
pub(crate) const MAX_VERSIONS: usize = 50;

/// Versions that are gone through for one answer at most.
const MAX_STEPS: usize = 200;

/// Entries looked through for a balance at most, and at once.
const MAX_ENTRIES: u64 = 2_000;
const ENTRIES: u64 = 100;

/// Entries read to find the last one before a time, at most: a binary search over 10^12.
const MAX_HALVINGS: usize = 41;

/// What one entry says of a transaction.
struct Told {
    entry: FeedEntry,
    kind: &'static str,
    confidence: Confidence,
    changed: Vec<&'static str>,
    after: Option<TransactionFacts>,
    previous: Option<Seq>,
}

impl Told {
    /// `None` where the entry does not speak of it.
    fn of(entry: FeedEntry, id: TransactionId) -> Option<Self> {
        let Change::Transactions(diff) = &entry.change else {
            return None;
        };
        let previous = diff.previous.get(&id).copied();
        let said = |kind, confidence, changed, after| (kind, confidence, changed, after);
        let added = diff.added.iter().find(|row| row.id == id);
        let modified = diff.modified.iter().find(|row| row.after.id == id);
        let (kind, confidence, changed, after) = if let Some(row) = added {
            said("added", Confidence::Exact, vec![], Some(row.facts.clone()))
        } else if let Some(row) = modified {
            let after = &row.after.facts;
            let changed = row.before.changed(after);
            said("modified", row.confidence, changed, Some(after.clone()))
        } else if diff.removed.iter().any(|row| row.id == id) {
            said("removed", Confidence::Exact, vec![], None)
        } else {
            return None;
        };
        Some(Self {
            entry,
            kind,
            confidence,
            changed,
            after,
            previous,
        })
    }

    fn version(self, ids: Ids, id: TransactionId) -> Version {
        let times = Times::at(self.entry.at);
        Version {
            sequence: self.entry.seq.0,
            at: Instant(self.entry.at),
            kind: self.kind,
            confidence: self.confidence.as_str(),
            changed: self.changed,
            transaction: self.after.map(|facts| plain(ids, id, &facts, times)),
        }
    }
}

async fn told(
    store: &Store,
    record: RecordId,
    seq: Seq,
    id: TransactionId,
) -> Result<Option<Told>, Refusal> {
    let entry = store.entry(record, seq).await?;
    Ok(entry.and_then(|entry| Told::of(entry, id)))
}

/// The account of a transaction, and the entry that wrote or removed it last. A removed one is found
/// for 15 days.
async fn subject(call: &Call) -> Result<(TransactionId, Account, Seq), Refusal> {
    let missing = || Refusal::not_found("transaction");
    let id: TransactionId =
        call.input
            .needed_id(&["id", "_id", "transaction", "transaction_id"])?;
    let written = call.state.store.last_written(id).await?;
    let (account, seq) = written.ok_or_else(missing)?;
    let account = call.own_account(account).await;
    let account = account.map_err(|refusal| refusal.about("transaction"))?;
    Ok((id, account, seq))
}

fn ids(call: &Call, account: &Account) -> Result<Ids, Refusal> {
    let app = call.app()?;
    Ok(Ids {
        app: app.id,
        env: app.env,
        record: account.record,
        customer: account.customer,
        bank: account.bank,
        account: account.id,
    })
}

/// A moment in a feed.
#[derive(Clone, Copy)]
enum When {
    Seq(Seq),
    At(Timestamp),
}

impl When {
    fn of(call: &Call) -> Result<Self, Refusal> {
        if let Some(text) = call.input.text(&["sequence", "seq"]) {
            let seq = text.parse();
            let seq = seq.map_err(|_| Refusal::field("sequence", "is no whole number"))?;
            return Ok(Self::Seq(Seq(seq)));
        }
        let text = call.input.text(&["at"]);
        let text = text.ok_or_else(|| Refusal::field("sequence", "or at is required"))?;
        let problem = "is no time: send 2026-03-15T12:00:00Z";
        text.parse()
            .map(Self::At)
            .map_err(|_| Refusal::field("at", problem))
    }

    fn includes(self, seq: Seq, at: Timestamp) -> bool {
        match self {
            Self::Seq(until) => seq <= until,
            Self::At(until) => at <= until,
        }
    }
}

fn too_far() -> Refusal {
    let message = "That is too far back to find at once: page through history/versions or the feed";
    Refusal::new(StatusCode::BAD_REQUEST, "TOO_FAR_BACK", message)
}

fn not_yet() -> Refusal {
    let message = "There was none at that time";
    Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// The versions of a transaction, newest first.
pub(crate) async fn versions(call: &Call) -> Answer {
    let (id, account, newest) = subject(call).await?;
    let store = &call.state.store;
    let ids = ids(call, &account)?;
    let mut next = match call.input.number("before")? {
        None => Some(newest),
        Some(before) => {
            let told = told(store, account.record, Seq(before), id).await?;
            told.ok_or_else(|| Refusal::field("before", "is no version's sequence"))?
                .previous
        }
    };
    let limit = call.input.number("limit")?;
    let limit = limit.map_or(MAX_VERSIONS, |limit| {
        usize::try_from(limit)
            .unwrap_or(MAX_VERSIONS)
            .clamp(1, MAX_VERSIONS)
    });
    let mut versions = Vec::new();
    while let Some(seq) = next
        && versions.len() < limit
    {
        let Some(told) = told(store, account.record, seq, id).await? else {
            break;
        };
        next = told.previous.filter(|previous| *previous < seq);
        versions.push(told.version(ids, id));
    }
    let data = Versions {
        id,
        versions,
        complete: next.is_none(),
    };
    success("Versions retrieved successfully", data)
}

/// A transaction as it was.
pub(crate) async fn transaction(call: &Call) -> Answer {
    let when = When::of(call)?;
    let (id, account, newest) = subject(call).await?;
    let mut next = Some(newest);
    for _ in 0..MAX_STEPS {
        let Some(seq) = next else {
            return Err(not_yet());
        };
        let told = told(&call.state.store, account.record, seq, id).await?;
        let told = told.ok_or_else(too_far)?;
        if when.includes(told.entry.seq, told.entry.at) {
            let version = told.version(ids(call, &account)?, id);
            return success("Transaction retrieved successfully", version);
        }
        next = told.previous.filter(|previous| *previous < seq);
    }
    Err(too_far())
}

/// A balance as it was.
pub(crate) async fn balance(call: &Call) -> Answer {
    let when = When::of(call)?;
    let account = match call.input.id::<BalanceId>(&["id", "_id", "balance"])? {
        Some(id) => {
            let account = call.own_account(id.account()).await;
            account.map_err(|refusal| refusal.about("balance"))?
        }
        None => call.own_account(call.input.needed_id(ACCOUNT)?).await?,
    };
    let answer = |seq: Seq, at, facts: &BalanceFacts| {
        let past = PastBalance::new(account.id, seq.0, Instant(at), facts);
        success("Balance retrieved successfully", past)
    };
    if let (Some(facts), Some(at)) = (&account.balance, account.balance_at)
        && when.includes(account.balance_seq, at)
    {
        return answer(account.balance_seq, at, facts);
    }
    let store = &call.state.store;
    let mut last = match when {
        When::Seq(seq) => seq.min(account.balance_seq),
        When::At(at) => last_before(store, account.record, account.balance_seq, at).await?,
    };
    let end = last.0.saturating_sub(MAX_ENTRIES);
    while last.0 > end {
        let after = Seq(last.0.saturating_sub(ENTRIES));
        let limit = usize::try_from(last.0 - after.0).unwrap_or(usize::MAX);
        let page = store.feed(account.record, after, limit, Consistency::Eventual);
        for entry in page.await?.iter().rev() {
            if let Some(facts) = balance_of(entry, account.id) {
                return answer(entry.seq, entry.at, facts);
            }
        }
        last = after;
    }
    Err(if last == Seq::ZERO {
        not_yet()
    } else {
        too_far()
    })
}

fn balance_of(entry: &FeedEntry, account: AccountId) -> Option<&BalanceFacts> {
    match &entry.change {
        Change::Balance { after, .. } if entry.account == Some(account) => Some(after),
        _ => None,
    }
}

/// The last entry up to `newest` that was committed at `at` or before. Entries are in the order of
/// their times.
async fn last_before(
    store: &Store,
    record: RecordId,
    newest: Seq,
    at: Timestamp,
) -> Result<Seq, Refusal> {
    let (mut low, mut high) = (Seq::ZERO, newest);
    for _ in 0..MAX_HALVINGS {
        if low >= high {
            break;
        }
        let middle = Seq(low.0 + (high.0 - low.0).div_ceil(2));
        let entry = store.entry(record, middle).await?;
        if entry.ok_or_else(too_far)?.at <= at {
            low = middle;
        } else {
            high = Seq(middle.0 - 1);
        }
    }
    Ok(low)
}

documented! {
    versions(TRANSACTION_ID, VERSIONS) -> Versions: "All versions of a transaction, newest first.";
    transaction(TRANSACTION_ID, MOMENT) -> Version: "A transaction as it was at a sequence number or a time.";
    balance(optional(ACCOUNT), optional(ID), MOMENT) -> PastBalance: "A balance as it was at a sequence number or a time.";
}
