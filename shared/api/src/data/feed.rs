//! The change feed: what changed since a cursor, of a record or of a customer with all their records.
//!
//! A page is a stretch of entries that never change, so it is frozen: a refresh while an app pages adds
//! entries after those it has read, and neither invalidates its cursor nor shows it a change twice.

use axum::http::StatusCode;
use okra_core::{
    model::ids::AccountId,
    sync::{
        cursor::{Cursor, CursorError, FeedPosition, FeedScope},
        net_changes::{NetChange, NetChanges},
    },
};
use okra_store::{Consistency, RecordHead};
use okra_wire::{
    account_context::{ResourceIds, ResourceTimes},
    feed::{
        ChangedBalanceResource, FeedPageResource, ModifiedTransactionResource,
        RemovedTransactionResource, plain_transaction,
    },
};

use crate::http::{
    envelope::{ApiError, ApiResponse, success_response},
    input::{CUSTOMER, RECORD},
    request::ApiRequest,
};

/// Changes on a page where nothing is asked for.
const DEFAULT_COUNT: usize = 100;

/// Changes on a page at most.
pub(crate) const MAX_COUNT: usize = 500;

/// Entries that one call reads at most: some change nothing.
const MAX_ENTRIES: usize = 1_000;

/// Entries read at once.
const ENTRIES_PER_READ: usize = 100;

impl From<CursorError> for ApiError {
    fn from(error: CursorError) -> Self {
        let kind = match error {
            CursorError::Garbled => "CURSOR_INVALID",
            CursorError::Version => "CURSOR_EXPIRED",
            CursorError::Foreign => "CURSOR_FOREIGN",
        };
        Self::new(StatusCode::BAD_REQUEST, kind, error.to_string())
    }
}

/// The entries after the cursor are not there any more, or never were.
fn cursor_expired_error() -> ApiError {
    let message =
        "The entries after the cursor are no longer in the feed; start again without a cursor";
    ApiError::new(StatusCode::BAD_REQUEST, "CURSOR_EXPIRED", message)
}

pub(crate) async fn read_feed(request: &ApiRequest) -> ApiResponse {
    let (scope, heads) = match request.input.parse_id(RECORD)? {
        Some(record) => {
            let head = request
                .scope()?
                .load_own_record(record, Consistency::Strong)
                .await?;
            (FeedScope::Record(record), vec![head])
        }
        None => {
            if !request.input.is_given(CUSTOMER) {
                return Err(ApiError::invalid_field(
                    "record_id",
                    "or customer is required",
                ));
            }
            let customer = request.load_requested_customer().await?;
            let mut heads = request
                .services
                .store
                .list_records_of_customer(customer.id)
                .await?;
            heads.sort_by_key(|head| head.record);
            (FeedScope::Customer(customer.id), heads)
        }
    };
    let count = request.input.parse_number("count")?;
    let count = count.map_or(DEFAULT_COUNT, |count| {
        usize::try_from(count)
            .unwrap_or(MAX_COUNT)
            .clamp(1, MAX_COUNT)
    });
    let app = request.require_app()?.id;
    let mut cursor = match request.input.find_text(&["cursor"]) {
        Some(text) => Cursor::decode_for_app(&text, app, scope)?,
        None => Cursor::at_start(scope),
    };
    let (mut net, mut entries, mut has_more) = (NetChanges::default(), MAX_ENTRIES, false);
    for head in &heads {
        let (position, more) = read_record_feed(
            request,
            head,
            cursor.record_position(head.record),
            &mut net,
            count,
            &mut entries,
            matches!(scope, FeedScope::Record(_)),
        )
        .await?;
        cursor.advance_record(head.record, position);
        has_more |= more;
    }
    let page = build_page(request, &heads, &net, cursor.encode_for_app(app), has_more)?;
    success_response("Changes retrieved successfully", page)
}

/// Takes what comes after `position` in a record's feed, until the page or the bound of entries is full.
/// Returns the new position, and whether there is more.
async fn read_record_feed(
    request: &ApiRequest,
    head: &RecordHead,
    mut position: FeedPosition,
    net: &mut NetChanges,
    count: usize,
    entries_left: &mut usize,
    is_strong: bool,
) -> Result<(FeedPosition, bool), ApiError> {
    loop {
        let room = count - net.row_count().min(count);
        if position.seq >= head.seq {
            // A table that was set back: the entries the reader has seen are not these. A customer's
            // heads are read eventually, and may only be behind.
            let ahead = position.seq > head.seq || position.rows > 0;
            return if ahead && is_strong {
                Err(cursor_expired_error())
            } else {
                Ok((position, false))
            };
        }
        if room == 0 || *entries_left == 0 {
            return Ok((position, true));
        }
        let limit = ENTRIES_PER_READ.min(*entries_left).min(room);
        let page = request
            .services
            .store
            .read_feed(head.record, position.seq, limit, Consistency::Strong)
            .await?;
        if page
            .first()
            .is_none_or(|entry| entry.seq != position.seq.next())
        {
            return Err(cursor_expired_error());
        }
        for entry in &page {
            let room = count - net.row_count().min(count);
            *entries_left = entries_left.saturating_sub(1);
            let next = net.take_entry(entry, position, room);
            let whole = next.seq == entry.seq;
            position = next;
            if !whole {
                return Ok((position, true));
            }
        }
    }
}

fn build_page<'a>(
    request: &ApiRequest,
    heads: &[RecordHead],
    net: &'a NetChanges,
    next_cursor: String,
    has_more: bool,
) -> Result<FeedPageResource<'a>, ApiError> {
    let app = request.require_app()?;
    let ids = |record, account: AccountId| {
        let head = heads.iter().find(|head| head.record == record);
        let head = head.ok_or_else(|| ApiError::not_found("record"))?;
        Ok::<_, ApiError>(ResourceIds {
            app: app.id,
            env: app.environment,
            record,
            customer: head.customer,
            bank: head.bank,
            account,
        })
    };
    let mut page = FeedPageResource {
        added: vec![],
        modified: vec![],
        removed: vec![],
        balances: vec![],
        next_cursor,
        has_more,
    };
    for (id, row, kind) in net.net_transactions() {
        let ids = ids(row.record, row.account)?;
        match kind {
            NetChange::Added(facts) => page.added.push(plain_transaction(
                ids,
                id,
                facts,
                ResourceTimes::at_instant(row.committed_at),
            )),
            NetChange::Modified(before, after) => {
                let modified = ModifiedTransactionResource::new(ids, id, row, before, after);
                page.modified.push(modified);
            }
            NetChange::Removed(before) => {
                let removed = RemovedTransactionResource::new(ids, id, row, before);
                page.removed.push(removed);
            }
        }
    }
    for (account, balance) in net.net_balances() {
        let ids = ids(balance.record, account)?;
        page.balances
            .push(ChangedBalanceResource::new(ids, balance));
    }
    Ok(page)
}

routes! {
    Post Key [
        Ours "feed/read",
        Ours "transactions/sync",
    ] => read_feed(make_optional(RECORD), make_optional(CUSTOMER), CURSOR) -> FeedPageResource<'static>:
        "Returns what changed since a cursor, of a record or of a customer with all records.";
}
