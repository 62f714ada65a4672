//! The last steps: the first refresh of the new record is waited for, and the success is shown.

use maud::{Markup, html};
use okra_core::model::{bank::BankConfig, snapshot::Product};
use okra_store::{Consistency, RecordHead};
use serde_json::Value;

use super::{
    super::link_session::LinkProgress,
    consent::{describe_schedule, effective_schedule},
    layout::{load_bank, render_polling_step},
};
use crate::{page_error::PageError, web_state::WebState};

/// How often the frame asks whether the first refresh is done, until the customer need not wait for it any more.
const MAX_POLLS: u32 = 25;

/// The first refresh is in progress.
pub(crate) fn render_fetching_data(poll_count: u32) -> Markup {
    render_polling_step(
        "progress",
        "Fetching your data",
        "progress",
        poll_count,
        &html! {
            div.bar { span {} }
            p.wait role="status" { "Your account is linked. The first data is being fetched…" }
        },
    )
}

/// The record is linked; `is_complete` where its first refresh is done.
fn render_success(link: &LinkProgress, bank: &BankConfig, is_complete: bool) -> Markup {
    let title = link
        .options
        .success_title
        .as_deref()
        .unwrap_or("Account linked");
    let app = link.options.app_name.as_deref().unwrap_or("the app");
    let message = link.success_payload.as_ref().map(Value::to_string);
    html! {
        section data-step="success" data-success=[message] data-redirect=[link.options.redirect_url.as_deref()] {
            div.tick aria-hidden="true" { svg viewBox="0 0 40 40" width="56" height="56" {
                circle cx="20" cy="20" r="19" {} path d="M12 20.5l5.5 5.5L28.5 15" {}
            } }
            h1 tabindex="-1" { (title) }
            @match &link.options.success_message {
                Some(message) => p { (message) },
                None => p { "From now on " (app) " is kept up to date, " (describe_schedule(effective_schedule(link, bank))) "." },
            }
            @if !is_complete { p.sub { "The first data takes a little longer; you need not wait for it." } }
            div.actions { button.main type="button" data-close { "Done" } }
        }
    }
}

/// The success, once the first refresh is done.
pub(crate) async fn poll_first_refresh(
    web: &WebState,
    link: &LinkProgress,
    poll_count: u32,
) -> Result<Markup, PageError> {
    let Some(record) = link.record else {
        return Ok(render_fetching_data(poll_count.saturating_add(1)));
    };
    let store = &web.services.store;
    let head = store.find_head(record, Consistency::Eventual).await?;
    let is_complete = head.is_some_and(|head| {
        head.is_first_fetched()
            && head
                .schedule
                .iter()
                .all(|(product, _)| is_fetched(&head, product))
    });
    if is_complete || poll_count >= MAX_POLLS {
        let bank = load_bank(web, link).await?;
        return Ok(render_success(link, &bank, is_complete));
    }
    Ok(render_fetching_data(poll_count.saturating_add(1)))
}

/// True where a product of a record was fetched and dispatched.
fn is_fetched(head: &RecordHead, product: Product) -> bool {
    let watermark = head.watermarks.get(product);
    watermark.is_some_and(|watermark| watermark.digest.is_some())
}
