//! What of a record's data cannot be had now, as the API has it: the page says what an app reads.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::model::{
    ids::{AccountId, RecordId},
    snapshot::Product,
};
use serde::Deserialize;
use serde_json::json;

use super::super::{api_call::call_api, session::AppSession};
use crate::{
    components::{
        badges::render_badge,
        format::{format_count, render_relative_time},
        labels::{fault_class_label, find_fault_class, join_product_names},
    },
    page_error::PageError,
    web_state::WebState,
};

/// `state` of `products/records/get`, as far as a page shows it.
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

/// Something that cannot be had, or not whole, of some accounts.
struct UnavailableData<'a> {
    state: &'a DataStateView,
    affected: Vec<(AccountId, Product)>,
}

impl UnavailableData<'_> {
    fn affected_products(&self) -> Vec<Product> {
        let lacks = |product: &Product| self.affected.iter().any(|(_, of)| of == product);
        Product::ALL.into_iter().filter(lacks).collect()
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
        let asked = json!({ "record_id": record });
        let mut answer = call_api(web, session, "products/records/get", asked).await?;
        Ok(serde_json::from_value(answer["state"].take())?)
    }

    /// When one of these products is refreshed next by itself.
    pub(crate) fn next_refresh_at(&self, products: &[Product]) -> Option<Timestamp> {
        let accounts = self.accounts.iter();
        let all = accounts.flat_map(|it| products.iter().map(|product| it.product_state(*product)));
        all.filter_map(|state| state.next_refresh_at).min()
    }

    /// From when on a refresh of products can be asked for, where that is not now.
    pub(crate) fn manual_refresh_times(&self, now: Timestamp) -> Vec<(Timestamp, Vec<Product>)> {
        // The state was read a moment ago, and "now" in it is that moment.
        const A_MOMENT_S: i64 = 2;
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
        waits.retain(|(at, _)| at.as_second() > now.as_second() + A_MOMENT_S);
        waits
    }

    /// What is lacking, with equal lacks of several accounts and products as one.
    fn group_unavailable(&self) -> Vec<UnavailableData<'_>> {
        let mut lacks: Vec<UnavailableData<'_>> = Vec::new();
        for it in &self.accounts {
            for product in Product::ALL {
                let state = it.product_state(product);
                // What the record was linked without is no trouble.
                let lacks_nothing = state.data_status == "AVAILABLE";
                if lacks_nothing || state.reason.as_deref() == Some("not_shared") {
                    continue;
                }
                let of = (it.account, product);
                match lacks.iter_mut().find(|lack| lack.state == state) {
                    Some(lack) => lack.affected.push(of),
                    None => lacks.push(UnavailableData {
                        state,
                        affected: vec![of],
                    }),
                }
            }
        }
        lacks
    }

    /// A sentence for each thing that cannot be had: why, since when, and when it is tried again.
    pub(crate) fn render_unavailable(
        &self,
        now: Timestamp,
        account_name: impl Fn(AccountId) -> String,
    ) -> Markup {
        html! {
            @for lack in self.group_unavailable() {
                @let state = lack.state;
                p.next {
                    (capitalise_first(&join_product_names(&lack.affected_products()))) " " (data_status_label(&state.data_status))
                    @let accounts = lack.affected_accounts();
                    @if accounts.len() < self.accounts.len() {
                        @let names: Vec<_> = accounts.into_iter().map(&account_name).collect();
                        " of " (names.join(", "))
                    }
                    @if let Some(reason) = &state.reason { ": " (describe_reason(reason)) }
                    @if let Some(at) = state.since { ", since " (render_relative_time(now, at)) }
                    "."
                    @if let Some(at) = state.next_refresh_at { " It is tried again by itself " (render_relative_time(now, at)) "." }
                }
            }
        }
    }

    /// How the bank does, where it does not do well.
    pub(crate) fn render_bank_status(&self) -> Markup {
        match self.bank_status.as_str() {
            "DOWN" => html! { " " (render_badge("bad", "Down")) },
            "DEGRADED" => html! { " " (render_badge("warn", "Degraded")) },
            _ => html! {},
        }
    }

    /// How far the pull of the history has come.
    pub(crate) fn render_backfill(&self) -> Markup {
        let Some(it) = &self.backfill else {
            return html! { "not begun" };
        };
        html! {
            @if it.complete { "complete" } @else { (it.percent) " %" }
            @if let Some(date) = &it.oldest_date { ", back to " (date) }
            span.note { (format_count(it.rows)) " older rows" }
        }
    }
}

fn capitalise_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|it| it.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn data_status_label(data_status: &str) -> &'static str {
    match data_status {
        "PARTIAL" => "partly available",
        "UNAVAILABLE" => "not available",
        _ => "failed",
    }
}

/// A reason as people read it.
fn describe_reason(reason: &str) -> &str {
    match reason {
        "rows_missing" => "the last answer lacked rows that are not known to be gone",
        "history_refused" => "the bank does not give its older rows",
        "history_gave_up" => "the bank failed too often while its older rows were read",
        reason => match find_fault_class(reason) {
            Some(class) => fault_class_label(class),
            None => reason,
        },
    }
}
