//! The emulated services by name: [`AwsService`], and how each says that it is overloaded or has failed.

use http::StatusCode;

use crate::response::ServiceResponse;

/// An AWS service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AwsService {
    /// The table.
    DynamoDb,
    /// The queues.
    Sqs,
    /// The rules and the event bus.
    EventBridge,
}

impl AwsService {
    /// Reads the header `x-amz-target`: the service and the operation.
    pub(crate) fn from_target(target: &str) -> Option<(Self, &str)> {
        let (prefix, operation) = target.split_once('.')?;
        let service = match prefix {
            "DynamoDB_20120810" => Self::DynamoDb,
            "AmazonSQS" => Self::Sqs,
            "AWSEvents" => Self::EventBridge,
            _ => return None,
        };
        Some((service, operation))
    }

    /// The service's response to a call that is throttled.
    pub(crate) fn throttling_response(self) -> ServiceResponse {
        let kind = match self {
            Self::DynamoDb => {
                "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
            }
            Self::Sqs => "com.amazonaws.sqs#RequestThrottled",
            Self::EventBridge => "ThrottlingException",
        };
        ServiceResponse::from_error(StatusCode::BAD_REQUEST, kind, "The request was throttled.")
    }

    /// The service's response where it fails.
    pub(crate) fn failure_response(self) -> ServiceResponse {
        let kind = match self {
            Self::DynamoDb => "com.amazonaws.dynamodb.v20120810#InternalServerError",
            Self::Sqs | Self::EventBridge => "InternalFailure",
        };
        let message = "The request could not be served.";
        ServiceResponse::from_error(StatusCode::INTERNAL_SERVER_ERROR, kind, message)
    }
}
