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
const ENDPOINT: &str = "OKRA_TEST_SQS_ENDPOINT";

/// A service with time.
pub(crate) struct Sqs {
    pub(crate) client: Client,
    embedded: Option<(Emulator, Clock)>,
}

impl Sqs {
    /// The service of this run.
    pub(crate) fn new() -> Self {
        match env::var(ENDPOINT) {
            Ok(url) => Self::of_server(&url),
            Err(_) => Self::embedded(),
        }
    }

    fn of_server(url: &str) -> Self {
        let config = AwsConfig::from_vars(|name| match name {
            "AWS_ENDPOINT_URL" => Some(url.to_owned()),
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
            _ => None,
        });
        Self {
            client: config.unwrap().sqs(),
            embedded: None,
        }
    }

    fn embedded() -> Self {
        let clock = Clock::driven("2026-03-01T12:00:00Z".parse().unwrap());
        let emulator = Emulator::memory(clock.clone()).unwrap();
        Self {
            client: AwsConfig::with_http_client(emulator.http_client()).sqs(),
            embedded: Some((emulator, clock)),
        }
    }

    /// False, and says why, where this run's server is known to deviate.
    pub(crate) fn conforms(&self, rule: &str) -> bool {
        if self.embedded.is_none() {
            eprintln!("skipped: {rule}");
        }
        self.embedded.is_some()
    }

    /// Lets time pass: at once where the clock is ours.
    pub(crate) async fn pass(&self, seconds: u32) {
        match &self.embedded {
            Some((emulator, clock)) => {
                let later = clock.now() + SignedDuration::from_secs(seconds.into());
                clock.set(later);
                emulator.wake();
            }
            None => tokio::time::sleep(Duration::from_secs(seconds.into())).await,
        }
    }

    /// A new queue with these attributes.
    pub(crate) async fn queue(&self, attributes: &[(&str, &str)]) -> Queue {
        static QUEUES: AtomicU32 = AtomicU32::new(0);
        let n = QUEUES.fetch_add(1, Ordering::Relaxed);
        let mut create = self
            .client
            .create_queue()
            .queue_name(format!("test-{}-{n}", std::process::id()));
        for &(name, value) in attributes {
            create = create.attributes(name.into(), value);
        }
        Queue {
            client: self.client.clone(),
            url: create.send().await.unwrap().queue_url.unwrap(),
        }
    }
}

/// One queue.
pub(crate) struct Queue {
    pub(crate) client: Client,
    pub(crate) url: String,
}
