//! The steps of a link, as the frame shows them: one module for each, and the handler that takes a step.
//!
//! Bank list, consent, login at the bank, choice of accounts, first refresh. [`layout`] is what all steps look like.

mod account_choice;
mod bank_list;
mod bank_login;
pub(super) mod consent;
mod first_refresh;
mod layout;
mod link_accounts;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use maud::Markup;
use okra_core::model::snapshot::utc_date;

use self::{
    bank_list::{choose_bank, render_bank_list},
    bank_login::{poll_bank_login, restart_bank_login, start_bank_login},
    consent::render_consent,
    first_refresh::poll_first_refresh,
    layout::render_ended_step,
    link_accounts::link_accounts,
};
use super::{
    link_session::{self, LinkProgress},
    origins::is_same_origin,
};
use crate::{
    components::document::html_response, form::FormFields, page_error::PageError,
    web_state::WebState,
};

/// What the customer sees first.
pub(crate) async fn render_first_step(
    web: &WebState,
    link: &LinkProgress,
) -> Result<Markup, PageError> {
    match link.bank {
        Some(bank) => match web.services.store.find_bank(bank).await? {
            Some(bank) => Ok(render_consent(link, &bank, utc_date(web.now()))),
            None => Ok(render_ended_step(
                "The bank of that account is not available here any more.",
            )),
        },
        None => render_bank_list(web, link).await,
    }
}

/// Takes one step: the response is the next one.
pub(crate) async fn handle_step(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    if !is_same_origin(&headers) {
        return Ok(StatusCode::FORBIDDEN.into_response());
    }
    let token = link_session::find_session_token(&headers);
    let Some(mut open) = link_session::load_session(&web, token).await? else {
        let page =
            render_ended_step("This took longer than an hour. Close the window and start again.");
        return Ok(html_response(StatusCode::OK, page));
    };
    let fields = FormFields::read_body(body).await.unwrap_or_default();
    let look = fields.get("look").parse().unwrap_or(0);
    let page = match fields.get("action") {
        "bank" => choose_bank(&web, &mut open, fields.get("bank")).await?,
        "go" => start_bank_login(&web, &mut open, token).await?,
        "wait" => poll_bank_login(&web, &open.link, look).await?,
        "retry" => restart_bank_login(&web, &mut open).await?,
        "accounts" => {
            let chosen: Vec<&str> = fields.all_values("account").collect();
            link_accounts(&web, &mut open, &chosen).await?
        }
        "progress" => poll_first_refresh(&web, &open.link, look).await?,
        _ if open.link.reauth_record.is_none() && open.link.success_payload.is_none() => {
            render_bank_list(&web, &open.link).await?
        }
        _ => render_first_step(&web, &open.link).await?,
    };
    Ok(html_response(StatusCode::OK, page))
}
