//! SDK clients from the environment of a Lambda, or over an embedded engine: [`AwsConfig`].
//!
//! The rule: every call has a bound for its connection, each attempt and all attempts together.

use std::{env, time::Duration};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::config::retry::RetryPartition;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::{behavior_version::BehaviorVersion, http::SharedHttpClient};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_types::{SdkConfig, region::Region};

use crate::tls::{self, TrustedRoots};

/// Attempts of one call, the first included.
const MAX_ATTEMPTS: u32 = 4;

/// Longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long one attempt of a call without a wait may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one attempt against SQS may take, whose receive waits up to 20 s for messages.
const LONG_POLL_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(25);

/// How long a call may take with all its attempts.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a call to SQS may take with all its attempts.
const LONG_POLL_OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the environment does not make a configuration.
#[derive(Debug, thiserror::Error)]
pub enum AwsConfigError {
    /// A variable that must be set is not, or is empty.
    #[error("the environment variable {0} is not set")]
    MissingVariable(&'static str),
    /// TLS could not be set up.
    #[error("TLS for the AWS clients could not be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the services are, when not at AWS.
#[derive(Clone, Debug, Default)]
struct ServiceEndpoints {
    dynamodb: Option<String>,
    sqs: Option<String>,
    eventbridge: Option<String>,
}

impl ServiceEndpoints {
    const fn has_any(&self) -> bool {
        self.dynamodb.is_some() || self.sqs.is_some() || self.eventbridge.is_some()
    }
}

/// A source of environment variables; an empty one counts as not set.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn find_value(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn require_value(&self, name: &'static str) -> Result<String, AwsConfigError> {
        self.find_value(name)
            .ok_or(AwsConfigError::MissingVariable(name))
    }

    /// The endpoint of one service, else that of all services.
    fn endpoint_url(&self, name: &str) -> Option<String> {
        self.find_value(name)
            .or_else(|| self.find_value("AWS_ENDPOINT_URL"))
    }
}

/// What the SDK clients share: region, credentials, endpoints, HTTP client. Build it once in a
/// process; clients of one configuration share their connections.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    shared: SdkConfig,
    endpoints: ServiceEndpoints,
    /// True over an engine in this process; see [`Self::with_http_client`].
    is_embedded: bool,
}

impl AwsConfig {
    /// From the environment, as Lambda sets it: `AWS_REGION` (or `AWS_DEFAULT_REGION`),
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, optional `AWS_SESSION_TOKEN`. Endpoints may be
    /// set by `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL_EVENTBRIDGE`
    /// or, for all three, `AWS_ENDPOINT_URL`; then the platform's certificates are trusted as well.
    ///
    /// Lambda replaces the process before its credentials expire, so they are read once.
    ///
    /// # Errors
    ///
    /// [`AwsConfigError::MissingVariable`] names the variable that is missing.
    pub fn from_env() -> Result<Self, AwsConfigError> {
        Self::from_vars(|name| env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), from any source of variables.
    ///
    /// # Errors
    ///
    /// [`AwsConfigError::MissingVariable`] names the variable that is missing.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, AwsConfigError> {
        let vars = Variables(vars);
        let endpoints = ServiceEndpoints {
            dynamodb: vars.endpoint_url("AWS_ENDPOINT_URL_DYNAMODB"),
            sqs: vars.endpoint_url("AWS_ENDPOINT_URL_SQS"),
            eventbridge: vars.endpoint_url("AWS_ENDPOINT_URL_EVENTBRIDGE"),
        };
        let credentials = Credentials::new(
            vars.require_value("AWS_ACCESS_KEY_ID")?,
            vars.require_value("AWS_SECRET_ACCESS_KEY")?,
            vars.find_value("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let region = vars
            .find_value("AWS_REGION")
            .or_else(|| vars.find_value("AWS_DEFAULT_REGION"))
            .ok_or(AwsConfigError::MissingVariable("AWS_REGION"))?;
        let trust = if endpoints.has_any() {
            TrustedRoots::Platform
        } else {
            TrustedRoots::Amazon
        };
        let http = tls::build_http_client(trust).map_err(AwsConfigError::Tls)?;
        Ok(Self::new(region, Some(credentials), endpoints, http))
    }

    /// Over an embedded engine: region `local`, every call goes to `http`, unsigned. Each client has a
    /// retry budget of its own, so that engines in one process do not touch each other.
    pub fn with_http_client(http: SharedHttpClient) -> Self {
        Self::new("local".to_owned(), None, ServiceEndpoints::default(), http)
    }

    fn new(
        region: String,
        credentials: Option<Credentials>,
        endpoints: ServiceEndpoints,
        http: SharedHttpClient,
    ) -> Self {
        let is_embedded = credentials.is_none();
        let mut shared = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region))
            .http_client(http)
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(MAX_ATTEMPTS)
                    .with_max_backoff(MAX_BACKOFF),
            )
            .timeout_config(build_timeouts(ATTEMPT_TIMEOUT, OPERATION_TIMEOUT));
        shared.set_credentials_provider(credentials.map(SharedCredentialsProvider::new));
        Self {
            shared: shared.build(),
            endpoints,
            is_embedded,
        }
    }

    fn retry_partition(&self, service: &'static str) -> Option<RetryPartition> {
        self.is_embedded
            .then(|| RetryPartition::custom(service).build())
    }

    /// A client of DynamoDB.
    pub fn dynamodb_client(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&self.shared);
        config.set_endpoint_url(self.endpoints.dynamodb.clone());
        config.set_retry_partition(self.retry_partition("dynamodb"));
        if self.is_embedded {
            config.set_allow_no_auth();
        }
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// A client of SQS, with time for long polls.
    pub fn sqs_client(&self) -> aws_sdk_sqs::Client {
        // A long poll without a byte for as long as it waits is not a stalled connection.
        let without_stall_check = aws_sdk_sqs::config::StalledStreamProtectionConfig::disabled();
        let config = aws_sdk_sqs::config::Builder::from(&self.shared);
        let mut config = config
            .stalled_stream_protection(without_stall_check)
            .timeout_config(build_timeouts(
                LONG_POLL_ATTEMPT_TIMEOUT,
                LONG_POLL_OPERATION_TIMEOUT,
            ));
        config.set_endpoint_url(self.endpoints.sqs.clone());
        config.set_retry_partition(self.retry_partition("sqs"));
        if self.is_embedded {
            config.set_allow_no_auth();
        }
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    /// A client of EventBridge.
    pub fn eventbridge_client(&self) -> aws_sdk_eventbridge::Client {
        let mut config = aws_sdk_eventbridge::config::Builder::from(&self.shared);
        config.set_endpoint_url(self.endpoints.eventbridge.clone());
        config.set_retry_partition(self.retry_partition("eventbridge"));
        if self.is_embedded {
            config.set_allow_no_auth();
        }
        aws_sdk_eventbridge::Client::from_conf(config.build())
    }
}

fn build_timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMBDA_VARIABLES: &[(&str, &str)] = &[
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "token"),
    ];

    fn config_from_vars(vars: &[(&str, &str)]) -> Result<AwsConfig, AwsConfigError> {
        AwsConfig::from_vars(|name| {
            vars.iter()
                .rev()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_lambdas_variables_are_enough() {
        let config = config_from_vars(LAMBDA_VARIABLES).unwrap();
        assert_eq!(config.shared.region().map(AsRef::as_ref), Some("eu-west-1"));
        assert!(!config.endpoints.has_any());
        let (_, _, _) = (
            config.dynamodb_client(),
            config.sqs_client(),
            config.eventbridge_client(),
        );
    }

    #[test]
    fn a_missing_variable_is_named() {
        for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            let vars = [LAMBDA_VARIABLES, &[(name, "")]].concat();
            let error = config_from_vars(&vars).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the environment variable {name} is not set")
            );
        }
    }

    #[test]
    fn a_services_own_endpoint_comes_before_the_common_one() {
        let vars = [
            LAMBDA_VARIABLES,
            &[
                ("AWS_ENDPOINT_URL", "http://all"),
                ("AWS_ENDPOINT_URL_SQS", "http://sqs"),
            ],
        ]
        .concat();
        let endpoints = config_from_vars(&vars).unwrap().endpoints;
        assert_eq!(endpoints.dynamodb.as_deref(), Some("http://all"));
        assert_eq!(endpoints.sqs.as_deref(), Some("http://sqs"));
        assert_eq!(endpoints.eventbridge.as_deref(), Some("http://all"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", config_from_vars(LAMBDA_VARIABLES).unwrap());
        assert!(!text.contains("secret\""), "{text}");
    }
}
