//! The running system: embedded services, functions, clock, API, in one process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use anyhow::{Context, bail};
use okra_api::{ApiState, Sandbox};
use okra_aws::{AwsConfig, Clock, rules::Rules};
use okra_banks::Connectors;
use okra_core::schedule::Interval;
use okra_emulator::{Emulator, QueueSpec, Redrive};
use okra_handlers::{DeliverEvent, DeliverResponse, Environment, FetchEvent, FetchResponse};
use okra_queue::{Queue, QueueUrls, Queues};
use okra_refresh::Refresher;
use okra_store::Store;
use okra_vault::Vault;
use okra_webhooks::{AddressPolicy, Deliverer};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    banks,
    cli::Options,
    keys,
    mapping::{self, Mapping},
};

/// The table's name.
const TABLE: &str = "okra-sync";

/// What rules' names begin with.
const RULE_PREFIX: &str = "okra-sync";

/// Receives before a message goes to its dead-letter queue, as in the template.
const MAX_RECEIVES: u32 = 5;

/// Queues with the seconds a received message is invisible, as in the template.
const QUEUES: [(&str, u32); 3] = [("fetch", 360), ("priority", 360), ("deliver", 180)];

/// How the queues are drained. On one machine a few workers do what hundreds do in Lambda.
const MAPPINGS: [Mapping; 3] = [
    Mapping {
        queue: Queue::Fetch,
        batch: 1,
        concurrency: 4,
    },
    Mapping {
        queue: Queue::Priority,
        batch: 1,
        concurrency: 4,
    },
    Mapping {
        queue: Queue::Deliver,
        batch: 10,
        concurrency: 8,
    },
];

/// The system, opened but not started.
pub(crate) struct Process {
    pub(crate) environment: Environment,
    pub(crate) emulator: Emulator,
}

/// Binds a port of this machine.
pub(crate) async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .await
        .with_context(|| format!("port {port} cannot be used; choose another with --port"))
}

impl Process {
    /// Opens the data folder and what lives in it. `clock` is the time the refreshes go by.
    pub(crate) async fn open(options: &Options, clock: Clock) -> anyhow::Result<Self> {
        let emulator = Emulator::open(&options.data, Clock::system())?;
        let embedded = AwsConfig::with_http_client(emulator.http_client());
        let dynamodb = match &options.dynamodb_endpoint {
            Some(url) => remote("AWS_ENDPOINT_URL_DYNAMODB", url)?.dynamodb(),
            None => embedded.dynamodb(),
        };
        let store = Store::new(dynamodb, TABLE);
        store
            .create_table()
            .await
            .context("the table cannot be created")?;
        let queues = match &options.sqs_endpoint {
            Some(url) => remote_queues(&remote("AWS_ENDPOINT_URL_SQS", url)?).await?,
            None => embedded_queues(&emulator, &embedded)?,
        };
        let rules = Rules::new(embedded.eventbridge(), RULE_PREFIX);
        make_rules(&embedded, &rules, &store).await?;
        let environment = Environment {
            store,
            queues,
            rules,
            bus: None,
            vault: Arc::new(Vault::new(keys::key(&options.data, "vault.key")?)),
            connectors: Connectors::new(okra_aws::rustls_client_config())?,
            addresses: AddressPolicy::AllowLoopback,
            clock,
            public_url: format!("http://127.0.0.1:{}", options.port),
            deliverers: NonZeroU32::MIN,
        };
        if let Some(file) = &options.banks {
            banks::put(file, &environment.store, &environment.vault).await?;
        }
        Ok(Self {
            environment,
            emulator,
        })
    }

    /// Drains the queues with the functions' own handlers.
    pub(crate) fn start(
        &self,
        tasks: &mut JoinSet<()>,
        refresher: &Refresher,
        deliverer: &Arc<Deliverer>,
    ) {
        for mapping in MAPPINGS {
            let (refresher, deliverer) = (refresher.clone(), Arc::clone(deliverer));
            let deliver = mapping.queue == Queue::Deliver;
            mapping::start(tasks, &self.environment.queues, mapping, move |event| {
                let (refresher, deliverer) = (refresher.clone(), Arc::clone(&deliverer));
                async move {
                    if deliver {
                        let event = DeliverEvent::Messages(event);
                        match okra_handlers::deliver(&deliverer, event).await {
                            Ok(DeliverResponse::Messages(response)) => Some(response),
                            Ok(DeliverResponse::Sweep(_)) | Err(_) => None,
                        }
                    } else {
                        let event = FetchEvent::Messages(event);
                        match okra_handlers::fetch(&refresher, event).await {
                            Ok(FetchResponse::Messages(response)) => Some(response),
                            Ok(FetchResponse::Tick(_)) | Err(_) => None,
                        }
                    }
                }
            });
        }
    }

    /// Serves the API, the dashboard and the widget.
    pub(crate) fn serve(
        &self,
        tasks: &mut JoinSet<()>,
        listener: TcpListener,
        sandbox: Option<Arc<dyn Sandbox>>,
    ) {
        serve(
            tasks,
            listener,
            okra_web::router(ApiState::new(self.environment.clone(), sandbox)),
        );
    }
}

/// Serves a router until the process ends.
pub(crate) fn serve(tasks: &mut JoinSet<()>, listener: TcpListener, router: axum::Router) {
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(error = &error as &dyn std::error::Error, "a server ended");
        }
    });
}

/// Another service than the embedded one, with the credentials of the environment where there are any.
fn remote(endpoint: &str, url: &str) -> anyhow::Result<AwsConfig> {
    let config = AwsConfig::from_vars(|name| {
        if name == endpoint {
            return Some(url.to_owned());
        }
        std::env::var(name).ok().or_else(|| match name {
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("local".to_owned()),
            _ => None,
        })
    });
    config.with_context(|| format!("{url} cannot be used"))
}

fn embedded_queues(emulator: &Emulator, aws: &AwsConfig) -> anyhow::Result<Queues> {
    let mut specs = Vec::new();
    for (name, visibility_s) in QUEUES {
        let dead_letter = format!("{name}-dead");
        specs.push(QueueSpec::new(&dead_letter));
        let redrive = Some(Redrive {
            dead_letter,
            max_receive_count: MAX_RECEIVES,
        });
        specs.push(QueueSpec {
            visibility_s,
            redrive,
            ..QueueSpec::new(name)
        });
    }
    emulator.create_queues(&specs)?;
    let urls = QueueUrls {
        fetch: emulator.queue_url("fetch"),
        priority: emulator.queue_url("priority"),
        deliver: emulator.queue_url("deliver"),
    };
    Ok(Queues::new(aws.sqs(), urls))
}

async fn remote_queues(aws: &AwsConfig) -> anyhow::Result<Queues> {
    use aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout;

    let client = aws.sqs();
    let mut urls = Vec::new();
    for (name, visibility_s) in QUEUES {
        let create = client
            .create_queue()
            .queue_name(format!("okra-sync-{name}"));
        let created = create
            .attributes(VisibilityTimeout, visibility_s.to_string())
            .send()
            .await;
        let created = created.context("a queue cannot be created")?;
        urls.push(created.queue_url.context("a queue has no URL")?);
    }
    let Ok([fetch, priority, deliver]) = <[String; 3]>::try_from(urls) else {
        bail!("three queues are needed");
    };
    Ok(Queues::new(
        client,
        QueueUrls {
            fetch,
            priority,
            deliver,
        },
    ))
}

/// Makes the rules that the template would deploy, disabled, and enables those that records wait for.
async fn make_rules(aws: &AwsConfig, rules: &Rules, store: &Store) -> anyhow::Result<()> {
    let client = aws.eventbridge();
    for interval in Interval::ALL {
        let needed = store.interval_count(interval).await? > 0;
        client
            .put_rule()
            .name(rules.name(interval))
            .schedule_expression("rate(1 minute)")
            .state(if needed {
                aws_sdk_eventbridge::types::RuleState::Enabled
            } else {
                aws_sdk_eventbridge::types::RuleState::Disabled
            })
            .send()
            .await
            .context("a rule cannot be made")?;
    }
    Ok(())
}
