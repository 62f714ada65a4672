//! The change feed: what changed since a cursor, of a record or of a customer with all their records.
//!
//! A page is a stretch of entries that never change, so it is frozen: a refresh while an app pages adds
//! entries after those it has read, and neither invalidates its cursor nor shows it a change twice.

use axum::http::StatusCode;
use okra_core::{
    cursor::{Cursor, CursorError, Position, Scope},
    ids::AccountId,
    net::{Kind, Net},
};
use okra_store::{Consistency, Head};
use okra_wire::{
    feed::{ChangedBalance, FeedPage, ModifiedTransaction, RemovedTransaction, plain},
    origin::{Ids, Times},
};

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{CUSTOMER, RECORD},
};

/// Changes on a page where nothing is asked for.
const DEFAULT_COUNT: usize = 100;

/// Changes on a page at most.
pub(crate) const MAX_COUNT: usize = 500;

/// Entries that one call reads at most: some change nothing.
const MAX_ENTRIES: usize = 1_000;

/// Entries read at once.
const ENTRIES: usize = 100;

impl From<CursorError> for Refusal {
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
fn expired() -> Refusal {
    let message =
        "What comes after the cursor is not in the feed any more; start again without one";
    Refusal::new(StatusCode::BAD_REQUEST, "CURSOR_EXPIRED", message)
}

pub(crate) async fn read(call: &Call) -> Answer {
    let (scope, heads) = match call.input.id(RECORD)? {
        Some(record) => {
            let head = call.own_record(record, Consistency::Strong).await?;
            (Scope::Record(record), vec![head])
        }
        None => {
            if !call.input.is_given(CUSTOMER) {
                return Err(Refusal::field("record_id", "or customer is required"));
            }
            let customer = call.customer().await?;
            let mut heads = call.state.store.records_of_customer(customer.id).await?;
            heads.sort_by_key(|head| head.record);
            (Scope::Customer(customer.id), heads)
        }
    };
    let count = call.input.number("count")?;
    let count = count.map_or(DEFAULT_COUNT, |count| {
        usize::try_from(count)
            .unwrap_or(MAX_COUNT)
            .clamp(1, MAX_COUNT)
    });
    let app = call.app()?.id;
    let mut cursor = match call.input.text(&["cursor"]) {
        Some(text) => Cursor::decode(&text, app, scope)?,
        None => Cursor::start(scope),
    };
    let (mut net, mut entries, mut has_more) = (Net::default(), MAX_ENTRIES, false);
    for head in &heads {
        let (position, more) = read_record(
            call,
            head,
            cursor.position(head.record),
            &mut net,
            count,
            &mut entries,
            matches!(scope, Scope::Record(_)),
        )
        .await?;
        cursor.advance(head.record, position);
        has_more |= more;
    }
    let page = page(call, &heads, &net, cursor.encode(app), has_more)?;
    success("Changes retrieved successfully", page)
}

/// Takes what comes after `position` in a record's feed, until the page or the bound of entries is full.
/// Returns the new position, and whether there is more.
async fn read_record(
    call: &Call,
    head: &Head,
    mut position: Position,
    net: &mut Net,
    count: usize,
    entries: &mut usize,
    strong: bool,
) -> Result<(Position, bool), Refusal> {
    loop {
        let room = count - net.taken().min(count);
        if position.seq >= head.seq {
            // A table that was set back: the entries the reader has seen are not these. A customer's
            // heads are read eventually, and may only be behind.
            let ahead = position.seq > head.seq || position.rows > 0;
            return if ahead && strong {
                Err(expired())
            } else {
                Ok((position, false))
            };
        }
        if room == 0 || *entries == 0 {
            return Ok((position, true));
        }
        let limit = ENTRIES.min(*entries).min(room);
        let page = call
            .state
            .store
            .feed(head.record, position.seq, limit, Consistency::Strong)
            .await?;
        if page
            .first()
            .is_none_or(|entry| entry.seq != position.seq.next())
        {
            return Err(expired());
        }
        for entry in &page {
            let room = count - net.taken().min(count);
            *entries = entries.saturating_sub(1);
            let next = net.take(entry, position, room);
            let whole = next.seq == entry.seq;
            position = next;
            if !whole {
                return Ok((position, true));
            }
        }
    }
}

fn page<'a>(
    call: &Call,
    heads: &[Head],
    net: &'a Net,
    next_cursor: String,
    has_more: bool,
) -> Result<FeedPage<'a>, Refusal> {
    let app = call.app()?;
    let ids = |record, account: AccountId| {
        let head = heads.iter().find(|head| head.record == record);
        let head = head.ok_or_else(|| Refusal::not_found("record"))?;
        Ok::<_, Refusal>(Ids {
            app: app.id,
            env: app.env,
            record,
            customer: head.customer,
            bank: head.bank,
            account,
        })
    };
    let mut page = FeedPage {
        added: vec![],
        modified: vec![],
        removed: vec![],
        balances: vec![],
        next_cursor,
        has_more,
    };
    for (id, row, kind) in net.rows() {
        let ids = ids(row.record, row.account)?;
        match kind {
            Kind::Added(facts) => page.added.push(plain(ids, id, facts, Times::at(row.at))),
            Kind::Modified(before, after) => {
                let modified = ModifiedTransaction::new(ids, id, row, before, after);
                page.modified.push(modified);
            }
            Kind::Removed(before) => {
                let removed = RemovedTransaction::new(ids, id, row, before);
                page.removed.push(removed);
            }
        }
    }
    for (account, balance) in net.balances() {
        let ids = ids(balance.record, account)?;
        page.balances.push(ChangedBalance::new(ids, balance));
    }
    Ok(page)
}

documented! {
    read(optional(RECORD), optional(CUSTOMER), CURSOR) -> FeedPage<'static>: "What changed since a cursor, of a record or of a customer with all their records.";
}
