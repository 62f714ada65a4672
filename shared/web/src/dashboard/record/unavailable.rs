//! What the application layer knows of a record's state, as the card of the state shows it: what is unavailable and why,
//! when the next refresh is, when one can be requested, and how far the backfill has come.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_app::record_state::{BackfillSummary, ProductDataState, RecordState};
use okra_core::{
    model::{ids::AccountId, snapshot::Product},
    sync::state::{Availability, AvailabilityReason},
};

use super::load::RecordPage;
use crate::components::{
    format::{format_count, render_relative_time},
    labels::{capitalise_first, join_product_names},
};

/// When one of these products is refreshed next on its schedule.
pub(crate) fn next_refresh_at(state: &RecordState, products: &[Product]) -> Option<Timestamp> {
    let accounts = state.accounts.iter();
    accounts
        .flat_map(|it| products.iter().map(|product| it.product_state(*product)))
        .filter_map(|state| state.next_refresh_at)
        .min()
}

/// From when on a refresh of products can be requested, where that is not now.
pub(crate) fn manual_refresh_times(
    state: &RecordState,
    now: Timestamp,
) -> Vec<(Timestamp, Vec<Product>)> {
    // The state was read a moment ago, and "now" in it is that moment.
    const TOLERANCE_S: i64 = 2;
    let Some(at) = state.next_refresh_available_at else {
        return vec![];
    };
    let mut times = match at.balance.as_second() == at.transactions.as_second() {
        true => vec![(at.balance, Product::ALL.to_vec())],
        false => vec![
            (at.balance, vec![Product::Balance]),
            (at.transactions, vec![Product::Transactions]),
        ],
    };
    times.retain(|(at, _)| at.as_second() > now.as_second() + TOLERANCE_S);
    times
}

/// Products of accounts that are unavailable, or only partly available, for the same reason since the same time.
struct UnavailableData<'a> {
    state: &'a ProductDataState,
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

/// What is unavailable, with equal states of several accounts and products as one. What the record was linked without is
/// not among it.
fn group_unavailable(state: &RecordState) -> Vec<UnavailableData<'_>> {
    let mut groups: Vec<UnavailableData<'_>> = Vec::new();
    for account in &state.accounts {
        for product in Product::ALL {
            let state = account.product_state(product);
            let is_shared = state.reason != Some(AvailabilityReason::NotShared);
            if state.availability == Availability::Available || !is_shared {
                continue;
            }
            let affected = (account.account, product);
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
pub(crate) fn render_unavailable(page: &RecordPage) -> Markup {
    html! {
        @for group in group_unavailable(&page.state) {
            @let state = group.state;
            @let accounts = group.affected_accounts();
            p.next {
                (capitalise_first(&join_product_names(&group.affected_products())))
                @if accounts.len() < page.state.accounts.len() {
                    @let names: Vec<_> = accounts.into_iter().map(|id| page.account_name(id)).collect();
                    " of " (names.join(", "))
                }
                ": " (state.availability.as_label())
                @if let Some(at) = state.since { " since " (render_relative_time(page.now, at)) }
                "."
                @if let Some(reason) = state.reason { " " (reason.to_sentence()) "." }
                @if let Some(at) = state.next_refresh_at { " Next refresh " (render_relative_time(page.now, at)) "." }
            }
        }
    }
}

/// How far the backfill has come.
pub(crate) fn render_backfill(backfill: Option<&BackfillSummary>) -> Markup {
    let Some(it) = backfill else {
        return html! { "not started" };
    };
    html! {
        @if it.is_complete { "complete" } @else { (it.percent) " %" }
        @if let Some(date) = it.oldest_date { ", back to " (date) }
        span.note { (format_count(it.rows)) " older transactions" }
    }
}
