//! The layout that all steps share.

use maud::{Markup, html};
use okra_core::model::bank::BankConfig;

use super::super::link_session::LinkProgress;
use crate::{page_error::PageError, web_state::WebState};

/// Milliseconds until the frame asks again.
const POLL_INTERVAL_MS: u32 = 1200;

/// A step of the link.
pub(crate) fn render_step(name: &str, title: &str, body: &Markup) -> Markup {
    html! {
        section data-step=(name) { h1 tabindex="-1" { (title) } (body) }
    }
}

/// A step that is in progress: the frame asks for it again after a while.
pub(crate) fn render_polling_step(
    name: &str,
    title: &str,
    action: &str,
    poll_count: u32,
    body: &Markup,
) -> Markup {
    html! {
        section data-step=(name) data-again=(action) data-after=(POLL_INTERVAL_MS) data-look=(poll_count) {
            h1 tabindex="-1" { (title) }
            (body)
        }
    }
}

/// The last step of a link that cannot go on.
pub(crate) fn render_ended_step(sentence: &str) -> Markup {
    render_step(
        "over",
        "This has ended",
        &html! {
            p { (sentence) }
            div.actions { button.main type="button" data-close { "Close" } }
        },
    )
}

/// In place of the bank's logo, which belongs to the bank: two letters on a ground whose colour depends on the bank.
pub(crate) fn render_bank_logo(bank: &BankConfig) -> Markup {
    const HUES: usize = 8;
    let firsts = bank
        .name
        .split_whitespace()
        .filter_map(|word| word.chars().next());
    let letters: String = firsts.filter(|it| it.is_alphanumeric()).take(2).collect();
    let hash = bank.slug.bytes().fold(7_usize, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    });
    let hue = (hash >> 3) % HUES;
    html! {
        svg.logo viewBox="0 0 40 40" width="40" height="40" aria-hidden="true" {
            rect width="40" height="40" rx="10" class={ "hue" (hue) } {}
            text x="20" y="25.5" text-anchor="middle" { (letters) }
        }
    }
}

/// The bank that the customer chose.
pub(crate) async fn load_bank(
    web: &WebState,
    link: &LinkProgress,
) -> Result<BankConfig, PageError> {
    let bank = match link.bank {
        Some(bank) => web.services.store.find_bank(bank).await?,
        None => None,
    };
    bank.ok_or(PageError::NotFound("bank"))
}
