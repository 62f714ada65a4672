//! The rules that tick, one for each interval: [`TickRules`] switches them on and off. A rule is off while no record is
//! refreshed on its interval.

use aws_sdk_eventbridge::{
    Client,
    error::{BoxError, ProvideErrorMetadata},
};
use okra_core::model::interval::Interval;

/// Why a rule could not be switched on or off.
#[derive(Debug, thiserror::Error)]
pub enum TickRulesError {
    /// There is no such rule: the configured prefix is not that of the deployment.
    #[error("EventBridge has no rule {rule}")]
    NotFound {
        /// Its name.
        rule: String,
    },
    /// EventBridge rejected the call or could not be reached.
    #[error("EventBridge could not switch rule {rule}")]
    ServiceFailure {
        /// Its name.
        rule: String,
        /// What EventBridge or the connection to it said.
        source: BoxError,
    },
}

/// The tick rules of one deployment.
#[derive(Clone, Debug)]
pub struct TickRules {
    client: Client,
    prefix: String,
}

impl TickRules {
    /// The rules called `{prefix}-{interval}`, the interval's `_` as `-`.
    pub fn new(client: Client, prefix: impl Into<String>) -> Self {
        Self {
            client,
            prefix: prefix.into(),
        }
    }

    /// The name of an interval's rule.
    pub fn rule_name(&self, interval: Interval) -> String {
        format!("{}-{}", self.prefix, interval.as_str().replace('_', "-"))
    }

    /// Switches the rule of an interval on; on one that is on it does nothing.
    ///
    /// # Errors
    ///
    /// [`TickRulesError`].
    pub async fn enable_rule(&self, interval: Interval) -> Result<(), TickRulesError> {
        let rule = self.rule_name(interval);
        match self.client.enable_rule().name(&rule).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(rule_error(rule, error)),
        }
    }

    /// Switches the rule of an interval off; on one that is off it does nothing.
    ///
    /// # Errors
    ///
    /// [`TickRulesError`].
    pub async fn disable_rule(&self, interval: Interval) -> Result<(), TickRulesError> {
        let rule = self.rule_name(interval);
        match self.client.disable_rule().name(&rule).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(rule_error(rule, error)),
        }
    }
}

fn rule_error(rule: String, error: impl ProvideErrorMetadata + Into<BoxError>) -> TickRulesError {
    if error.code() == Some("ResourceNotFoundException") {
        return TickRulesError::NotFound { rule };
    }
    TickRulesError::ServiceFailure {
        rule,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::client::{
        http::{
            HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
            http_client_fn,
        },
        orchestrator::{HttpRequest, HttpResponse},
    };
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::AwsConfig;

    /// Answers every call alike and records the requests.
    #[derive(Clone, Debug)]
    struct FakeEventBridge {
        status: u16,
        body: &'static str,
        requests: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
    }

    impl HttpConnector for FakeEventBridge {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            self.requests
                .lock()
                .unwrap()
                .push((target.to_owned(), body));
            let response = http::Response::builder()
                .status(self.status)
                .body(SdkBody::from(self.body))
                .unwrap();
            HttpConnectorFuture::ready(Ok(HttpResponse::try_from(response).unwrap()))
        }
    }

    fn rules_with_response(status: u16, body: &'static str) -> (TickRules, FakeEventBridge) {
        let service = FakeEventBridge {
            status,
            body,
            requests: Arc::default(),
        };
        let connector = SharedHttpConnector::new(service.clone());
        let http = SharedHttpClient::new(http_client_fn(move |_, _| connector.clone()));
        let client = AwsConfig::with_http_client(http).eventbridge_client();
        (TickRules::new(client, "okra-dev"), service)
    }

    #[tokio::test]
    async fn a_rule_is_switched_by_its_name() {
        let (rules, service) = rules_with_response(200, "");
        rules.enable_rule(Interval::OneMinute).await.unwrap();
        rules.disable_rule(Interval::Daily).await.unwrap();
        let requests = service.requests.lock().unwrap().clone();
        let name = |name: &str| serde_json::json!({ "Name": name });
        assert_eq!(
            requests,
            [
                (
                    "AWSEvents.EnableRule".to_owned(),
                    name("okra-dev-one-minute")
                ),
                ("AWSEvents.DisableRule".to_owned(), name("okra-dev-daily")),
            ]
        );
    }

    #[tokio::test]
    async fn an_error_names_the_rule() {
        let (absent, _) = rules_with_response(400, r#"{"__type":"ResourceNotFoundException"}"#);
        let error = absent.enable_rule(Interval::SixHours).await.unwrap_err();
        assert!(matches!(error, TickRulesError::NotFound { .. }));
        assert_eq!(
            error.to_string(),
            "EventBridge has no rule okra-dev-six-hours"
        );

        let (forbidden, service) =
            rules_with_response(400, r#"{"__type":"AccessDeniedException"}"#);
        let error = forbidden
            .disable_rule(Interval::SixHours)
            .await
            .unwrap_err();
        assert!(matches!(error, TickRulesError::ServiceFailure { .. }));
        assert_eq!(service.requests.lock().unwrap().len(), 1);
    }
}
