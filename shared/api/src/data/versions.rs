//! Versions: a transaction or a balance as it was at a sequence number or a time.
//!
//! The feed is the truth, and what is stored is its projection; so the past is read from the feed, and
//! without folding all of it. Each transaction leads back through its versions: its row says which
//! entry wrote it last, and that entry says which one did before. A balance is looked for backwards
//! from the entry asked for.

use axum::http::StatusCode;
use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AccountId, BalanceId, RecordId, Seq, TransactionId},
        snapshot::{BalanceFacts, TransactionFacts},
    },
    sync::feed::{Change, FeedEntry, MatchConfidence},
};
use okra_store::{Account, Consistency, Store};
use okra_wire::{
    account_context::{ResourceIds, ResourceTimes},
    feed::{
        BalanceVersionResource, TransactionVersionResource, TransactionVersionsResource,
        plain_transaction,
    },
    scalar::IsoInstant,
};

use crate::http::{
    envelope::{ApiError, ApiResponse, success_response},
    input::ACCOUNT,
    request::ApiRequest,
};

/// Versions of one answer at most.
pub(crate) const MAX_VERSIONS: usize = 50;

/// Versions that are gone through for one answer at most.
const MAX_VERSIONS_SCANNED: usize = 200;

/// Entries looked through for a balance at most, and at once.
const MAX_ENTRIES_SCANNED: u64 = 2_000;
const ENTRIES_PER_READ: u64 = 100;

/// Entries read to find the last one before a time, at most: a binary search over 10^12.
const MAX_HALVINGS: usize = 41;

/// What one entry says of a transaction.
struct EntryVersion {
    entry: FeedEntry,
    kind: &'static str,
    confidence: MatchConfidence,
    changed_fields: Vec<&'static str>,
    after: Option<TransactionFacts>,
    previous_seq: Option<Seq>,
}

impl EntryVersion {
    /// `None` where the entry does not speak of it.
    fn from_entry(entry: FeedEntry, id: TransactionId) -> Option<Self> {
        let Change::Transactions(diff) = &entry.change else {
            return None;
        };
        let previous = diff.previous_seqs.get(&id).copied();
        let said = |kind, confidence, changed, after| (kind, confidence, changed, after);
        let added = diff.added.iter().find(|row| row.id == id);
        let modified = diff.modified.iter().find(|row| row.after.id == id);
        let (kind, confidence, changed, after) = if let Some(row) = added {
            said(
                "added",
                MatchConfidence::Exact,
                vec![],
                Some(row.facts.clone()),
            )
        } else if let Some(row) = modified {
            let after = &row.after.facts;
            let changed = row.before.changed_fields(after);
            said("modified", row.confidence, changed, Some(after.clone()))
        } else if diff.removed.iter().any(|row| row.id == id) {
            said("removed", MatchConfidence::Exact, vec![], None)
        } else {
            return None;
        };
        Some(Self {
            entry,
            kind,
            confidence,
            changed_fields: changed,
            after,
            previous_seq: previous,
        })
    }

    fn into_version(self, ids: ResourceIds, id: TransactionId) -> TransactionVersionResource {
        let times = ResourceTimes::at_instant(self.entry.committed_at);
        TransactionVersionResource {
            sequence: self.entry.seq.0,
            at: IsoInstant(self.entry.committed_at),
            kind: self.kind,
            confidence: self.confidence.as_str(),
            changed: self.changed_fields,
            transaction: self
                .after
                .map(|facts| plain_transaction(ids, id, &facts, times)),
        }
    }
}

async fn load_entry_version(
    store: &Store,
    record: RecordId,
    seq: Seq,
    id: TransactionId,
) -> Result<Option<EntryVersion>, ApiError> {
    let entry = store.find_feed_entry(record, seq).await?;
    Ok(entry.and_then(|entry| EntryVersion::from_entry(entry, id)))
}

/// The account of a transaction, and the entry that wrote or removed it last. A removed one is found
/// for 15 days.
async fn load_requested_transaction(
    request: &ApiRequest,
) -> Result<(TransactionId, Account, Seq), ApiError> {
    let missing = || ApiError::not_found("transaction");
    let id: TransactionId =
        request
            .input
            .require_id(&["id", "_id", "transaction", "transaction_id"])?;
    let written = request.services.store.find_last_write(id).await?;
    let (account, seq) = written.ok_or_else(missing)?;
    let account = request.scope()?.load_own_account(account).await;
    let account = account.map_err(|error| error.for_resource("transaction"))?;
    Ok((id, account, seq))
}

fn ids_for_account(request: &ApiRequest, account: &Account) -> Result<ResourceIds, ApiError> {
    let app = request.require_app()?;
    Ok(ResourceIds {
        app: app.id,
        env: app.environment,
        record: account.record,
        customer: account.customer,
        bank: account.bank,
        account: account.id,
    })
}

/// A moment in a feed.
#[derive(Clone, Copy)]
enum FeedMoment {
    Seq(Seq),
    At(Timestamp),
}

impl FeedMoment {
    fn from_request(request: &ApiRequest) -> Result<Self, ApiError> {
        if let Some(text) = request.input.find_text(&["sequence", "seq"]) {
            let seq = text.parse();
            let seq =
                seq.map_err(|_| ApiError::invalid_field("sequence", "must be a whole number"))?;
            return Ok(Self::Seq(Seq(seq)));
        }
        let text = request.input.find_text(&["at"]);
        let text = text.ok_or_else(|| ApiError::invalid_field("sequence", "or at is required"))?;
        let problem = "must be a time like 2026-03-15T12:00:00Z";
        text.parse()
            .map(Self::At)
            .map_err(|_| ApiError::invalid_field("at", problem))
    }

    fn includes(self, seq: Seq, at: Timestamp) -> bool {
        match self {
            Self::Seq(until) => seq <= until,
            Self::At(until) => at <= until,
        }
    }
}

fn too_far_back_error() -> ApiError {
    let message = "That is too far back for one request: page through history/versions or the feed";
    ApiError::new(StatusCode::BAD_REQUEST, "TOO_FAR_BACK", message)
}

fn not_yet_existing_error() -> ApiError {
    let message = "It did not exist at that time";
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// The versions of a transaction, newest first.
pub(crate) async fn list_transaction_versions(request: &ApiRequest) -> ApiResponse {
    let (id, account, newest) = load_requested_transaction(request).await?;
    let store = &request.services.store;
    let ids = ids_for_account(request, &account)?;
    let mut next = match request.input.parse_number("before")? {
        None => Some(newest),
        Some(before) => {
            let version = load_entry_version(store, account.record, Seq(before), id).await?;
            version
                .ok_or_else(|| {
                    ApiError::invalid_field("before", "must be the sequence of a version")
                })?
                .previous_seq
        }
    };
    let limit = request.input.parse_number("limit")?;
    let limit = limit.map_or(MAX_VERSIONS, |limit| {
        usize::try_from(limit)
            .unwrap_or(MAX_VERSIONS)
            .clamp(1, MAX_VERSIONS)
    });
    let mut versions = Vec::new();
    while let Some(seq) = next
        && versions.len() < limit
    {
        let Some(version) = load_entry_version(store, account.record, seq, id).await? else {
            break;
        };
        next = version.previous_seq.filter(|previous| *previous < seq);
        versions.push(version.into_version(ids, id));
    }
    let data = TransactionVersionsResource {
        id,
        versions,
        complete: next.is_none(),
    };
    success_response("Versions retrieved successfully", data)
}

/// A transaction as it was.
pub(crate) async fn get_past_transaction(request: &ApiRequest) -> ApiResponse {
    let when = FeedMoment::from_request(request)?;
    let (id, account, newest) = load_requested_transaction(request).await?;
    let mut next = Some(newest);
    for _ in 0..MAX_VERSIONS_SCANNED {
        let Some(seq) = next else {
            return Err(not_yet_existing_error());
        };
        let version = load_entry_version(&request.services.store, account.record, seq, id).await?;
        let version = version.ok_or_else(too_far_back_error)?;
        if when.includes(version.entry.seq, version.entry.committed_at) {
            let version = version.into_version(ids_for_account(request, &account)?, id);
            return success_response("Transaction retrieved successfully", version);
        }
        next = version.previous_seq.filter(|previous| *previous < seq);
    }
    Err(too_far_back_error())
}

/// A balance as it was.
pub(crate) async fn get_past_balance(request: &ApiRequest) -> ApiResponse {
    let when = FeedMoment::from_request(request)?;
    let account = match request
        .input
        .parse_id::<BalanceId>(&["id", "_id", "balance"])?
    {
        Some(id) => {
            let account = request.scope()?.load_own_account(id.account_id()).await;
            account.map_err(|error| error.for_resource("balance"))?
        }
        None => {
            request
                .scope()?
                .load_own_account(request.input.require_id(ACCOUNT)?)
                .await?
        }
    };
    let answer = |seq: Seq, at, facts: &BalanceFacts| {
        let past = BalanceVersionResource::new(account.id, seq.0, IsoInstant(at), facts);
        success_response("Balance retrieved successfully", past)
    };
    if let (Some(facts), Some(at)) = (&account.balance, account.balance_at)
        && when.includes(account.balance_seq, at)
    {
        return answer(account.balance_seq, at, facts);
    }
    let store = &request.services.store;
    let mut last = match when {
        FeedMoment::Seq(seq) => seq.min(account.balance_seq),
        FeedMoment::At(at) => {
            find_last_entry_before(store, account.record, account.balance_seq, at).await?
        }
    };
    let end = last.0.saturating_sub(MAX_ENTRIES_SCANNED);
    while last.0 > end {
        let after = Seq(last.0.saturating_sub(ENTRIES_PER_READ));
        let limit = usize::try_from(last.0 - after.0).unwrap_or(usize::MAX);
        let page = store.read_feed(account.record, after, limit, Consistency::Eventual);
        for entry in page.await?.iter().rev() {
            if let Some(facts) = balance_in_entry(entry, account.id) {
                return answer(entry.seq, entry.committed_at, facts);
            }
        }
        last = after;
    }
    Err(if last == Seq::ZERO {
        not_yet_existing_error()
    } else {
        too_far_back_error()
    })
}

fn balance_in_entry(entry: &FeedEntry, account: AccountId) -> Option<&BalanceFacts> {
    match &entry.change {
        Change::Balance { after, .. } if entry.account == Some(account) => Some(after),
        _ => None,
    }
}

/// The last entry up to `newest` that was committed at `at` or before. Entries are in the order of
/// their times.
async fn find_last_entry_before(
    store: &Store,
    record: RecordId,
    newest: Seq,
    at: Timestamp,
) -> Result<Seq, ApiError> {
    let (mut low, mut high) = (Seq::ZERO, newest);
    for _ in 0..MAX_HALVINGS {
        if low >= high {
            break;
        }
        let middle = Seq(low.0 + (high.0 - low.0).div_ceil(2));
        let entry = store.find_feed_entry(record, middle).await?;
        if entry.ok_or_else(too_far_back_error)?.committed_at <= at {
            low = middle;
        } else {
            high = Seq(middle.0 - 1);
        }
    }
    Ok(low)
}

routes! {
    Post Key [Ours "history/versions"] => list_transaction_versions(TRANSACTION_ID, VERSIONS) -> TransactionVersionsResource:
        "Lists the versions of a transaction, newest first.";
    Post Key [Ours "history/transaction"] => get_past_transaction(TRANSACTION_ID, MOMENT) -> TransactionVersionResource:
        "Returns a transaction as it was at a sequence number or a time.";
    Post Key [Ours "history/balance"] => get_past_balance(make_optional(ACCOUNT), make_optional(ID), MOMENT) -> BalanceVersionResource:
        "Returns a balance as it was at a sequence number or a time.";
}
