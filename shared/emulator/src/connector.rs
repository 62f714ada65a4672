//! The HTTP client under the SDKs: [`EmulatorConnector`] finds the service and the operation of a call, and lets its
//! fate happen.

use std::sync::Arc;

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use okra_aws::Clock;

use crate::{
    dynamodb::DynamoDbEmulator,
    events::EventBridgeEmulator,
    faults::{CallFate, FaultInjector},
    response::ServiceResponse,
    service::AwsService,
    sqs::SqsEmulator,
    storage::{EmulatorOpenError, Storage},
};

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
        // The SDKs have the bodies of these services in memory.
        let Some(body) = request.body().bytes() else {
            return Err(ConnectorError::other(
                "the request's body is a stream".into(),
                None,
            ));
        };
        let fate = self.faults.decide_fate(service, operation);
        let response = match fate {
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
        Ok(response.into())
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
