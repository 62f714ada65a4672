//! The chosen accounts become a record, or renew one.

use axum::http::StatusCode;
use maud::{Markup, html};
use okra_core::model::{bank::BankConfig, snapshot::utc_date};
use serde_json::json;

use super::{
    super::{
        bank_side,
        link_session::{BankLinkError, OpenLinkSession},
        success_payload::build_success_payload,
    },
    bank_login::poll_bank_login,
    consent::render_consent,
    first_refresh::{poll_first_refresh, render_fetching_data},
    layout::load_bank,
};
use crate::{page_error::PageError, web_state::WebState};

/// Makes the record, or renews it; from here on it is refreshed.
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
    let Some(secret) = link.consent.take() else {
        return Ok(render_consent(link, &bank, utc_date(web.now())));
    };
    let holder = link
        .offered_accounts
        .first()
        .map(|it| it.name.clone())
        .unwrap_or_default();
    let mut body = json!({
        "access_token": secret.access_token,
        "refresh_token": secret.refresh_token,
        "expires_in": secret.expires_at.map(|at| at.duration_since(web.now()).as_secs().max(0)),
        "consent_id": secret.consent_id,
        "bank": bank.id,
        "interval": link.options.interval,
        "products": link.options.products,
        "sync_products": link.options.synced_products,
        "limit": link.options.backfill_months,
        "options": link.options.options,
        "meta": link.options.meta,
    });
    match (link.reauth_record, link.options.customer) {
        (Some(record), _) => body["record_id"] = json!(record),
        (None, Some(customer)) => body["customer"] = json!(customer),
        (None, None) => body["name"] = json!(holder),
    }
    if link.reauth_record.is_none() {
        body["account_ids"] = json!(account_ids);
        if let Some(url) = &link.options.webhook_url {
            body["webhook_url"] = json!(url);
        }
    }
    // The consent leaves the session before it is used: nobody links twice with it.
    if !open.save_session(web).await? {
        return poll_bank_login(web, &open.link, 0).await;
    }
    let (status, answer) =
        okra_api::call_route(&web.api, open.link.app, "records/link", body).await;
    let mut now = open.after_save();
    if !status.is_success() {
        let message = answer["message"]
            .as_str()
            .unwrap_or("The bank could not be linked.")
            .to_owned();
        let plain = match status {
            StatusCode::TOO_MANY_REQUESTS => Some(BankLinkError::RateLimited),
            status if status.is_server_error() => Some(BankLinkError::BankUnavailable),
            _ => None,
        };
        // A fault of ours may have come after the record was made, which then needs the consent.
        let taken_back = !status.is_server_error()
            && bank_side::revoke_unused_consent(web, &bank, &secret).await?;
        let plain = plain.map(BankLinkError::customer_message);
        return Ok(render_link_error(&bank, &message, plain, taken_back));
    }
    let linked = &answer["data"];
    now.link.record = linked["record_id"].as_str().and_then(|id| id.parse().ok());
    now.link.success_payload = Some(build_success_payload(&bank, linked));
    now.save_session(web).await?;
    Ok(render_fetching_data(0))
}

/// A link that was refused: `message` is for the app, `plain` for the customer where there is one.
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
                "Nothing that " (bank.name) " shared was kept"
                @if is_revoked { ", and your consent was taken back there." }
                @else { ". You can take your consent back at the bank." }
            }
            div.actions { button.main type="button" data-action="retry" { "Try again" } button type="button" data-close { "Close" } }
        }
    }
}
