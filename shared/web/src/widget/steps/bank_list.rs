//! The first step: the customer chooses a bank.

use maud::{Markup, html};
use okra_core::{
    model::snapshot::utc_date,
    resilience::bank_breaker::{BankBreaker, BankStatus},
};
use okra_store::OwnedBank;

use super::{
    super::link_session::{LinkProgress, OpenLinkSession},
    consent::render_consent,
    layout::{load_bank, render_bank_logo, render_step},
};
use crate::{page_error::PageError, web_state::WebState};

pub(crate) async fn render_bank_list(
    web: &WebState,
    link: &LinkProgress,
) -> Result<Markup, PageError> {
    let store = &web.api.store;
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
                        @let open = okra_connectors::has_login_page(bank);
                        @let doing = breakers.get(&bank.id).map(BankBreaker::bank_status).unwrap_or_default();
                        li data-name=(bank.name.to_lowercase()) {
                            button name="bank" value=(bank.id) disabled[!open || doing == BankStatus::Down] {
                                (render_bank_logo(bank))
                                span.name { (bank.name) }
                                @match (open, doing) {
                                    (false, _) => span.state { "Not available here" },
                                    (true, BankStatus::Degraded) => span.state data-tone="warn" { "Some trouble now" },
                                    (true, BankStatus::Down) => span.state data-tone="bad" { "Down now" },
                                    (true, BankStatus::Healthy) => "",
                                }
                            }
                        }
                    }
                }
            }
            p.none id="none" role="status" hidden { "No bank of that name." }
            }
        },
    ))
}

pub(crate) async fn choose_bank(
    web: &WebState,
    open: &mut OpenLinkSession,
    bank: &str,
) -> Result<Markup, PageError> {
    let Ok(bank) = bank.parse() else {
        return render_bank_list(web, &open.link).await;
    };
    if open.link.reauth_record.is_none() && open.link.success_payload.is_none() {
        let known = web.api.store.find_owned_bank(bank).await?;
        let app = open.link.app;
        let offered = |it: &OwnedBank| {
            it.is_visible_to(Some(app)) && open.link.options.offers_bank(&it.config)
        };
        if !known.as_ref().is_some_and(offered) {
            return render_bank_list(web, &open.link).await;
        }
        open.link.bank = Some(bank);
        (
            open.link.authorization,
            open.link.reading_since_s,
            open.link.bank_error,
        ) = (None, None, None);
        open.save_session(web).await?;
    }
    let bank = load_bank(web, &open.link).await?;
    Ok(render_consent(&open.link, &bank, utc_date(web.now())))
}
