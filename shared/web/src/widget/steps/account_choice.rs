//! The customer chooses which accounts to share.

use maud::{Markup, html};
use okra_core::model::bank::BankConfig;

use super::{
    super::link_session::LinkProgress,
    layout::{render_bank_logo, render_step},
};
use crate::components::format::mask_account_number;

/// The accounts that the consent covers, to choose from.
pub(crate) fn render_account_choice(link: &LinkProgress, bank: &BankConfig) -> Markup {
    render_step(
        "accounts",
        "Choose your accounts",
        &html! {
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            form data-action="accounts" {
                fieldset {
                    legend { "Accounts to share" }
                    @for account in &link.offered_accounts {
                        label.account {
                            input type="checkbox" name="account" value=(account.id) checked;
                            span { span.name { (account.name) } span.sub { (account.kind) " " (mask_account_number(&account.number)) } }
                        }
                    }
                }
                p.problem role="alert" hidden data-need="account" { "Choose at least one account." }
                div.actions { button.main { "Share and continue" } }
            }
        },
    )
}
