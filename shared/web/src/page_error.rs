//! [`PageError`]: why a page cannot be shown, and the page that says so instead.
//!
//! An error of ours is logged here, once, with the chain of its sources; the page then says only that something went
//! wrong.

use std::error::Error;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use okra_app::AppError;
use okra_core::model::fault::FaultClass;
use okra_store::StoreError;

use crate::components::document::render_document;

/// Why a page cannot be shown.
#[derive(Debug)]
pub(crate) enum PageError {
    /// Nobody is signed in: the sign-in form, which leads to `next`.
    SignInRequired { next: String },
    /// It does not exist, or is another app's: the two look the same.
    NotFound(&'static str),
    /// The request cannot be fulfilled, for the reason in the sentence.
    Rejected(StatusCode, String),
    /// Our own fault.
    Internal(Box<dyn Error + Send + Sync>),
}

impl PageError {
    /// Our own fault.
    pub(crate) fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(cause))
    }

    /// What a form holds cannot be used.
    pub(crate) fn invalid_form(sentence: impl Into<String>) -> Self {
        Self::Rejected(StatusCode::BAD_REQUEST, sentence.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, sentence) = match self {
            Self::SignInRequired { next } => {
                let query = serde_urlencoded::to_string([("next", next)]).unwrap_or_default();
                return Redirect::to(&format!("/dashboard/sign-in?{query}")).into_response();
            }
            Self::NotFound(what) => (
                StatusCode::NOT_FOUND,
                format!(
                    "There is no such {what}. It may have been removed, or belong to another app."
                ),
            ),
            Self::Rejected(status, sentence) => (status, sentence),
            Self::Internal(cause) => {
                let error = cause.as_ref() as &(dyn Error + 'static);
                tracing::error!(error, "a page could not be shown");
                let sentence = "Something went wrong on our side. The logs say what. Try again.";
                (StatusCode::INTERNAL_SERVER_ERROR, sentence.to_owned())
            }
        };
        let title = match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => "Not allowed",
            status if status.is_server_error() => "This did not work",
            _ => "This was rejected",
        };
        // The page before is the form, with what was entered.
        let is_form = status == StatusCode::BAD_REQUEST;
        let body = html! {
            main.alone {
                h1 { (title) }
                p { (sentence) }
                p {
                    @if is_form { a.button href="/dashboard" data-back { "Back to the form" } " " }
                    a.button href="/dashboard" { "To the overview" }
                }
            }
        };
        render_document(status, title, &body)
    }
}

impl From<AppError> for PageError {
    fn from(error: AppError) -> Self {
        let sentence = format!("{error}.");
        match error {
            AppError::NotFound { what } => Self::NotFound(what),
            AppError::Internal(cause) => Self::Internal(cause),
            AppError::Busy | AppError::Contended(_) => {
                Self::Rejected(StatusCode::SERVICE_UNAVAILABLE, sentence)
            }
            AppError::BankFault { fault, .. } => {
                Self::Rejected(bank_fault_status(fault.class), sentence)
            }
            _ => Self::invalid_form(sentence),
        }
    }
}

/// The status of a page that a bank's fault keeps from being shown.
const fn bank_fault_status(class: FaultClass) -> StatusCode {
    match class {
        FaultClass::BankUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        FaultClass::MalformedResponse | FaultClass::AccountGone => StatusCode::BAD_GATEWAY,
        FaultClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        FaultClass::RateLimited | FaultClass::QuotaSpent | FaultClass::ConsentRejected => {
            StatusCode::BAD_REQUEST
        }
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<okra_vault::VaultError> for PageError {
    fn from(error: okra_vault::VaultError) -> Self {
        Self::internal(error)
    }
}

impl From<serde_json::Error> for PageError {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}
