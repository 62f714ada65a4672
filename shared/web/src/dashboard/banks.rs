//! The banks that are configured.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use maud::html;
use okra_core::{bank::Standard, ids::BankId};
use okra_store::RecordStatus;

use super::overview;
use crate::{
    Web,
    html::{Page, Section, empty, table},
    session::Signed,
    show,
    trouble::Trouble,
};

pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let banks = web.api.store.banks().await?;
    let heads = overview::heads(&web, &signed).await?;
    let mut counts: HashMap<BankId, (u64, u64)> = HashMap::new();
    for head in &heads.items {
        let (all, waiting) = counts.entry(head.bank).or_default();
        *all += 1;
        *waiting += u64::from(head.status == RecordStatus::TokenRequired);
    }
    let body = html! {
        div.head { h1 { "Banks" } p.sub { "What each bank speaks and allows, and the records this app has there." } }
        @if banks.is_empty() {
            (empty("No banks yet", &html! {
                p { "Banks are configuration: a TOML file for " code { "--banks" } ", or " code { "POST /v2/banks/add" } "." }
            }))
        } @else {
            (table("Banks", &html! {
                th { "Bank" } th.number { "Records" } th.number { "Need the user" }
                th.wide { "Standard" } th.wide.number { "Records a second" } th.wide.number { "Calls at once" } th.wide { "Address" }
            }, &html! {
                @for bank in &banks {
                    @let (all, waiting) = counts.get(&bank.id).copied().unwrap_or_default();
                    tr {
                        td { span.strong { (bank.name) } span.note { (bank.slug) } }
                        td.number { a href={ "/dashboard/records?bank=" (bank.id) } { (show::count(all)) } }
                        td.number { a href={ "/dashboard/records?status=token_required&bank=" (bank.id) } { (show::count(waiting)) } }
                        td.wide { (match bank.standard { Standard::Obie31 => "UK Open Banking 3.1", Standard::Obie40 => "UK Open Banking 4.0" }) }
                        td.wide.number { (bank.limits.records_per_second) }
                        td.wide.number { (bank.limits.concurrency) }
                        td.wide { code { (bank.base_url) } }
                    }
                }
            }))
        }
    };
    let page = Page {
        signed: &signed,
        section: Section::Banks,
        title: "Banks",
        live: None,
        body,
    };
    Ok(page.into_response())
}
