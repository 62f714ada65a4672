//! What a service answers, before it is HTTP.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

/// An answer in the services' JSON protocol.
#[derive(Debug)]
pub(crate) struct ServiceResponse {
    status: StatusCode,
    body: Vec<u8>,
    /// The code of the older query protocol, which the SDK reports for SQS.
    query_error: Option<String>,
}

#[derive(Serialize)]
struct ServiceErrorBody<'a> {
    #[serde(rename = "__type")]
    kind: &'a str,
    message: &'a str,
}

impl ServiceResponse {
    /// A body that is JSON already.
    pub(crate) const fn from_json(status: StatusCode, body: Vec<u8>) -> Self {
        Self {
            status,
            body,
            query_error: None,
        }
    }

    /// What was asked for.
    pub(crate) fn from_result(body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self::from_json(StatusCode::OK, body),
            Err(error) => Self::from_error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                &error.to_string(),
            ),
        }
    }

    /// A refusal.
    pub(crate) fn from_error(status: StatusCode, kind: &str, message: &str) -> Self {
        let body = serde_json::to_vec(&ServiceErrorBody { kind, message }).unwrap_or_default();
        Self::from_json(status, body)
    }

    /// A request that cannot be read.
    pub(crate) fn unreadable_request(error: &serde_json::Error) -> Self {
        let message = error.to_string();
        Self::from_error(
            StatusCode::BAD_REQUEST,
            "com.amazon.coral.service#SerializationException",
            &message,
        )
    }

    /// An operation that is not emulated.
    pub(crate) fn unknown_operation(operation: &str) -> Self {
        let message = format!("{operation} is not emulated");
        Self::from_error(
            StatusCode::BAD_REQUEST,
            "com.amazon.coral.service#UnknownOperationException",
            &message,
        )
    }

    /// The same answer with another member, where it is one that grants.
    pub(crate) fn insert_member(self, member: &str, value: Value) -> Self {
        self.edit_body(|body| {
            body.insert(member.to_owned(), value);
        })
    }

    /// The same answer with more entries of a member, where it is one that grants.
    pub(crate) fn append_entries(self, member: &str, entries: Vec<Value>) -> Self {
        self.edit_body(|body| {
            if let Some(Value::Array(all)) = body.get_mut(member) {
                all.extend(entries);
            }
        })
    }

    fn edit_body(mut self, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        if self.status.is_success()
            && let Ok(mut body) = serde_json::from_slice(&self.body)
        {
            change(&mut body);
            self.body = Value::Object(body).to_string().into_bytes();
        }
        self
    }

    /// The same answer with the code of the query protocol.
    pub(crate) fn with_query_error(mut self, code: &str, is_sender_fault: bool) -> Self {
        let party = if is_sender_fault {
            "Sender"
        } else {
            "Receiver"
        };
        self.query_error = Some(format!("{code};{party}"));
        self
    }
}

impl From<ServiceResponse> for HttpResponse {
    fn from(answer: ServiceResponse) -> Self {
        let mut response = Self::new(answer.status.into(), SdkBody::from(answer.body));
        let headers = response.headers_mut();
        headers.insert("content-type", "application/x-amz-json-1.0");
        if let Some(code) = answer.query_error {
            headers.insert("x-amzn-query-error", code);
        }
        response
    }
}
