//! The state of a record, as the API has it: what the page says is what an app reads.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    ids::{AccountId, RecordId},
    model::Product,
};
use serde::Deserialize;
use serde_json::json;

use super::{call, failing, record::fault};
use crate::{Web, session::Signed, show, trouble::Trouble};

/// `state` of `products/records/get`, as far as a page shows it.
#[derive(Deserialize)]
pub(crate) struct RecordState {
    accounts: Vec<AccountState>,
    history: Option<HistoryState>,
    next_refresh_available_at: Option<Available>,
    pub(crate) needs_user: bool,
    bank_status: String,
    pub(crate) consent_expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Available {
    balance: Timestamp,
    transactions: Timestamp,
}

#[derive(Deserialize)]
struct AccountState {
    account: AccountId,
    balance: DataState,
    transactions: DataState,
}

#[derive(Deserialize, PartialEq)]
struct DataState {
    data_status: String,
    reason: Option<String>,
    since: Option<Timestamp>,
    next_refresh_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct HistoryState {
    complete: bool,
    oldest_date: Option<String>,
    rows: u64,
    percent: u8,
}

/// Something that cannot be had, or not whole, of some accounts.
struct Lack<'a> {
    state: &'a DataState,
    of: Vec<(AccountId, Product)>,
}

impl Lack<'_> {
    fn products(&self) -> Vec<Product> {
        let lacks = |product: &Product| self.of.iter().any(|(_, of)| of == product);
        Product::ALL.into_iter().filter(lacks).collect()
    }

    fn accounts(&self) -> Vec<AccountId> {
        let mut accounts: Vec<AccountId> = self.of.iter().map(|(account, _)| *account).collect();
        accounts.dedup();
        accounts
    }
}

impl AccountState {
    const fn of(&self, product: Product) -> &DataState {
        match product {
            Product::Balance => &self.balance,
            Product::Transactions => &self.transactions,
        }
    }
}

impl RecordState {
    pub(crate) async fn of(web: &Web, signed: &Signed, record: RecordId) -> Result<Self, Trouble> {
        let asked = json!({ "record_id": record });
        let mut answer = call(web, signed, "products/records/get", asked).await?;
        Ok(serde_json::from_value(answer["state"].take())?)
    }

    /// When one of these products is refreshed next by itself.
    pub(crate) fn next_refresh(&self, products: &[Product]) -> Option<Timestamp> {
        let accounts = self.accounts.iter();
        let all = accounts.flat_map(|it| products.iter().map(|product| it.of(*product)));
        all.filter_map(|state| state.next_refresh_at).min()
    }

    /// From when on a refresh of products can be asked for, where that is not now.
    pub(crate) fn waits(&self, now: Timestamp) -> Vec<(Timestamp, Vec<Product>)> {
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
    fn lacks(&self) -> Vec<Lack<'_>> {
        let mut lacks: Vec<Lack<'_>> = Vec::new();
        for it in &self.accounts {
            for product in Product::ALL {
                let state = it.of(product);
                // What the record was linked without is no trouble.
                let lacks_nothing = state.data_status == "AVAILABLE";
                if lacks_nothing || state.reason.as_deref() == Some("not_shared") {
                    continue;
                }
                let of = (it.account, product);
                match lacks.iter_mut().find(|lack| lack.state == state) {
                    Some(lack) => lack.of.push(of),
                    None => lacks.push(Lack {
                        state,
                        of: vec![of],
                    }),
                }
            }
        }
        lacks
    }

    /// A sentence for each thing that cannot be had: why, since when, and when it is tried again.
    pub(crate) fn troubles(&self, now: Timestamp, name: impl Fn(AccountId) -> String) -> Markup {
        html! {
            @for lack in self.lacks() {
                @let state = lack.state;
                p.next {
                    (capitalised(&names(&lack.products()))) " " (available(&state.data_status))
                    @let accounts = lack.accounts();
                    @if accounts.len() < self.accounts.len() {
                        @let names: Vec<_> = accounts.into_iter().map(&name).collect();
                        " of " (names.join(", "))
                    }
                    @if let Some(reason) = &state.reason { ": " (because(reason)) }
                    @if let Some(at) = state.since { ", since " (show::when(now, at)) }
                    "."
                    @if let Some(at) = state.next_refresh_at { " It is tried again by itself " (show::when(now, at)) "." }
                }
            }
        }
    }

    /// How the bank does, where it does not do well.
    pub(crate) fn bank(&self) -> Markup {
        match self.bank_status.as_str() {
            "DOWN" => html! { " " (show::badge("bad", "Down")) },
            "DEGRADED" => html! { " " (show::badge("warn", "Degraded")) },
            _ => html! {},
        }
    }

    /// How far the pull of the history has come.
    pub(crate) fn history(&self) -> Markup {
        let Some(it) = &self.history else {
            return html! { "not begun" };
        };
        html! {
            @if it.complete { "complete" } @else { (it.percent) " %" }
            @if let Some(date) = &it.oldest_date { ", back to " (date) }
            span.note { (show::count(it.rows)) " older rows" }
        }
    }
}

/// `balance and transactions`.
pub(crate) fn names(products: &[Product]) -> String {
    let names = products.iter().map(|product| match product {
        Product::Balance => "balance",
        Product::Transactions => "transactions",
    });
    names.collect::<Vec<_>>().join(" and ")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|it| it.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn available(data_status: &str) -> &'static str {
    match data_status {
        "PARTIAL" => "partly available",
        "UNAVAILABLE" => "not available",
        _ => "failed",
    }
}

/// A reason as people read it.
fn because(reason: &str) -> &str {
    match reason {
        "rows_missing" => "the last answer lacked rows that are not known to be gone",
        "history_refused" => "the bank does not give its older rows",
        "history_gave_up" => "the bank failed too often while its older rows were read",
        reason => match failing::class(reason) {
            Some(class) => fault(class),
            None => reason,
        },
    }
}
