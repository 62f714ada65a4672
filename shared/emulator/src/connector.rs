//! The HTTP client of the SDKs: finds the service and the operation, and lets faults happen.

use std::sync::Arc;

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use http::StatusCode;
use okra_aws::Clock;

use crate::{
    answer::ServiceResponse,
    dynamodb::DynamoDbEmulator,
    events::EventBridgeEmulator,
    faults::{CallFate, FaultInjector},
    folder::{EmulatorOpenError, Storage},
    sqs::SqsEmulator,
};

/// An AWS service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AwsService {
    /// The table.
    DynamoDb,
    /// The queues.
    Sqs,
    /// The rules.
    EventBridge,
}

impl AwsService {
    /// Reads the header `x-amz-target`.
    fn from_target(target: &str) -> Option<(Self, &str)> {
        let (prefix, operation) = target.split_once('.')?;
        let service = match prefix {
            "DynamoDB_20120810" => Self::DynamoDb,
            "AmazonSQS" => Self::Sqs,
            "AWSEvents" => Self::EventBridge,
            _ => return None,
        };
        Some((service, operation))
    }

    /// How the service says "slower".
    fn throttling_response(self) -> ServiceResponse {
        let kind = match self {
            Self::DynamoDb => {
                "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
            }
            Self::Sqs => "com.amazonaws.sqs#RequestThrottled",
            Self::EventBridge => "ThrottlingException",
        };
        ServiceResponse::from_error(StatusCode::BAD_REQUEST, kind, "The request was throttled.")
    }

    /// How the service says that it failed.
    fn failure_response(self) -> ServiceResponse {
        let kind = match self {
            Self::DynamoDb => "com.amazonaws.dynamodb.v20120810#InternalServerError",
            Self::Sqs | Self::EventBridge => "InternalFailure",
        };
        let message = "The request could not be served.";
        ServiceResponse::from_error(StatusCode::INTERNAL_SERVER_ERROR, kind, message)
    }
}

/// All services of an emulator.
#[derive(Debug)]
pub(crate) struct EmulatedServices {
    pub(crate) dynamodb: DynamoDbEmulator,
    pub(crate) sqs: SqsEmulator,
    pub(crate) events: EventBridgeEmulator,
    pub(crate) faults: FaultInjector,
}

impl EmulatedServices {
    pub(crate) fn open_storage(storage: Storage, clock: Clock) -> Result<Self, EmulatorOpenError> {
        Ok(Self {
            dynamodb: DynamoDbEmulator::open_storage(storage.clone(), clock.clone())?,
            events: EventBridgeEmulator::open_storage(storage.clone())?,
            sqs: SqsEmulator::open_storage(storage, clock)?,
            faults: FaultInjector::default(),
        })
    }

    async fn handle_request(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let Some((service, operation)) = AwsService::from_target(target) else {
            return Ok(ServiceResponse::unknown_operation(target).into());
        };
        // The SDKs hold the bodies of these services in memory.
        let body = request.body().bytes().unwrap_or_default();
        let fate = self.faults.decide_fate(service, operation);
        let answer = match fate {
            CallFate::Serve | CallFate::LoseResponse => {
                self.serve_call(service, operation, body).await
            }
            CallFate::ServeFirstHalf => self.serve_first_half(service, operation, body).await,
            CallFate::Throttle => service.throttling_response(),
            CallFate::Fail => service.failure_response(),
            CallFate::Unreachable => return Err(broken_connection()),
        };
        if fate == CallFate::LoseResponse {
            return Err(broken_connection());
        }
        Ok(answer.into())
    }

    async fn serve_call(
        &self,
        service: AwsService,
        operation: &str,
        body: &[u8],
    ) -> ServiceResponse {
        match service {
            AwsService::DynamoDb => self.dynamodb.call_operation(operation, body).await,
            AwsService::Sqs => self.sqs.call_operation(operation, body).await,
            AwsService::EventBridge => self.events.call_operation(operation, body).await,
        }
    }

    async fn serve_first_half(
        &self,
        service: AwsService,
        operation: &str,
        body: &[u8],
    ) -> ServiceResponse {
        match service {
            AwsService::DynamoDb => self.dynamodb.call_first_half(operation, body).await,
            AwsService::Sqs => self.sqs.call_first_half(operation, body).await,
            AwsService::EventBridge => self.events.call_first_half(operation, body).await,
        }
    }
}

fn broken_connection() -> ConnectorError {
    ConnectorError::io("the connection was broken on purpose".into())
}

/// The services as the SDKs see them.
#[derive(Clone, Debug)]
pub(crate) struct EmulatorConnector(Arc<EmulatedServices>);

impl EmulatorConnector {
    pub(crate) fn new(services: &Arc<EmulatedServices>) -> Self {
        Self(Arc::clone(services))
    }
}

impl HttpConnector for EmulatorConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let services = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move { services.handle_request(&request).await })
    }
}
