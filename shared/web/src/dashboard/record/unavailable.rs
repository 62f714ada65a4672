//! Which of a record's data is unavailable now, and why, as the API has it: the page says what an app reads.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    model::{
        ids::{AccountId, RecordId},
        snapshot::Product,
    },
    sync::state::AvailabilityReason,
};
use serde::Deserialize;
use serde_json::json;

use super::super::{api_call::call_api, session::AppSession};
use crate::{
    components::{
        badges::render_badge,
        format::{format_count, render_relative_time},
        labels::{capitalise_first, join_product_names},
    },
    page_error::PageError,
    web_state::WebState,
};

/// `state` of `products/records/get`, as far as the page shows it.
#[derive(Deserialize)]
pub(crate) struct RecordStateView {
    accounts: Vec<AccountStateView>,
    #[serde(rename = "history")]
    backfill: Option<BackfillView>,
    next_refresh_available_at: Option<RefreshAvailability>,
    pub(crate) needs_user: bool,
    bank_status: String,
    pub(crate) consent_expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct RefreshAvailability {
    balance: Timestamp,
    transactions: Timestamp,
}

#[derive(Deserialize)]
struct AccountStateView {
    account: AccountId,
    balance: DataStateView,
    transactions: DataStateView,
}

#[derive(Deserialize, PartialEq)]
struct DataStateView {
    data_status: String,
    reason: Option<String>,
    since: Option<Timestamp>,
    next_refresh_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct BackfillView {
    complete: bool,
    oldest_date: Option<String>,
    rows: u64,
    percent: u8,
}

/// Products of accounts that are unavailable, or only partly available, for the same reason since the same time.
struct UnavailableData<'a> {
    state: &'a DataStateView,
    affected: Vec<(AccountId, Product)>,
}

impl UnavailableData<'_> {
    fn affected_products(&self) -> Vec<Product> {
        let mut products: Vec<Product> =
            self.affected.iter().map(|(_, product)| *product).collect();
        products.sort_unstable();
        products.dedup();
        products
    }

    fn affected_accounts(&self) -> Vec<AccountId> {
        let mut accounts: Vec<AccountId> =
            self.affected.iter().map(|(account, _)| *account).collect();
        accounts.dedup();
        accounts
    }
}

impl AccountStateView {
    const fn product_state(&self, product: Product) -> &DataStateView {
        match product {
            Product::Balance => &self.balance,
            Product::Transactions => &self.transactions,
        }
    }
}

impl RecordStateView {
    pub(crate) async fn load_state(
        web: &WebState,
        session: &AppSession,
        record: RecordId,
    ) -> Result<Self, PageError> {
        let request = json!({ "record_id": record });
        let mut response = call_api(web, session, "products/records/get", request).await?;
        Ok(serde_json::from_value(response["state"].take())?)
    }

    /// When one of these products is refreshed next on its schedule.
    pub(crate) fn next_refresh_at(&self, products: &[Product]) -> Option<Timestamp> {
        let accounts = self.accounts.iter();
        let all = accounts.flat_map(|it| products.iter().map(|product| it.product_state(*product)));
        all.filter_map(|state| state.next_refresh_at).min()
    }

    /// From when on a refresh of products can be requested, where that is not now.
    pub(crate) fn manual_refresh_times(&self, now: Timestamp) -> Vec<(Timestamp, Vec<Product>)> {
        // The state was read a moment ago, and "now" in it is that moment.
        const TOLERANCE_S: i64 = 2;
        let Some(at) = &self.next_refresh_available_at else {
            return vec![];
        };
        let mut waits = match at.balance.as_second() == at.transactions.as_second() {
            true => vec![(at.balance, Product::ALL.to_vec())],
            false => vec![
                (at.balance, vec![Product::Balance]),
                (at.transactions, vec![Product::Transactions]),
            ],
        };
        waits.retain(|(at, _)| at.as_second() > now.as_second() + TOLERANCE_S);
        waits
    }

    /// What is unavailable, with equal states of several accounts and products as one. What the record was linked
    /// without is not among it.
    fn group_unavailable(&self) -> Vec<UnavailableData<'_>> {
        let mut groups: Vec<UnavailableData<'_>> = Vec::new();
        for it in &self.accounts {
            for product in Product::ALL {
                let state = it.product_state(product);
                let is_shared = state.reason.as_deref() != Some("not_shared");
                if state.data_status == "AVAILABLE" || !is_shared {
                    continue;
                }
                let affected = (it.account, product);
                match groups.iter_mut().find(|group| group.state == state) {
                    Some(group) => group.affected.push(affected),
                    None => groups.push(UnavailableData {
                        state,
                        affected: vec![affected],
                    }),
                }
            }
        }
        groups
    }

    /// What is unavailable: since when, why, and when it is refreshed next.
    pub(crate) fn render_unavailable(
        &self,
        now: Timestamp,
        account_name: impl Fn(AccountId) -> String,
    ) -> Markup {
        html! {
            @for group in self.group_unavailable() {
                @let state = group.state;
                @let accounts = group.affected_accounts();
                p.next {
                    (capitalise_first(&join_product_names(&group.affected_products())))
                    @if accounts.len() < self.accounts.len() {
                        @let names: Vec<_> = accounts.into_iter().map(&account_name).collect();
                        " of " (names.join(", "))
                    }
                    ": " (data_status_label(&state.data_status))
                    @if let Some(at) = state.since { " since " (render_relative_time(now, at)) }
                    "."
                    @if let Some(reason) = &state.reason { " " (AvailabilityReason::parse(reason).map_or(reason.as_str(), |it| it.to_sentence())) "." }
                    @if let Some(at) = state.next_refresh_at { " Next refresh " (render_relative_time(now, at)) "." }
                }
            }
        }
    }

    /// The health of the bank, where it is not healthy.
    pub(crate) fn render_bank_status(&self) -> Markup {
        match self.bank_status.as_str() {
            "DOWN" => html! { " " (render_badge("bad", "Down")) },
            "DEGRADED" => html! { " " (render_badge("warn", "Degraded")) },
            _ => html! {},
        }
    }

    /// How far the backfill has come.
    pub(crate) fn render_backfill(&self) -> Markup {
        let Some(it) = &self.backfill else {
            return html! { "not started" };
        };
        html! {
            @if it.complete { "complete" } @else { (it.percent) " %" }
            @if let Some(date) = &it.oldest_date { ", back to " (date) }
            span.note { (format_count(it.rows)) " older transactions" }
        }
    }
}

fn data_status_label(data_status: &str) -> &'static str {
    match data_status {
        "PARTIAL" => "partly available",
        "UNAVAILABLE" => "unavailable",
        _ => "failed",
    }
}
