//! Queues to test against: the embedded ones with a clock that is driven, or a server's.

use std::{
    env,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aws_sdk_sqs::Client;
use jiff::SignedDuration;
use okra_aws::{AwsConfig, Clock};
use okra_emulator::Emulator;

/// Where an independent server listens, instead of the embedded queues.
const ENDPOINT_VAR: &str = "OKRA_TEST_SQS_ENDPOINT";

/// A service with time.
pub(crate) struct TestSqs {
    pub(crate) client: Client,
    embedded: Option<(Emulator, Clock)>,
}

impl TestSqs {
    /// The service of this run.
    pub(crate) fn new() -> Self {
        match env::var(ENDPOINT_VAR) {
            Ok(url) => Self::from_server(&url),
            Err(_) => Self::new_embedded(),
        }
    }

    fn from_server(url: &str) -> Self {
        let config = AwsConfig::from_vars(|name| match name {
            "AWS_ENDPOINT_URL" => Some(url.to_owned()),
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
            _ => None,
        });
        Self {
            client: config.unwrap().sqs_client(),
            embedded: None,
        }
    }

    fn new_embedded() -> Self {
        let clock = Clock::manual_at("2026-03-01T12:00:00Z".parse().unwrap());
        let emulator = Emulator::in_memory(clock.clone()).unwrap();
        Self {
            client: AwsConfig::with_http_client(emulator.http_client()).sqs_client(),
            embedded: Some((emulator, clock)),
        }
    }

    /// False, and says why, where this run's server is known to deviate.
    pub(crate) fn conforms_to(&self, rule: &str) -> bool {
        if self.embedded.is_none() {
            eprintln!("skipped: {rule}");
        }
        self.embedded.is_some()
    }

    /// Lets time pass: at once where the clock is ours.
    pub(crate) async fn advance_time(&self, seconds: u32) {
        match &self.embedded {
            Some((emulator, clock)) => {
                let later = clock.now() + SignedDuration::from_secs(seconds.into());
                clock.set_time(later);
                emulator.wake_receivers();
            }
            None => tokio::time::sleep(Duration::from_secs(seconds.into())).await,
        }
    }

    /// A new queue with these attributes.
    pub(crate) async fn create_queue(&self, attributes: &[(&str, &str)]) -> TestQueue {
        static QUEUES: AtomicU32 = AtomicU32::new(0);
        let n = QUEUES.fetch_add(1, Ordering::Relaxed);
        let mut create = self
            .client
            .create_queue()
            .queue_name(format!("test-{}-{n}", std::process::id()));
        for &(name, value) in attributes {
            create = create.attributes(name.into(), value);
        }
        TestQueue {
            client: self.client.clone(),
            url: create.send().await.unwrap().queue_url.unwrap(),
        }
    }
}

/// One queue.
pub(crate) struct TestQueue {
    pub(crate) client: Client,
    pub(crate) url: String,
}
