//! [`RecordPage`]: all that the page of a record shows, read at once.

use jiff::Timestamp;
use okra_core::{
    model::{
        bank::BankLimits,
        ids::{AccountId, RecordId, Seq},
        snapshot::{ByProduct, Product},
    },
    sync::feed::FeedEntry,
};
use okra_store::{Account, Consistency, Customer, RecordHead, Subscription};

use super::{
    super::session::AppSession,
    transactions::{TransactionCursor, TransactionPage, load_transactions},
    unavailable::RecordStateView,
};
use crate::{components::format::mask_account_number, page_error::PageError, web_state::WebState};

/// Feed entries that are read for the list of changes and the charts.
const MAX_FEED_ENTRIES: u64 = 300;

/// Changes on a page.
const MAX_CHANGES_SHOWN: usize = 40;

/// The record of an id, where it is the app's own.
pub(crate) async fn load_own_record(
    web: &WebState,
    session: &AppSession,
    id: RecordId,
    consistency: Consistency,
) -> Result<RecordHead, PageError> {
    let head = web.api.store.find_head(id, consistency).await?;
    head.filter(|head| head.app == session.app.id)
        .ok_or(PageError::NotFound("record"))
}

/// All that the page shows.
pub(crate) struct RecordPage {
    pub(crate) head: RecordHead,
    pub(crate) customer: Option<Customer>,
    pub(crate) bank_name: String,
    pub(crate) limits: BankLimits,
    /// Refreshes of each product that were asked for in the last day, where the bank counts them.
    pub(crate) on_demand_counts: ByProduct<usize>,
    pub(crate) state: RecordStateView,
    pub(crate) accounts: Vec<Account>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) transactions: TransactionPage,
    /// In order, the last [`MAX_ENTRIES`].
    pub(crate) recent_entries: Vec<FeedEntry>,
    /// Those that are listed, newest first.
    pub(crate) listed_entries: Vec<FeedEntry>,
    pub(crate) now: Timestamp,
}

impl RecordPage {
    /// The name of the customer whose record it is.
    pub(crate) fn customer_name(&self) -> &str {
        let customer = self.customer.as_ref();
        customer.map_or("No name", |customer| customer.name.as_str())
    }

    /// The masked number of one of the record's accounts; empty where the record does not cover it any more.
    pub(crate) fn account_name(&self, id: AccountId) -> String {
        let account = self.accounts.iter().find(|account| account.id == id);
        account.map_or_else(String::new, |it| mask_account_number(&it.facts.number))
    }
}

/// Which part of a record's lists a page shows.
struct PageSelection {
    /// Changes below this number; the newest where there is none.
    before_seq: Option<Seq>,
    transaction_cursor: Option<TransactionCursor>,
}

impl PageSelection {
    fn from_query(session: &AppSession) -> Self {
        Self {
            before_seq: session.query.get("before").parse().ok().map(Seq),
            transaction_cursor: TransactionCursor::parse(session.query.get("below")),
        }
    }
}

pub(crate) async fn load_record_page(
    web: &WebState,
    session: &AppSession,
    head: RecordHead,
) -> Result<RecordPage, PageError> {
    let part = PageSelection::from_query(session);
    let (store, now) = (&web.api.store, web.now());
    let state = RecordStateView::load_state(web, session, head.record).await?;
    let after = Seq(head.seq.0.saturating_sub(MAX_FEED_ENTRIES));
    let limit = usize::try_from(MAX_FEED_ENTRIES).unwrap_or(usize::MAX);
    let read = futures::future::try_join5(
        store.find_customer(head.customer),
        store.find_bank(head.bank),
        store.find_consent(head.record, Consistency::Eventual),
        store.list_subscriptions(head.record),
        store.read_feed(head.record, after, limit, Consistency::Eventual),
    );
    let (customer, bank, consent, subscriptions, entries) = Box::pin(read).await?;
    let accounts = match &consent {
        Some(consent) => {
            store
                .load_accounts_of_consent(consent, Consistency::Eventual)
                .await?
        }
        None => vec![],
    };
    let rows = load_transactions(web, &head, &accounts, part.transaction_cursor).await?;
    let mut listed = match part.before_seq {
        Some(before) => {
            let after = Seq(before.0.saturating_sub(MAX_CHANGES_SHOWN as u64 + 1));
            let part =
                store.read_feed(head.record, after, MAX_CHANGES_SHOWN, Consistency::Eventual);
            let mut part = part.await?;
            part.retain(|entry| entry.seq < before);
            part
        }
        None => entries[entries.len().saturating_sub(MAX_CHANGES_SHOWN)..].to_vec(),
    };
    listed.reverse();
    let limits = bank.as_ref().map(|bank| bank.limits).unwrap_or_default();
    let mut asked = ByProduct::default();
    if limits.unattended_per_day.is_some() {
        let places = Product::ALL.map(|product| (head.record, product));
        for ((_, product), job) in store.load_jobs(&places).await? {
            *asked.get_mut(product) = Some(job.unattended_requests.count_recent(now));
        }
    }
    Ok(RecordPage {
        bank_name: bank.map_or_else(|| "Unknown bank".to_owned(), |bank| bank.name),
        limits,
        on_demand_counts: asked,
        state,
        head,
        customer,
        accounts,
        subscriptions,
        transactions: rows,
        recent_entries: entries,
        listed_entries: listed,
        now,
    })
}
