//! What a service answers, before it is HTTP.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

/// An answer in the services' JSON protocol.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    /// The code of the older query protocol, which the SDK reports for SQS.
    query_error: Option<String>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    #[serde(rename = "__type")]
    kind: &'a str,
    message: &'a str,
}

impl Answer {
    /// A body that is JSON already.
    pub(crate) const fn json(status: StatusCode, body: Vec<u8>) -> Self {
        Self {
            status,
            body,
            query_error: None,
        }
    }

    /// What was asked for.
    pub(crate) fn ok(body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self::json(StatusCode::OK, body),
            Err(error) => Self::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                &error.to_string(),
            ),
        }
    }

    /// A refusal.
    pub(crate) fn error(status: StatusCode, kind: &str, message: &str) -> Self {
        let body = serde_json::to_vec(&ErrorBody { kind, message }).unwrap_or_default();
        Self::json(status, body)
    }

    /// A request that cannot be read.
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        let message = error.to_string();
        Self::error(
            StatusCode::BAD_REQUEST,
            "com.amazon.coral.service#SerializationException",
            &message,
        )
    }

    /// An operation that is not emulated.
    pub(crate) fn unknown(operation: &str) -> Self {
        let message = format!("{operation} is not emulated");
        Self::error(
            StatusCode::BAD_REQUEST,
            "com.amazon.coral.service#UnknownOperationException",
            &message,
        )
    }

    /// The same answer with another member, where it is one that grants.
    pub(crate) fn insert(self, member: &str, value: Value) -> Self {
        self.change(|body| {
            body.insert(member.to_owned(), value);
        })
    }

    /// The same answer with more entries of a member, where it is one that grants.
    pub(crate) fn append(self, member: &str, entries: Vec<Value>) -> Self {
        self.change(|body| {
            if let Some(Value::Array(all)) = body.get_mut(member) {
                all.extend(entries);
            }
        })
    }

    fn change(mut self, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        if self.status.is_success()
            && let Ok(mut body) = serde_json::from_slice(&self.body)
        {
            change(&mut body);
            self.body = Value::Object(body).to_string().into_bytes();
        }
        self
    }

    /// The same answer with the code of the query protocol.
    pub(crate) fn with_query_error(mut self, code: &str, sender: bool) -> Self {
        let party = if sender { "Sender" } else { "Receiver" };
        self.query_error = Some(format!("{code};{party}"));
        self
    }
}

impl From<Answer> for HttpResponse {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(answer.status.into(), SdkBody::from(answer.body));
        let headers = response.headers_mut();
        headers.insert("content-type", "application/x-amz-json-1.0");
        if let Some(code) = answer.query_error {
            headers.insert("x-amzn-query-error", code);
        }
        response
    }
}
