//! Responses and errors in Okra's envelope: [`success_response`], and [`ApiError`], which is an HTTP status, Okra's type
//! and a message.
//!
//! The rule: [`AppError`] becomes an HTTP response here and nowhere else, and our own faults are logged here, once.

use std::{error::Error, fmt::Display};

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use okra_app::{AppError, RandomnessError, RetryTime};
use okra_core::model::fault::{BankFault, FaultClass};
use okra_store::StoreError;
use okra_wire::{
    envelope::{Failure, FailureData, Success},
    scalar::IsoInstant,
};
use serde::Serialize;

/// What a handler answers.
pub(crate) type ApiResponse = Result<Response, ApiError>;

/// Seconds after which a request may be repeated that met another's change.
const BUSY_RETRY_S: u32 = 1;

/// What a caller is told of our own fault; the cause is in the logs.
const INTERNAL_MESSAGE: &str =
    "Something went wrong on our side; our logs have the details under the request id";

/// A good answer.
pub(crate) fn success_response<D: Serialize>(message: &str, data: D) -> ApiResponse {
    Ok(Json(Success::new(message, data)).into_response())
}

/// Why a call was refused.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    retry_after_s: Option<u32>,
    next_refresh_at: Option<Timestamp>,
    allowed_methods: Option<&'static str>,
    /// For our logs, never for the caller.
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            retry_after_s: None,
            next_refresh_at: None,
            allowed_methods: None,
            cause: None,
        }
    }

    /// A field that is missing or wrong.
    pub(crate) fn invalid_field(field: &str, problem: impl Display) -> Self {
        let message = format!("{field} {problem}");
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION", message)
    }

    pub(crate) fn unauthorised() -> Self {
        let message = "A secret key is required, as Authorization: Bearer <key>";
        Self::new(StatusCode::UNAUTHORIZED, "API", message)
    }

    /// Something that is not there, or another app's: the answer is the same.
    pub(crate) fn not_found(resource: &'static str) -> Self {
        let kind = not_found_kind(resource);
        let message = format!("No {resource} matches that id");
        Self::new(StatusCode::NOT_FOUND, kind, message)
    }

    /// There is such an endpoint, but not for that method.
    pub(crate) fn wrong_method(allowed_methods: &'static str) -> Self {
        let message = format!("Call this endpoint with {allowed_methods}");
        Self {
            allowed_methods: Some(allowed_methods),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "API", message)
        }
    }

    /// The caller is asked to come back after so many seconds.
    pub(crate) fn with_retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    /// A refresh may be requested again at that time.
    fn with_next_refresh(self, retry: RetryTime) -> Self {
        Self {
            next_refresh_at: Some(retry.at),
            ..self.with_retry_after(retry.wait_s)
        }
    }

    /// Our own fault.
    pub(crate) fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            INTERNAL_MESSAGE,
        )
        .with_cause(cause)
    }

    pub(crate) fn with_cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The refusal of one request, of one of Okra's families. Logged here, where it is handled, where
    /// it is our own fault.
    pub(crate) fn into_response(self, request_id: &str, family: &'static str) -> Response {
        if let Some(cause) = self.cause {
            let error = cause.as_ref() as &(dyn Error + 'static);
            tracing::error!(request.id = request_id, error, "a call could not be served");
        }
        let failure = Failure {
            status: "error",
            message: self.message.clone(),
            data: FailureData {
                message: vec![self.message],
                method: family,
                kind: self.kind,
                next_refresh_available_at: self.next_refresh_at.map(IsoInstant),
            },
            request_id: request_id.to_owned(),
        };
        let mut response = (self.status, Json(failure)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allowed_methods {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

macro_rules! through_app_error {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                AppError::from(error).into()
            }
        }
    )+};
}

through_app_error!(
    BankFault,
    RandomnessError,
    StoreError,
    okra_aws::tick_rules::TickRulesError,
    okra_queue::SendError,
    okra_refresh::RefreshError,
    okra_vault::VaultError,
    okra_webhooks::DeliverError,
    okra_webhooks::KeyringError,
    serde_json::Error,
);

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        let (status, kind) = classify_app_error(&error);
        let api_error = Self::new(status, kind, error.to_string());
        match error {
            AppError::RateLimited {
                retry, is_refresh, ..
            } => match is_refresh {
                true => api_error.with_next_refresh(retry),
                false => api_error.with_retry_after(retry.wait_s),
            },
            AppError::BankBusy { retry } | AppError::QuotaSpent { retry } => {
                api_error.with_next_refresh(retry)
            }
            AppError::BankFault { fault, .. } if fault.class == FaultClass::Internal => {
                Self::internal(fault)
            }
            AppError::BankFault {
                retry: Some(retry), ..
            } => api_error.with_next_refresh(retry),
            AppError::BankFault { fault, retry: None } => Self {
                retry_after_s: fault.retry_after_s,
                ..api_error
            },
            AppError::Busy => api_error.with_retry_after(BUSY_RETRY_S),
            AppError::Contended(cause) => {
                api_error.with_retry_after(BUSY_RETRY_S).with_cause(cause)
            }
            AppError::Internal(cause) => Self {
                cause: Some(cause),
                message: INTERNAL_MESSAGE.to_owned(),
                ..api_error
            },
            _ => api_error,
        }
    }
}

/// The HTTP status and Okra's type of an error.
const fn classify_app_error(error: &AppError) -> (StatusCode, &'static str) {
    match error {
        AppError::NotFound { what } => (StatusCode::NOT_FOUND, not_found_kind(what)),
        AppError::Invalid { .. } | AppError::TooMuchRequested { .. } => {
            (StatusCode::BAD_REQUEST, "VALIDATION")
        }
        AppError::RejectedUrl { .. } => (StatusCode::BAD_REQUEST, "WEBHOOK_URL"),
        AppError::UnknownEvent { .. } => (StatusCode::BAD_REQUEST, "UNKNOWN_EVENT"),
        AppError::InvalidReplayRange(_) => (StatusCode::BAD_REQUEST, "REPLAY_RANGE"),
        AppError::ReplayBeyondRetention { .. } => {
            (StatusCode::BAD_REQUEST, "REPLAY_BEYOND_RETENTION")
        }
        AppError::Conflict(_) | AppError::LimitReached { .. } => (StatusCode::CONFLICT, "CONFLICT"),
        AppError::CustomerFlagged => (StatusCode::FORBIDDEN, "FLAGGED_USER"),
        AppError::UserPresenceRequired => (StatusCode::CONFLICT, "USER_NEEDED"),
        AppError::RateLimited { .. } | AppError::BankBusy { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT")
        }
        AppError::QuotaSpent { .. } => (StatusCode::TOO_MANY_REQUESTS, "QUOTA_SPENT"),
        AppError::BankFault { fault, .. } => classify_bank_fault(fault.class),
        AppError::NoSandbox => (StatusCode::NOT_IMPLEMENTED, "ENV"),
        AppError::Busy | AppError::Contended(_) => (StatusCode::SERVICE_UNAVAILABLE, "BUSY"),
        AppError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    }
}

const fn classify_bank_fault(class: FaultClass) -> (StatusCode, &'static str) {
    match class {
        FaultClass::ConsentRejected => (StatusCode::BAD_REQUEST, "EXPIRED"),
        FaultClass::RateLimited | FaultClass::QuotaSpent => {
            (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT")
        }
        FaultClass::BankUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "BANK_UNAVAILABLE"),
        FaultClass::AccountGone => (StatusCode::BAD_GATEWAY, "ACCOUNT_GONE"),
        FaultClass::MalformedResponse => (StatusCode::BAD_GATEWAY, "BANK_NONSENSE"),
        FaultClass::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    }
}

/// Okra's type of what was not found.
const fn not_found_kind(resource: &str) -> &'static str {
    match resource.as_bytes() {
        b"record" => "NO_RECORD_ID",
        _ => "NOT_FOUND",
    }
}
