//! The chosen accounts become a record, or renew one.

use std::{error::Error, sync::Arc};

use maud::{Markup, html};
use okra_app::{
    AppError, AppScope,
    linking::{LinkCustomer, LinkRecordRequest, LinkTerms, RenewRecordRequest},
};
use okra_connectors::ConsentSecret;
use okra_core::model::{bank::BankConfig, fault::FaultClass, snapshot::utc_date};
use serde_json::json;

use super::{
    super::{
        bank_side,
        link_session::{BankLinkError, OpenLinkSession},
        options::LinkOptions,
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
    let (options, reauth_record) = (link.options.clone(), link.reauth_record);
    let holder = link.offered_accounts.first().map(|it| it.name.clone());
    // The consent leaves the session before it is used: no two calls link with it.
    if !open.save_session(web).await? {
        return poll_bank_login(web, &open.link, 0).await;
    }
    let scope = AppScope::load_by_id(Arc::clone(&web.services), open.link.app).await?;
    let linked = match reauth_record {
        Some(record) => {
            let renewal = RenewRecordRequest {
                record,
                consent: consent.clone(),
                consent_expires_at: None,
                user_address: None,
            };
            scope.renew_record(renewal).await
        }
        None => {
            let customer = choose_customer(&options, holder);
            let request = build_link_request(options, &bank, &consent, customer, account_ids);
            scope.link_record(request).await
        }
    };
    let linked = match linked {
        Ok(linked) => linked,
        Err(error) => return render_failed_link(web, &bank, &consent, &error).await,
    };
    let mut open = open.after_save();
    open.link.record = Some(linked.head.record);
    open.link.success_payload = Some(build_success_payload(&bank, &linked));
    open.save_session(web).await?;
    Ok(render_fetching_data(0))
}

/// The customer whose record it becomes: the returning one, or a new one with the name of the account's holder.
fn choose_customer(options: &LinkOptions, holder: Option<String>) -> LinkCustomer {
    match options.customer {
        Some(customer) => LinkCustomer::Existing(customer),
        None => LinkCustomer::New {
            name: holder.unwrap_or_default(),
            email: None,
        },
    }
}

/// The request that links these accounts as a new record.
fn build_link_request(
    options: LinkOptions,
    bank: &BankConfig,
    consent: &ConsentSecret,
    customer: LinkCustomer,
    account_ids: &[&str],
) -> LinkRecordRequest {
    LinkRecordRequest {
        bank: bank.id,
        consent: consent.clone(),
        customer,
        account_ids: account_ids.iter().map(|&id| id.to_owned()).collect(),
        terms: LinkTerms {
            interval: Some(options.interval),
            products: options.products,
            synced_products: options.synced_products,
            webhook_url: options.webhook_url,
            backfill_months: options.backfill_months,
            consent_expires_at: None,
            options: options.options,
            meta: options.meta,
        },
        user_address: None,
    }
}

/// How much a failed link says to whom, and whether a record may have been linked all the same.
struct LinkFailure {
    /// The message for the customer, where it is not the one for the app.
    customer_error: Option<BankLinkError>,
    /// The fault may have occurred after the record was linked, which then needs the consent.
    may_be_linked: bool,
}

impl LinkFailure {
    fn from_error(error: &AppError) -> Self {
        let (customer_error, may_be_linked) = match error {
            AppError::RateLimited { .. }
            | AppError::BankBusy { .. }
            | AppError::QuotaSpent { .. } => (Some(BankLinkError::RateLimited), false),
            AppError::BankFault { fault, .. } => match fault.class {
                FaultClass::RateLimited | FaultClass::QuotaSpent => {
                    (Some(BankLinkError::RateLimited), false)
                }
                FaultClass::ConsentRejected => (None, false),
                FaultClass::BankUnavailable
                | FaultClass::AccountGone
                | FaultClass::MalformedResponse
                | FaultClass::Internal => (Some(BankLinkError::BankUnavailable), true),
            },
            AppError::Busy | AppError::Contended(_) | AppError::Internal(_) => {
                (Some(BankLinkError::BankUnavailable), true)
            }
            _ => (None, false),
        };
        Self {
            customer_error,
            may_be_linked,
        }
    }
}

/// The step after a link that failed. The consent is revoked where no record can have been linked with it.
async fn render_failed_link(
    web: &WebState,
    bank: &BankConfig,
    consent: &ConsentSecret,
    error: &AppError,
) -> Result<Markup, PageError> {
    if let AppError::Internal(_) | AppError::Contended(_) = error {
        let error = error as &(dyn Error + 'static);
        tracing::error!(error, bank.id = %bank.id, "a record could not be linked");
    }
    let failure = LinkFailure::from_error(error);
    let is_revoked =
        !failure.may_be_linked && bank_side::revoke_unused_consent(web, bank, consent).await?;
    let customer_message = failure.customer_error.map(BankLinkError::customer_message);
    let message = format!("{error}.");
    Ok(render_link_error(
        bank,
        &message,
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
