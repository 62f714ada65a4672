//! The first step: the customer chooses a bank.

use maud::{Markup, html};
use okra_core::{
    model::{bank::BankConfig, snapshot::utc_date},
    resilience::bank_breaker::{BankBreaker, BankStatus},
};

use super::{
    super::link_session::{LinkProgress, OpenLinkSession},
    consent::render_consent,
    layout::{load_bank, render_bank_logo, render_step},
};
use crate::{page_error::PageError, web_state::WebState};

/// The banks to choose from.
pub(crate) async fn render_bank_list(
    web: &WebState,
    link: &LinkProgress,
) -> Result<Markup, PageError> {
    let store = &web.services.store;
    let banks = store.list_banks_for_app(link.app);
    let (mut banks, breakers) =
        futures::future::try_join(banks, store.list_bank_breakers()).await?;
    banks.retain(|bank| link.options.offers_bank(bank));
    banks.sort_by(|a, b| a.name.cmp(&b.name));
    let sentence = link
        .options
        .connect_message
        .as_deref()
        .unwrap_or("You log in at the bank itself.");
    Ok(render_step(
        "banks",
        "Choose your bank",
        &html! {
            p.sub { (sentence) }
            @if banks.is_empty() {
                p { "No bank can be linked here yet." }
            } @else {
                label.search for="search" { "Search" }
                input id="search" type="search" autocomplete="off" placeholder="Name of the bank" data-filter="banks";
                form data-action="bank" {
                    ul.banks id="banks" {
                        @for bank in &banks {
                            // A bank without a stored breaker has never failed.
                            @let status = breakers.get(&bank.id).map(BankBreaker::bank_status).unwrap_or_default();
                            li data-name=(bank.name.to_lowercase()) { (render_bank_button(bank, status)) }
                        }
                    }
                }
            p.none id="none" role="status" hidden { "No bank of that name." }
            }
        },
    ))
}

/// A bank to choose, with what keeps it from being chosen.
fn render_bank_button(bank: &BankConfig, status: BankStatus) -> Markup {
    let has_login = okra_connectors::has_login_page(bank);
    html! {
        button name="bank" value=(bank.id) disabled[!has_login || status == BankStatus::Down] {
            (render_bank_logo(bank))
            span.name { (bank.name) }
            @match (has_login, status) {
                (false, _) => span.state { "Not available here" },
                (true, BankStatus::Degraded) => span.state data-tone="warn" { "Some problems now" },
                (true, BankStatus::Down) => span.state data-tone="bad" { "Down now" },
                (true, BankStatus::Healthy) => "",
            }
        }
    }
}

/// Takes the choice of a bank.
pub(crate) async fn choose_bank(
    web: &WebState,
    open: &mut OpenLinkSession,
    bank: &str,
) -> Result<Markup, PageError> {
    let Ok(bank) = bank.parse() else {
        return render_bank_list(web, &open.link).await;
    };
    if open.link.reauth_record.is_none() && open.link.success_payload.is_none() {
        let known = web.services.store.find_owned_bank(bank).await?;
        let is_offered = known.is_some_and(|it| {
            it.is_visible_to(Some(open.link.app)) && open.link.options.offers_bank(&it.config)
        });
        if !is_offered {
            return render_bank_list(web, &open.link).await;
        }
        open.link.bank = Some(bank);
        open.link.authorization = None;
        open.link.reading_since_s = None;
        open.link.bank_error = None;
        open.save_session(web).await?;
    }
    let bank = load_bank(web, &open.link).await?;
    Ok(render_consent(&open.link, &bank, utc_date(web.now())))
}
