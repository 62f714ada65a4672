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
    answer::Answer,
    dynamodb::DynamoDb,
    events::Events,
    faults::{Fate, Faults},
    folder::{OpenError, Place},
    sqs::Sqs,
};

/// An AWS service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// The table.
    DynamoDb,
    /// The queues.
    Sqs,
    /// The rules.
    EventBridge,
}

impl Service {
    /// Reads the header `x-amz-target`.
    fn of_target(target: &str) -> Option<(Self, &str)> {
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
    fn throttled(self) -> Answer {
        let kind = match self {
            Self::DynamoDb => {
                "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
            }
            Self::Sqs => "com.amazonaws.sqs#RequestThrottled",
            Self::EventBridge => "ThrottlingException",
        };
        Answer::error(StatusCode::BAD_REQUEST, kind, "The request was throttled.")
    }

    /// How the service says that it failed.
    fn failed(self) -> Answer {
        let kind = match self {
            Self::DynamoDb => "com.amazonaws.dynamodb.v20120810#InternalServerError",
            Self::Sqs | Self::EventBridge => "InternalFailure",
        };
        let message = "The request could not be served.";
        Answer::error(StatusCode::INTERNAL_SERVER_ERROR, kind, message)
    }
}

/// All services of an emulator.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) dynamodb: DynamoDb,
    pub(crate) sqs: Sqs,
    pub(crate) events: Events,
    pub(crate) faults: Faults,
}

impl Services {
    pub(crate) fn open(place: Place, clock: Clock) -> Result<Self, OpenError> {
        Ok(Self {
            dynamodb: DynamoDb::open(place.clone(), clock.clone())?,
            events: Events::open(place.clone())?,
            sqs: Sqs::open(place, clock)?,
            faults: Faults::default(),
        })
    }

    async fn call(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let Some((service, operation)) = Service::of_target(target) else {
            return Ok(Answer::unknown(target).into());
        };
        // The SDKs hold the bodies of these services in memory.
        let body = request.body().bytes().unwrap_or_default();
        let fate = self.faults.judge(service, operation);
        let answer = match fate {
            Fate::Pass | Fate::LoseAnswer => self.serve(service, operation, body).await,
            Fate::Partial => self.serve_half(service, operation, body).await,
            Fate::Throttle => service.throttled(),
            Fate::Fail => service.failed(),
            Fate::Unreachable => return Err(broken()),
        };
        if fate == Fate::LoseAnswer {
            return Err(broken());
        }
        Ok(answer.into())
    }

    async fn serve(&self, service: Service, operation: &str, body: &[u8]) -> Answer {
        match service {
            Service::DynamoDb => self.dynamodb.call(operation, body).await,
            Service::Sqs => self.sqs.call(operation, body).await,
            Service::EventBridge => self.events.call(operation, body).await,
        }
    }

    async fn serve_half(&self, service: Service, operation: &str, body: &[u8]) -> Answer {
        match service {
            Service::DynamoDb => self.dynamodb.call_half(operation, body).await,
            Service::Sqs => self.sqs.call_half(operation, body).await,
            Service::EventBridge => self.events.call_half(operation, body).await,
        }
    }
}

fn broken() -> ConnectorError {
    ConnectorError::io("the connection was broken on purpose".into())
}

/// The services as the SDKs see them.
#[derive(Clone, Debug)]
pub(crate) struct Connector(Arc<Services>);

impl Connector {
    pub(crate) fn new(services: &Arc<Services>) -> Self {
        Self(Arc::clone(services))
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let services = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move { services.call(&request).await })
    }
}
