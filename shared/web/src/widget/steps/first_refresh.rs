//! The last steps: the first refresh of the new record is waited for, and the success is shown.

use maud::{Markup, html};
use okra_core::model::bank::BankConfig;
use okra_store::Consistency;
use serde_json::Value;

use super::{
    super::link_session::LinkProgress,
    consent::{describe_schedule, effective_schedule},
    layout::{load_bank, render_polling_step},
};
use crate::{page_error::PageError, web_state::WebState};

/// Looks at the first pull until the customer is told that it goes on without them.
const MAX_POLLS: u32 = 25;

pub(crate) fn render_fetching_data(poll_count: u32) -> Markup {
    render_polling_step(
        "progress",
        "Fetching your data",
        "progress",
        poll_count,
        &html! {
            div.bar { span {} }
            p.wait role="status" { "Your account is linked. The first data are on their way…" }
        },
    )
}

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
            @if !is_complete { p.sub { "The first data take a little longer; you need not wait for them." } }
            div.actions { button.main type="button" data-close { "Done" } }
        }
    }
}

pub(crate) async fn poll_first_refresh(
    web: &WebState,
    link: &LinkProgress,
    poll_count: u32,
) -> Result<Markup, PageError> {
    let Some(record) = link.record else {
        return Ok(render_fetching_data(poll_count.saturating_add(1)));
    };
    let head = web
        .api
        .store
        .find_head(record, Consistency::Eventual)
        .await?;
    let pulled = head.is_some_and(|head| {
        let all = head.schedule.iter().all(|(product, _)| {
            head.watermarks
                .get(product)
                .is_some_and(|mark| mark.digest.is_some())
        });
        all && head.is_first_fetched()
    });
    if pulled || poll_count >= MAX_POLLS {
        return Ok(render_success(link, &load_bank(web, link).await?, pulled));
    }
    Ok(render_fetching_data(poll_count.saturating_add(1)))
}
