//! Where the login page and the consents are.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use okra_core::model::bank::BankStandard;

use super::{
    consents::{create_consent, get_consent, revoke_consent},
    login::{open_login_page, submit_login_form},
    pages::serve_stylesheet,
};
use crate::bank::state::SandboxBank;

/// The path of the login page; a bank's slug follows.
pub const AUTHORIZE_PATH: &str = "/open-banking/authorize";

/// Most bytes of a form.
const MAX_BODY_BYTES: usize = 16 * 1024;

pub(crate) fn authorise_router(bank: &SandboxBank) -> Router {
    let mut router = Router::new()
        .route(
            &format!("{AUTHORIZE_PATH}/{{bank}}"),
            get(open_login_page).post(submit_login_form),
        )
        .route("/open-banking/authorize.css", get(serve_stylesheet));
    for standard in [BankStandard::Obie31, BankStandard::Obie40] {
        let path = format!(
            "{}/account-access-consents",
            SandboxBank::base_path(standard)
        );
        router = router.route(&path, post(create_consent)).route(
            &format!("{path}/{{id}}"),
            get(get_consent).delete(revoke_consent),
        );
    }
    router
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(bank.clone())
}
