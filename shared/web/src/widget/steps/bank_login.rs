//! The login at the bank, in a window of its own: started, waited for, and started anew.

use maud::{Markup, html};
use okra_core::model::{bank::BankConfig, snapshot::utc_date};
use okra_store::{CallLimit, MINUTE_S};

use super::{
    super::{
        bank_side,
        link_session::{BankLinkError, LinkProgress, OpenLinkSession},
    },
    account_choice::render_account_choice,
    consent::{effective_schedule, render_consent},
    first_refresh::poll_first_refresh,
    layout::{load_bank, render_bank_logo, render_polling_step},
};
use crate::{page_error::PageError, web_state::WebState};

/// Logins at banks that one session starts at most.
const MAX_LOGINS_PER_SESSION: u32 = 10;

/// An app's logins in a minute take at most this part of a bank's rate.
const APP_LOGIN_DIVISOR: u32 = 4;

/// Logins at one bank that an app starts in a minute at most, however much the bank allows.
const MAX_APP_LOGINS_PER_MINUTE: u32 = 60;

/// Seconds within which the accounts are fetched after the customer's return; after that the call that fetched them has
/// crashed.
const READING_TIMEOUT_S: i64 = 60;

fn render_bank_login(bank: &BankConfig, poll_count: u32) -> Markup {
    render_polling_step(
        "bank",
        &format!("Log in at {}", bank.name),
        "wait",
        poll_count,
        &html! {
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            p { "The bank's own page is open in another window. Come back here when you are done." }
            p.wait role="status" { "Waiting for you to log in…" }
            div.actions {
                a.button href="/widget/login" target="okra-bank" rel="opener" data-go { "Open the bank's page" }
                button type="button" data-action="retry" { "Start again" }
            }
        },
    )
}

/// The customer has returned, and the accounts are being fetched.
fn render_reading_accounts(bank: &BankConfig, poll_count: u32) -> Markup {
    render_polling_step(
        "reading",
        "Reading your accounts",
        "wait",
        poll_count,
        &html! {
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            div.bar { span {} }
            p.wait role="status" { "Fetching your accounts from the bank…" }
        },
    )
}

/// True where the session and its app may start another login at the bank. A bank that several apps use has a limit
/// that they share: one app's public key, which anybody can read, gets a part of it and not the whole.
async fn has_login_permit(
    web: &WebState,
    link: &LinkProgress,
    bank: &BankConfig,
) -> Result<bool, PageError> {
    if link.login_count >= MAX_LOGINS_PER_SESSION {
        return Ok(false);
    }
    let per_minute = bank.limits.records_per_second.saturating_mul(MINUTE_S);
    let limit = CallLimit {
        max_calls: (per_minute / APP_LOGIN_DIVISOR).clamp(1, MAX_APP_LOGINS_PER_MINUTE),
        window_s: MINUTE_S,
    };
    let name = format!("login#{}", bank.id);
    let store = &web.services.store;
    Ok(store.count_call(link.app, &name, limit, web.now()).await?)
}

/// Starts a login at the bank.
pub(crate) async fn start_bank_login(
    web: &WebState,
    open: &mut OpenLinkSession,
    token: &str,
) -> Result<Markup, PageError> {
    let bank = load_bank(web, &open.link).await?;
    if !has_login_permit(web, &open.link, &bank).await? {
        open.link.bank_error = Some(BankLinkError::RateLimited);
        return Ok(render_consent(&open.link, &bank, utc_date(web.now())));
    }
    open.link.login_count += 1;
    let products = effective_schedule(&open.link, &bank).products();
    match bank_side::start_authorization(web, &bank, token, &products).await? {
        Ok(authorization) => {
            open.link.authorization = Some(authorization);
            open.link.bank_error = None;
            open.save_session(web).await?;
            Ok(render_bank_login(&bank, 0))
        }
        Err(problem) => {
            open.link.bank_error = Some(problem);
            Ok(render_consent(&open.link, &bank, utc_date(web.now())))
        }
    }
}

/// Abandons the login that is in progress.
pub(crate) async fn restart_bank_login(
    web: &WebState,
    open: &mut OpenLinkSession,
) -> Result<Markup, PageError> {
    (open.link.authorization, open.link.reading_since_s) = (None, None);
    open.save_session(web).await?;
    let bank = load_bank(web, &open.link).await?;
    Ok(render_consent(&open.link, &bank, utc_date(web.now())))
}

/// The next step, once the customer has returned from the bank.
pub(crate) async fn poll_bank_login(
    web: &WebState,
    link: &LinkProgress,
    poll_count: u32,
) -> Result<Markup, PageError> {
    let bank = load_bank(web, link).await?;
    if link.success_payload.is_some() {
        return poll_first_refresh(web, link, poll_count).await;
    }
    if link.bank_error.is_some() {
        return Ok(render_consent(link, &bank, utc_date(web.now())));
    }
    match (&link.consent, &link.authorization) {
        (Some(_), _) => Ok(render_account_choice(link, &bank)),
        (None, Some(_)) => Ok(render_bank_login(&bank, poll_count.saturating_add(1))),
        (None, None)
            if link
                .reading_since_s
                .is_some_and(|since| web.now().as_second() < since + READING_TIMEOUT_S) =>
        {
            Ok(render_reading_accounts(&bank, poll_count.saturating_add(1)))
        }
        (None, None) => Ok(render_consent(link, &bank, utc_date(web.now()))),
    }
}
