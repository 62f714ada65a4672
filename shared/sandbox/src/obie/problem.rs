//! The standard's errors. Version 3 names them (`UK.OBIE.Field.Invalid`), version 4 numbers them
//! (`U002`, code set `OBExternalStatusReason1Code`).

use http::StatusCode;
use okra_core::bank::Standard;
use serde::Serialize;

/// A request the bank refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// No bearer token.
    TokenMissing,
    /// A token that opens nothing, or no longer does.
    TokenInvalid,
    /// The consent's time is over.
    Reauthenticate,
    /// No account of this id in this consent. The standard answers 400 to unknown ids, not 404.
    NoSuchAccount,
    /// Not a date and time.
    Date(&'static str),
    /// A page that no link leads to.
    Page,
    /// Dates further back than this consent is given any more.
    TooOld,
    /// A fault of ours.
    Unexpected,
}

/// How a problem is told.
struct Words {
    status: StatusCode,
    v3: &'static str,
    v4: &'static str,
    message: &'static str,
    path: Option<&'static str>,
}

impl Problem {
    const fn words(self) -> Words {
        let (status, v3, v4, message, path) = match self {
            Self::TokenMissing => (
                StatusCode::UNAUTHORIZED,
                "UK.OBIE.Header.Missing",
                "U007",
                "A bearer token is required.",
                Some("Authorization"),
            ),
            Self::TokenInvalid => (
                StatusCode::UNAUTHORIZED,
                "UK.OBIE.Header.Invalid",
                "U006",
                "The bearer token is not valid.",
                Some("Authorization"),
            ),
            Self::Reauthenticate => (
                StatusCode::FORBIDDEN,
                "UK.OBIE.Reauthenticate",
                "U028",
                "The consent has expired; the user must authenticate again.",
                None,
            ),
            Self::NoSuchAccount => (
                StatusCode::BAD_REQUEST,
                "UK.OBIE.Resource.NotFound",
                "U011",
                "The consent has no account with this AccountId.",
                Some("AccountId"),
            ),
            Self::Date(parameter) => (
                StatusCode::BAD_REQUEST,
                "UK.OBIE.Field.InvalidDate",
                "U003",
                "The parameter is not an ISO 8601 date and time.",
                Some(parameter),
            ),
            Self::Page => (
                StatusCode::BAD_REQUEST,
                "UK.OBIE.Field.Invalid",
                "U002",
                "There is no such page.",
                Some("page"),
            ),
            Self::TooOld => (
                StatusCode::FORBIDDEN,
                "UK.OBIE.Resource.ConsentMismatch",
                "U009",
                "Transactions this old are not available any more.",
                Some("fromBookingDateTime"),
            ),
            Self::Unexpected => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "UK.OBIE.UnexpectedError",
                "U000",
                "Something went wrong.",
                None,
            ),
        };
        Words {
            status,
            v3,
            v4,
            message,
            path,
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        self.words().status
    }

    /// `OBErrorResponse1`; empty only if it could not be written, which cannot be.
    pub(super) fn body(self, standard: Standard) -> Vec<u8> {
        let words = self.words();
        let code = format!(
            "{} {}",
            words.status.as_str(),
            words.status.canonical_reason().unwrap_or_default()
        );
        let response = ErrorResponse {
            code: &code,
            message: words.message,
            errors: [Error {
                error_code: match standard {
                    Standard::Obie31 => words.v3,
                    Standard::Obie40 => words.v4,
                },
                message: words.message,
                path: words.path,
            }],
        };
        serde_json::to_vec(&response).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse<'a> {
    code: &'a str,
    message: &'a str,
    errors: [Error; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Error {
    error_code: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'static str>,
}
