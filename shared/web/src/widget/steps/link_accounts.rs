//! The chosen accounts become a record, or renew one.

use axum::http::StatusCode;
use jiff::Timestamp;
use maud::{Markup, html};
use okra_connectors::ConsentSecret;
use okra_core::model::{bank::BankConfig, snapshot::utc_date};
use serde_json::{Value, json};

use super::{
    super::{
        bank_side,
        link_session::{BankLinkError, LinkProgress, OpenLinkSession},
        success_payload::build_success_payload,
    },
    bank_login::poll_bank_login,
    consent::render_consent,
    first_refresh::{poll_first_refresh, render_fetching_data},
    layout::load_bank,
};
use crate::{page_error::PageError, web_state::WebState};

/// Links the record, or renews it; from then on it is refreshed.
pub(crate) async fn link_accounts(
    web: &WebState,
    open: &mut OpenLinkSession,
    account_ids: &[&str],
) -> Result<Markup, PageError> {
    let bank = load_bank(web, &open.link).await?;
    let link = &mut open.link;
    if link.success_payload.is_some() {
        return poll_first_refresh(web, link, 0).await;
    }
    let Some(consent) = link.consent.take() else {
        return Ok(render_consent(link, &bank, utc_date(web.now())));
    };
    let request = build_link_request(link, &bank, &consent, account_ids, web.now());
    // The consent leaves the session before it is used: no two calls link with it.
    if !open.save_session(web).await? {
        return poll_bank_login(web, &open.link, 0).await;
    }
    let (status, response) =
        okra_api::call_route(&web.api, open.link.app, "records/link", request).await;
    if !status.is_success() {
        let message = response["message"].as_str();
        return render_failed_link(web, &bank, &consent, status, message).await;
    }
    let mut linked = open.after_save();
    let data = &response["data"];
    linked.link.record = data["record_id"].as_str().and_then(|id| id.parse().ok());
    linked.link.success_payload = Some(build_success_payload(&bank, data));
    linked.save_session(web).await?;
    Ok(render_fetching_data(0))
}

/// The request of `records/link` for these accounts.
fn build_link_request(
    link: &LinkProgress,
    bank: &BankConfig,
    consent: &ConsentSecret,
    account_ids: &[&str],
    now: Timestamp,
) -> Value {
    let mut request = json!({
        "access_token": consent.access_token,
        "refresh_token": consent.refresh_token,
        // A token that has expired meanwhile is valid for no longer, not for a negative time.
        "expires_in": consent.expires_at.map(|at| at.duration_since(now).as_secs().max(0)),
        "consent_id": consent.consent_id,
        "bank": bank.id,
        "interval": link.options.interval,
        "products": link.options.products,
        "sync_products": link.options.synced_products,
        "limit": link.options.backfill_months,
        "options": link.options.options,
        "meta": link.options.meta,
    });
    match (link.reauth_record, link.options.customer) {
        (Some(record), _) => request["record_id"] = json!(record),
        (None, Some(customer)) => request["customer"] = json!(customer),
        (None, None) => {
            let holder = link.offered_accounts.first().map(|it| it.name.as_str());
            request["name"] = json!(holder.unwrap_or_default());
        }
    }
    if link.reauth_record.is_none() {
        request["account_ids"] = json!(account_ids);
        if let Some(url) = &link.options.webhook_url {
            request["webhook_url"] = json!(url);
        }
    }
    request
}

/// The step after a link that failed. The consent is revoked where no record can have been linked with it.
async fn render_failed_link(
    web: &WebState,
    bank: &BankConfig,
    consent: &ConsentSecret,
    status: StatusCode,
    message: Option<&str>,
) -> Result<Markup, PageError> {
    let error = match status {
        StatusCode::TOO_MANY_REQUESTS => Some(BankLinkError::RateLimited),
        status if status.is_server_error() => Some(BankLinkError::BankUnavailable),
        _ => None,
    };
    // A fault of ours may have occurred after the record was linked, which then needs the consent.
    let is_revoked =
        !status.is_server_error() && bank_side::revoke_unused_consent(web, bank, consent).await?;
    let message = message.unwrap_or("The bank could not be linked.");
    let customer_message = error.map(BankLinkError::customer_message);
    Ok(render_link_error(
        bank,
        message,
        customer_message,
        is_revoked,
    ))
}

/// A link that failed: `message` is for the app, and for the customer where there is no `customer_message`.
fn render_link_error(
    bank: &BankConfig,
    message: &str,
    customer_message: Option<&str>,
    is_revoked: bool,
) -> Markup {
    let error = json!({
        "type": "error", "error": true, "status": false, "code": 1008,
        "method": "Link", "message": message,
    });
    html! {
        section data-step="refused" data-error=(error.to_string()) {
            h1 tabindex="-1" { "It could not be linked" }
            p { (customer_message.unwrap_or(message)) }
            p.sub {
                "Nothing that " (bank.name) " shared was stored"
                @if is_revoked { ", and your consent was revoked there." }
                @else { ". You can revoke your consent at the bank." }
            }
            div.actions { button.main type="button" data-action="retry" { "Try again" } button type="button" data-close { "Close" } }
        }
    }
}
