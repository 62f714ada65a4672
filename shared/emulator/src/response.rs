//! What a service responds with, before it is HTTP: [`ServiceResponse`].

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A response in the services' JSON protocol.
#[derive(Debug)]
pub(crate) struct ServiceResponse {
    status: StatusCode,
    body: Vec<u8>,
    /// The code of the older query protocol, which the SDK reports for SQS.
    query_error: Option<String>,
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

    /// The result of a call that was served.
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

    /// An error of the service.
    pub(crate) fn from_error(status: StatusCode, kind: &str, message: &str) -> Self {
        let body = json!({ "__type": kind, "message": message });
        Self::from_json(status, body.to_string().into_bytes())
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

    /// The same response with another member, where it is a success.
    pub(crate) fn insert_member(self, member: &str, value: Value) -> Self {
        self.edit_body(|body| {
            body.insert(member.to_owned(), value);
        })
    }

    /// The same response with more entries of a member, where it is a success.
    pub(crate) fn append_entries(self, member: &str, entries: Vec<Value>) -> Self {
        self.edit_body(|body| {
            if let Some(Value::Array(all)) = body.get_mut(member) {
                all.extend(entries);
            }
        })
    }

    fn edit_body(mut self, edit: impl FnOnce(&mut Map<String, Value>)) -> Self {
        if self.status.is_success()
            && let Ok(mut body) = serde_json::from_slice(&self.body)
        {
            edit(&mut body);
            self.body = Value::Object(body).to_string().into_bytes();
        }
        self
    }

    /// The same response with the code of the query protocol.
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
    fn from(response: ServiceResponse) -> Self {
        let mut http_response = Self::new(response.status.into(), SdkBody::from(response.body));
        let headers = http_response.headers_mut();
        headers.insert("content-type", "application/x-amz-json-1.0");
        if let Some(code) = response.query_error {
            headers.insert("x-amzn-query-error", code);
        }
        http_response
    }
}
