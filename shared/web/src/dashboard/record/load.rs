//! [`RecordPage`]: everything that the page of a record shows, read at once.

use jiff::Timestamp;
use okra_app::record_state::RecordState;
use okra_core::{
    model::{
        bank::BankLimits,
        ids::{AccountId, RecordId, Seq},
        snapshot::{ByProduct, Product},
    },
    sync::feed::FeedEntry,
};
use okra_store::{Account, Consistency, Customer, RecordHead, StoreError, Subscription};

use super::{
    super::session::AppSession,
    transaction_page::{TransactionCursor, TransactionPage, load_transactions},
};
use crate::{components::format::mask_account_number, page_error::PageError, web_state::WebState};

/// Feed entries that are read for the list of changes and the charts.
const MAX_FEED_ENTRIES: usize = 300;

/// Changes on a page.
const MAX_CHANGES_SHOWN: usize = 40;

/// Everything that the page shows.
pub(crate) struct RecordPage {
    pub(crate) head: RecordHead,
    pub(crate) customer: Option<Customer>,
    pub(crate) bank_name: String,
    pub(crate) limits: BankLimits,
    /// Refreshes on demand of each product in the last 24 hours, where the bank has a daily quota.
    pub(crate) on_demand_counts: ByProduct<usize>,
    pub(crate) state: RecordState,
    pub(crate) accounts: Vec<Account>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) transactions: TransactionPage,
    /// The last [`MAX_FEED_ENTRIES`], in the order of their numbers.
    pub(crate) recent_entries: Vec<FeedEntry>,
    /// The changes that are listed, newest first.
    pub(crate) listed_entries: Vec<FeedEntry>,
    pub(crate) now: Timestamp,
}

impl RecordPage {
    /// The name of the customer whose record it is.
    pub(crate) fn customer_name(&self) -> &str {
        let customer = self.customer.as_ref();
        customer.map_or("No name", |customer| customer.name.as_str())
    }

    /// The masked number of one of the record's accounts; empty where its consent does not cover the account any more.
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
    /// What the query names; what it names wrongly is as if it were absent.
    fn from_query(session: &AppSession) -> Self {
        Self {
            before_seq: session.query.get("before").parse().ok().map(Seq),
            transaction_cursor: TransactionCursor::parse(session.query.get("below")),
        }
    }
}

/// Reads the page of a record.
pub(crate) async fn load_record_page(
    web: &WebState,
    session: &AppSession,
    head: RecordHead,
) -> Result<RecordPage, PageError> {
    let selection = PageSelection::from_query(session);
    let (store, now) = (&web.services.store, web.now());
    let (state, _) = session.scope.load_record_state(&head).await?;
    // The record's surroundings, in parallel.
    let after = Seq(head.seq.0.saturating_sub(MAX_FEED_ENTRIES as u64));
    let read = futures::future::try_join5(
        store.find_customer(head.customer),
        store.find_bank(head.bank),
        store.find_consent(head.record, Consistency::Eventual),
        store.list_subscriptions(head.record),
        store.read_feed(head.record, after, MAX_FEED_ENTRIES, Consistency::Eventual),
    );
    let (customer, bank, consent, subscriptions, recent_entries) = Box::pin(read).await?;
    // What depends on them.
    let accounts = match &consent {
        Some(consent) => {
            store
                .load_accounts_of_consent(consent, Consistency::Eventual)
                .await?
        }
        None => vec![],
    };
    let transactions =
        load_transactions(web, &head, &accounts, selection.transaction_cursor).await?;
    let listed_entries =
        load_listed_entries(web, &head, selection.before_seq, &recent_entries).await?;
    let limits = bank.as_ref().map(|bank| bank.limits).unwrap_or_default();
    let on_demand_counts = match limits.unattended_per_day {
        Some(_) => count_on_demand_refreshes(web, head.record, now).await?,
        None => ByProduct::default(),
    };
    Ok(RecordPage {
        bank_name: bank.map_or_else(|| "Unknown bank".to_owned(), |bank| bank.name),
        limits,
        on_demand_counts,
        state,
        head,
        customer,
        accounts,
        subscriptions,
        transactions,
        recent_entries,
        listed_entries,
        now,
    })
}

/// The changes below a number, or the newest, newest first.
async fn load_listed_entries(
    web: &WebState,
    head: &RecordHead,
    before: Option<Seq>,
    recent_entries: &[FeedEntry],
) -> Result<Vec<FeedEntry>, StoreError> {
    let mut listed = match before {
        Some(before) => {
            // Below the first change there is nothing.
            let after = Seq(before.0.saturating_sub(MAX_CHANGES_SHOWN as u64 + 1));
            let store = &web.services.store;
            let read =
                store.read_feed(head.record, after, MAX_CHANGES_SHOWN, Consistency::Eventual);
            let mut entries = read.await?;
            entries.retain(|entry| entry.seq < before);
            entries
        }
        None => {
            let skipped = recent_entries.len().saturating_sub(MAX_CHANGES_SHOWN);
            recent_entries[skipped..].to_vec()
        }
    };
    listed.reverse();
    Ok(listed)
}

/// Refreshes on demand of each product in the last 24 hours that count against the bank's quota.
async fn count_on_demand_refreshes(
    web: &WebState,
    record: RecordId,
    now: Timestamp,
) -> Result<ByProduct<usize>, StoreError> {
    let keys = Product::ALL.map(|product| (record, product));
    let mut counts = ByProduct::default();
    for ((_, product), job) in web.services.store.load_jobs(&keys).await? {
        *counts.get_mut(product) = Some(job.unattended_requests.count_recent(now));
    }
    Ok(counts)
}
