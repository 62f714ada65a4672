//! The standard's errors: [`AccountApiError`] and its body. Version 3 names them (`UK.OBIE.Field.Invalid`), version 4
//! numbers them (`U002`, code set `OBExternalStatusReason1Code`).

use http::StatusCode;
use okra_core::model::bank::BankStandard;
use serde::Serialize;

/// Why the bank rejects a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccountApiError {
    /// No bearer token.
    MissingToken,
    /// A token that opens nothing, or nothing any more.
    InvalidToken,
    /// The consent has expired.
    ConsentExpired,
    /// The consent has no account with this id. The standard's status for unknown ids is 400, not 404.
    NoSuchAccount,
    /// Not a date and time.
    InvalidDate(&'static str),
    /// A page that no link leads to.
    NoSuchPage,
    /// Dates further back than this consent allows any more.
    DateTooOld,
    /// A defect of the sandbox.
    Unexpected,
}

/// How an error is described to the client.
struct ErrorDescription {
    status: StatusCode,
    v3_code: &'static str,
    v4_code: &'static str,
    message: &'static str,
    path: Option<&'static str>,
}

impl AccountApiError {
    const fn error_description(self) -> ErrorDescription {
        let (status, v3, v4, message, path) = match self {
            Self::MissingToken => (
                StatusCode::UNAUTHORIZED,
                "UK.OBIE.Header.Missing",
                "U007",
                "A bearer token is required.",
                Some("Authorization"),
            ),
            Self::InvalidToken => (
                StatusCode::UNAUTHORIZED,
                "UK.OBIE.Header.Invalid",
                "U006",
                "The bearer token is not valid.",
                Some("Authorization"),
            ),
            Self::ConsentExpired => (
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
            Self::InvalidDate(parameter) => (
                StatusCode::BAD_REQUEST,
                "UK.OBIE.Field.InvalidDate",
                "U003",
                "The parameter is not an ISO 8601 date and time.",
                Some(parameter),
            ),
            Self::NoSuchPage => (
                StatusCode::BAD_REQUEST,
                "UK.OBIE.Field.Invalid",
                "U002",
                "There is no such page.",
                Some("page"),
            ),
            Self::DateTooOld => (
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
        ErrorDescription {
            status,
            v3_code: v3,
            v4_code: v4,
            message,
            path,
        }
    }

    pub(super) const fn status_code(self) -> StatusCode {
        self.error_description().status
    }

    /// The body, an `OBErrorResponse1`.
    pub(super) fn response_body(self, standard: BankStandard) -> SandboxErrorResponse {
        let description = self.error_description();
        SandboxErrorResponse {
            // A status displays as its number and its reason: "403 Forbidden".
            code: description.status.to_string(),
            message: description.message,
            errors: [SandboxErrorEntry {
                error_code: match standard {
                    BankStandard::Obie31 => description.v3_code,
                    BankStandard::Obie40 => description.v4_code,
                },
                message: description.message,
                path: description.path,
            }],
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SandboxErrorResponse {
    code: String,
    message: &'static str,
    errors: [SandboxErrorEntry; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SandboxErrorEntry {
    error_code: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'static str>,
}
