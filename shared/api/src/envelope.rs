//! Answers and refusals, in Okra's envelope.

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
use okra_core::model::fault::{BankFault, FaultClass};
use okra_store::StoreError;
use okra_wire::{
    envelope::{Failure, FailureData, Success},
    scalar::IsoInstant,
};
use serde::Serialize;

/// What a handler answers.
pub(crate) type ApiResponse = Result<Response, ApiError>;

/// Seconds a caller is asked to wait who met another's change half way.
const BUSY_RETRY_S: u32 = 1;

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
        let message = "A secret key is needed, as Authorization: Bearer <key>";
        Self::new(StatusCode::UNAUTHORIZED, "API", message)
    }

    /// Something that is not there, or another app's: the answer is the same.
    pub(crate) fn not_found(resource: &'static str) -> Self {
        let kind = match resource {
            "record" => "NO_RECORD_ID",
            _ => "NOT_FOUND",
        };
        let message = format!("No {resource} matches that id");
        Self::new(StatusCode::NOT_FOUND, kind, message)
    }

    /// The same refusal of one thing that was looked for through another: a balance is found by its
    /// account, and what is not found is the balance.
    pub(crate) fn for_resource(self, resource: &'static str) -> Self {
        match self.status {
            StatusCode::NOT_FOUND => Self::not_found(resource),
            _ => self,
        }
    }

    /// True for something that is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// There is such an endpoint, but not for that method.
    pub(crate) fn wrong_method(allowed_methods: &'static str) -> Self {
        let message = format!("Call this endpoint with {allowed_methods}");
        Self {
            allowed_methods: Some(allowed_methods),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "API", message)
        }
    }

    /// Another change of the same thing was under way.
    pub(crate) fn retry_later() -> Self {
        let message = "Something else is changing this at the moment; try again";
        Self {
            retry_after_s: Some(BUSY_RETRY_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", message)
        }
    }

    /// The caller is asked to come back after so many seconds.
    pub(crate) fn with_retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    /// A refresh may be asked for again at `at`.
    pub(crate) fn with_next_refresh_at(self, at: Timestamp, now: Timestamp) -> Self {
        Self {
            next_refresh_at: Some(at),
            ..self.with_retry_at(at, now)
        }
    }

    /// The caller is asked to come back at `at`.
    pub(crate) fn with_retry_at(self, at: Timestamp, now: Timestamp) -> Self {
        let wait_s = (at.duration_since(now).as_millis().max(0) + 999) / 1000;
        self.with_retry_after(u32::try_from(wait_s).unwrap_or(u32::MAX))
    }

    /// More of something than the app may ask for in some time.
    pub(crate) fn too_many_requests(limit: &str) -> Self {
        let message = format!("More than {limit}; wait");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT", message)
    }

    /// Our own fault.
    pub(crate) fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        let message = "Something went wrong on our side; our logs name it by the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message).with_cause(cause)
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

macro_rules! internal {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::internal(error)
            }
        }
    )+};
}

internal!(
    crate::RandomnessError,
    okra_queue::SendError,
    okra_refresh::RefreshError,
    okra_vault::VaultError,
    okra_webhooks::DeliverError,
    okra_webhooks::KeyringError,
    okra_aws::rules::TickRulesError,
    serde_json::Error,
);

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BoundExceeded { what, bound } => {
                let message = format!("More than {bound} {what} are asked for; ask for less");
                Self::new(StatusCode::BAD_REQUEST, "VALIDATION", message)
            }
            StoreError::Contended { .. } => Self::retry_later().with_cause(error),
            StoreError::Service { .. }
            | StoreError::InvalidRequest { .. }
            | StoreError::Corrupt { .. }
            | StoreError::OutOfRange { .. }
            | StoreError::Unwritable { .. }
            | StoreError::AlreadyExists { .. }
            | StoreError::NotFound { .. } => Self::internal(error),
        }
    }
}

impl From<BankFault> for ApiError {
    fn from(fault: BankFault) -> Self {
        let (status, kind) = match fault.class {
            FaultClass::ConsentRejected => (StatusCode::BAD_REQUEST, "EXPIRED"),
            FaultClass::RateLimited | FaultClass::QuotaSpent => {
                (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT")
            }
            FaultClass::BankUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "BANK_UNAVAILABLE"),
            FaultClass::MalformedResponse => (StatusCode::BAD_GATEWAY, "BANK_NONSENSE"),
            FaultClass::Internal => return Self::internal(fault),
        };
        let message = format!("The bank could not be read: {}", fault.detail);
        Self {
            retry_after_s: fault.retry_after_s,
            ..Self::new(status, kind, message)
        }
    }
}
