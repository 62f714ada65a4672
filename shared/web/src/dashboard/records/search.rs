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
use crate::{components::labels::find_fault_class, page_error::PageError, web_state::WebState};

/// Records on one page.
const RECORDS_PER_PAGE: usize = 50;

/// Records and customers read at once.
const SCAN_BATCH: usize = 100;

/// What is looked for.
pub(crate) struct RecordSearch {
    pub(crate) text: String,
    pub(crate) status: Option<RecordStatus>,
    pub(crate) bank: Option<BankId>,
    pub(crate) interval: Option<Interval>,
    pub(crate) customer: Option<CustomerId>,
    /// Those alone that are not as fresh as their interval promises.
    pub(crate) is_late_only: bool,
    /// Those alone of which something cannot be had, for a reason of this class.
    pub(crate) failing_class: Option<FaultClass>,
    pub(crate) after: Option<RecordId>,
}

impl RecordSearch {
    pub(crate) fn from_query(session: &AppSession) -> Self {
        let get = |name| session.query.get(name);
        Self {
            text: get("q").to_owned(),
            status: [
                RecordStatus::Active,
                RecordStatus::ReauthorisationRequired,
                RecordStatus::Invalid,
            ]
            .into_iter()
            .find(|status| status.as_str() == get("status")),
            bank: get("bank").parse().ok(),
            interval: get("interval").parse().ok(),
            customer: get("customer").parse().ok(),
            is_late_only: get("fresh") == "no",
            failing_class: find_fault_class(get("failing")),
            after: get("after").parse().ok(),
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
        let found = text.is_empty()
            || name.to_lowercase().contains(&text)
            || head.record.to_string().starts_with(&text)
            || head.customer.to_string().starts_with(&text)
            || head.options.to_string().to_lowercase().contains(&text);
        let on = |interval| head.schedule.iter().any(|(_, it)| *it == interval);
        found
            && self.status.is_none_or(|status| status == head.status)
            && self.bank.is_none_or(|bank| bank == head.bank)
            && self.interval.is_none_or(on)
            && self
                .customer
                .is_none_or(|customer| customer == head.customer)
    }
}

/// A record, and whose it is.
pub(crate) struct RecordRow {
    pub(crate) head: RecordHead,
    pub(crate) customer_name: String,
}

/// The rows of a page, and after which record the next page begins.
pub(crate) struct RecordSearchResult {
    pub(crate) rows: Vec<RecordRow>,
    pub(crate) next_after: Option<RecordId>,
    pub(crate) scanned_count: usize,
}

pub(crate) async fn search_records(
    web: &WebState,
    session: &AppSession,
    search: &RecordSearch,
) -> Result<RecordSearchResult, PageError> {
    let store = &web.api.store;
    let (mut found, mut after) = (
        RecordSearchResult {
            rows: vec![],
            next_after: None,
            scanned_count: 0,
        },
        search.after,
    );
    while found.scanned_count < MAX_RECORDS_SCANNED {
        let page = store
            .list_records_of_app(session.app.id, after, SCAN_BATCH)
            .await?;
        let names = load_customer_names(web, page.items.iter().map(|head| head.customer)).await?;
        let late = match search.is_late_only {
            true => Some(freshness::load_freshness(web, &page.items, web.now()).await?),
            false => None,
        };
        let failing = match search.failing_class {
            Some(class) => Some(failing::find_failing_records(web, &page.items, class).await?),
            None => None,
        };
        for head in page.items {
            found.scanned_count += 1;
            let is_late = |of: &HashMap<_, _>| of.get(&head.record) == Some(&Freshness::Late);
            let fails = |of: &HashSet<_>| of.contains(&head.record);
            if !(late.as_ref().is_none_or(is_late) && failing.as_ref().is_none_or(fails)) {
                after = Some(head.record);
                continue;
            }
            let customer = names.get(&head.customer).cloned().unwrap_or_default();
            after = Some(head.record);
            if search.matches_record(&head, &customer) {
                found.rows.push(RecordRow {
                    head,
                    customer_name: customer,
                });
                if found.rows.len() == RECORDS_PER_PAGE {
                    found.next_after = after;
                    return Ok(found);
                }
            }
        }
        if page.next_cursor.is_none() {
            return Ok(found);
        }
    }
    found.next_after = after;
    Ok(found)
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

/// These customers, in the order asked for; those that are not there are left out.
async fn load_customers(web: &WebState, ids: &[CustomerId]) -> Result<Vec<Customer>, PageError> {
    let found = ids.iter().map(|id| web.api.store.find_customer(*id));
    let found = futures::future::try_join_all(found).await?;
    Ok(found.into_iter().flatten().collect())
}
