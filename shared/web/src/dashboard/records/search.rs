//! The search of the list of records: [`RecordSearch`] is what is looked for, [`RecordSearchResult`] a page of it.

use std::collections::{HashMap, HashSet};

use okra_core::model::{
    fault::FaultClass,
    ids::{BankId, CustomerId, RecordId},
    interval::Interval,
};
use okra_store::{Customer, RecordHead, RecordStatus};

use super::{
    super::{
        failing,
        freshness::{self, Freshness},
        session::AppSession,
    },
    loaded::MAX_RECORDS_SCANNED,
};
use crate::{
    components::labels::{RECORD_STATUSES, find_fault_class},
    page_error::PageError,
    web_state::WebState,
};

/// Records on one page.
const RECORDS_PER_PAGE: usize = 50;

/// Records and customers read at once.
const SCAN_BATCH: usize = 100;

/// What is searched for.
pub(crate) struct RecordSearch {
    pub(crate) text: String,
    pub(crate) status: Option<RecordStatus>,
    pub(crate) bank: Option<BankId>,
    pub(crate) interval: Option<Interval>,
    pub(crate) customer: Option<CustomerId>,
    /// Only records that are not as fresh as their interval promises.
    pub(crate) is_late_only: bool,
    /// Only records that fail now with this class of fault.
    pub(crate) failing_class: Option<FaultClass>,
    pub(crate) after: Option<RecordId>,
}

impl RecordSearch {
    /// The search of a query; a filter whose value is unknown is as if it were absent.
    pub(crate) fn from_query(session: &AppSession) -> Self {
        let query = &session.query;
        let status = query.get("status");
        Self {
            text: query.get("q").to_owned(),
            status: RECORD_STATUSES
                .into_iter()
                .find(|known| known.as_str() == status),
            bank: query.get("bank").parse().ok(),
            interval: query.get("interval").parse().ok(),
            customer: query.get("customer").parse().ok(),
            is_late_only: query.get("fresh") == "no",
            failing_class: find_fault_class(query.get("failing")),
            after: query.get("after").parse().ok(),
        }
    }

    pub(crate) fn is_filtered(&self) -> bool {
        !self.text.is_empty()
            || self.status.is_some()
            || self.bank.is_some()
            || self.interval.is_some()
            || self.customer.is_some()
            || self.is_late_only
            || self.failing_class.is_some()
    }

    /// The query of the page after a record.
    pub(crate) fn next_page_query(&self, after: RecordId) -> String {
        let mut pairs = vec![("after", after.to_string())];
        pairs.extend((!self.text.is_empty()).then(|| ("q", self.text.clone())));
        pairs.extend(self.status.map(|it| ("status", it.as_str().to_owned())));
        pairs.extend(self.bank.map(|it| ("bank", it.to_string())));
        pairs.extend(self.interval.map(|it| ("interval", it.to_string())));
        pairs.extend(self.customer.map(|it| ("customer", it.to_string())));
        pairs.extend(self.is_late_only.then(|| ("fresh", "no".to_owned())));
        pairs.extend(
            self.failing_class
                .map(|it| ("failing", it.as_str().to_owned())),
        );
        serde_urlencoded::to_string(pairs).unwrap_or_default()
    }

    fn matches_record(&self, head: &RecordHead, name: &str) -> bool {
        let text = self.text.to_lowercase();
        let matches_text = text.is_empty()
            || name.to_lowercase().contains(&text)
            || head.record.to_string().starts_with(&text)
            || head.customer.to_string().starts_with(&text)
            || head.options.to_string().to_lowercase().contains(&text);
        let matches_interval = self.interval.is_none_or(|interval| {
            let mut intervals = head.schedule.iter();
            intervals.any(|(_, it)| *it == interval)
        });
        matches_text
            && matches_interval
            && self.status.is_none_or(|status| status == head.status)
            && self.bank.is_none_or(|bank| bank == head.bank)
            && self
                .customer
                .is_none_or(|customer| customer == head.customer)
    }
}

/// A record, and the name of its customer; empty where the customer has none.
pub(crate) struct RecordRow {
    pub(crate) head: RecordHead,
    pub(crate) customer_name: String,
}

/// A page of the records that were found.
pub(crate) struct RecordSearchResult {
    pub(crate) rows: Vec<RecordRow>,
    /// The record after which the next page begins, where there may be more.
    pub(crate) next_after: Option<RecordId>,
    /// Records that the search examined.
    pub(crate) scanned_count: usize,
}

/// What records of a batch are like that their heads do not say, as far as a search depends on it.
struct BatchFacts {
    customer_names: HashMap<CustomerId, String>,
    freshness: Option<HashMap<RecordId, Freshness>>,
    failing: Option<HashSet<RecordId>>,
}

impl BatchFacts {
    async fn load_facts(
        web: &WebState,
        search: &RecordSearch,
        heads: &[RecordHead],
    ) -> Result<Self, PageError> {
        Ok(Self {
            customer_names: load_customer_names(web, heads.iter().map(|head| head.customer))
                .await?,
            freshness: match search.is_late_only {
                true => Some(freshness::load_freshness(web, heads, web.now()).await?),
                false => None,
            },
            failing: match search.failing_class {
                Some(class) => Some(failing::find_failing_records(web, heads, class).await?),
                None => None,
            },
        })
    }

    fn matches_record(&self, record: RecordId) -> bool {
        let freshness = self.freshness.as_ref();
        let failing = self.failing.as_ref();
        freshness.is_none_or(|it| it.get(&record) == Some(&Freshness::Late))
            && failing.is_none_or(|it| it.contains(&record))
    }
}

/// Searches the app's records, in the order of their ids, until a page is full or [`MAX_RECORDS_SCANNED`] are examined.
pub(crate) async fn search_records(
    web: &WebState,
    session: &AppSession,
    search: &RecordSearch,
) -> Result<RecordSearchResult, PageError> {
    let store = &web.services.store;
    let mut result = RecordSearchResult {
        rows: vec![],
        next_after: search.after,
        scanned_count: 0,
    };
    while result.scanned_count < MAX_RECORDS_SCANNED {
        let page = store
            .list_records_of_app(session.app().id, result.next_after, SCAN_BATCH)
            .await?;
        let facts = BatchFacts::load_facts(web, search, &page.items).await?;
        for head in page.items {
            result.scanned_count += 1;
            result.next_after = Some(head.record);
            let names = &facts.customer_names;
            let customer_name = names.get(&head.customer).cloned().unwrap_or_default();
            if !facts.matches_record(head.record) || !search.matches_record(&head, &customer_name) {
                continue;
            }
            result.rows.push(RecordRow {
                head,
                customer_name,
            });
            if result.rows.len() == RECORDS_PER_PAGE {
                return Ok(result);
            }
        }
        if page.next_cursor.is_none() {
            result.next_after = None;
            return Ok(result);
        }
    }
    Ok(result)
}

/// The customers' names by their ids.
pub(crate) async fn load_customer_names(
    web: &WebState,
    ids: impl Iterator<Item = CustomerId>,
) -> Result<HashMap<CustomerId, String>, PageError> {
    let mut ids: Vec<CustomerId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let found = load_customers(web, &ids).await?;
    Ok(found.into_iter().map(|it| (it.id, it.name)).collect())
}

/// These customers, in this order, without those that do not exist any more.
async fn load_customers(web: &WebState, ids: &[CustomerId]) -> Result<Vec<Customer>, PageError> {
    let found = ids.iter().map(|id| web.services.store.find_customer(*id));
    let found = futures::future::try_join_all(found).await?;
    Ok(found.into_iter().flatten().collect())
}
