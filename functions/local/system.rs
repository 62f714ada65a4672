//! The whole system in one process: [`LocalSystem`] opens the embedded services (or those that options name) and runs the
//! functions' own handlers on them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use anyhow::{Context, bail};
use okra_app::{SandboxLoginFactory, Services};
use okra_aws::{AwsConfig, Clock, tick_rules::TickRules};
use okra_connectors::Connectors;
use okra_core::model::interval::Interval;
use okra_emulator::{Emulator, QueueSpec, Redrive};
use okra_handlers::{
    DeliverEvent, DeliverEventResponse, FetchEvent, FetchEventResponse, RuntimeContext,
};
use okra_queue::{Queue, QueueUrls, Queues};
use okra_refresh::Refresher;
use okra_store::Store;
use okra_webhooks::{AddressPolicy, Deliverer};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    banks,
    cli::GlobalOptions,
    http_server::serve_router,
    mapping::{self, QueueMapping},
    vault_key::open_vault,
};

/// Name of the table.
const TABLE_NAME: &str = "okra-sync";

/// Prefix of the rules' names.
const RULE_PREFIX: &str = "okra-sync";

/// Receives before a message goes to its dead-letter queue, as in the template.
const MAX_RECEIVES: u32 = 5;

/// The queues, and the seconds that a received message is invisible, as in the template.
const QUEUE_VISIBILITY_S: [(&str, u32); 3] = [("fetch", 360), ("priority", 360), ("deliver", 180)];

/// How the queues are drained. On one machine a few workers do the work of hundreds in Lambda.
const QUEUE_MAPPINGS: [QueueMapping; 3] = [
    QueueMapping {
        queue: Queue::Fetch,
        batch_size: 1,
        concurrency: 4,
    },
    QueueMapping {
        queue: Queue::Priority,
        batch_size: 1,
        concurrency: 4,
    },
    QueueMapping {
        queue: Queue::Deliver,
        batch_size: 10,
        concurrency: 8,
    },
];

/// The system, opened but not started.
pub(crate) struct LocalSystem {
    pub(crate) environment: RuntimeContext,
    pub(crate) emulator: Emulator,
}

/// Binds a port of this machine.
pub(crate) async fn bind_local_port(port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .await
        .with_context(|| format!("port {port} cannot be used; choose another with --port"))
}

impl LocalSystem {
    /// Opens the data folder and the services in it. `clock` is the time of refreshes.
    pub(crate) async fn open_data_folder(
        options: &GlobalOptions,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let emulator = Emulator::open_folder(&options.data, Clock::system())?;
        let embedded = AwsConfig::with_http_client(emulator.http_client());
        let dynamodb = match &options.dynamodb_endpoint {
            Some(url) => remote_aws_config("AWS_ENDPOINT_URL_DYNAMODB", url)?.dynamodb_client(),
            None => embedded.dynamodb_client(),
        };
        let store = Store::new(dynamodb, TABLE_NAME);
        store
            .create_table()
            .await
            .context("the table cannot be created")?;
        let vault = open_vault(&options.data, &store).await?;
        let queues = match &options.sqs_endpoint {
            Some(url) => {
                create_remote_queues(&remote_aws_config("AWS_ENDPOINT_URL_SQS", url)?).await?
            }
            None => create_embedded_queues(&emulator, &embedded)?,
        };
        let rules = TickRules::new(embedded.eventbridge_client(), RULE_PREFIX);
        create_rules(&embedded, &rules, &store).await?;
        let environment = RuntimeContext {
            store,
            queues,
            tick_rules: rules,
            event_bus: None,
            vault: Arc::new(vault),
            connectors: Connectors::new(okra_aws::rustls_client_config())?,
            address_policy: AddressPolicy::AllowLoopback,
            clock,
            public_url: format!("http://127.0.0.1:{}", options.port),
            deliver_concurrency: NonZeroU32::MIN,
        };
        if let Some(file) = &options.banks {
            banks::store_banks_file(file, &environment.store, &environment.vault).await?;
        }
        Ok(Self {
            environment,
            emulator,
        })
    }

    /// Drains the queues with the functions' own handlers. A batch that fails as a whole is logged by its handler.
    pub(crate) fn start_workers(
        &self,
        tasks: &mut JoinSet<()>,
        refresher: &Refresher,
        deliverer: &Arc<Deliverer>,
    ) {
        for mapping in QUEUE_MAPPINGS {
            let (refresher, deliverer) = (refresher.clone(), Arc::clone(deliverer));
            let is_delivery = mapping.queue == Queue::Deliver;
            mapping::start_mapping(tasks, &self.environment.queues, mapping, move |event| {
                let (refresher, deliverer) = (refresher.clone(), Arc::clone(&deliverer));
                async move {
                    if is_delivery {
                        let event = DeliverEvent::Messages(event);
                        match okra_handlers::handle_deliver_event(&deliverer, event).await {
                            Ok(DeliverEventResponse::Messages(response)) => Some(response),
                            Ok(DeliverEventResponse::Sweep(_)) | Err(_) => None,
                        }
                    } else {
                        let event = FetchEvent::Messages(event);
                        match okra_handlers::handle_fetch_event(&refresher, event).await {
                            Ok(FetchEventResponse::Messages(response)) => Some(response),
                            Ok(FetchEventResponse::Tick(_)) | Err(_) => None,
                        }
                    }
                }
            });
        }
    }

    /// Serves the API, the dashboard and the widget.
    pub(crate) fn serve_api(
        &self,
        tasks: &mut JoinSet<()>,
        listener: TcpListener,
        sandbox: Option<Arc<dyn SandboxLoginFactory>>,
    ) {
        let services = Services::new(self.environment.clone(), sandbox);
        let router = okra_web::build_router(services.clone(), okra_api::build_router(services));
        serve_router(tasks, listener, router);
    }
}

/// The configuration of another service than the embedded one, with the environment's credentials where there are any.
fn remote_aws_config(endpoint: &str, url: &str) -> anyhow::Result<AwsConfig> {
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

fn create_embedded_queues(emulator: &Emulator, aws: &AwsConfig) -> anyhow::Result<Queues> {
    let mut specs = Vec::new();
    for (name, visibility_s) in QUEUE_VISIBILITY_S {
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
    Ok(Queues::new(aws.sqs_client(), urls))
}

async fn create_remote_queues(aws: &AwsConfig) -> anyhow::Result<Queues> {
    use aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout;

    let client = aws.sqs_client();
    let mut urls = Vec::new();
    for (name, visibility_s) in QUEUE_VISIBILITY_S {
        let create = client
            .create_queue()
            .queue_name(format!("okra-sync-{name}"));
        let created = create
            .attributes(VisibilityTimeout, visibility_s.to_string())
            .send()
            .await;
        let created = created.with_context(|| format!("the queue {name} cannot be created"))?;
        urls.push(created.queue_url.context("a new queue has no URL")?);
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

/// Creates the rules that the template would deploy: enabled where records have their interval, otherwise disabled.
async fn create_rules(aws: &AwsConfig, rules: &TickRules, store: &Store) -> anyhow::Result<()> {
    let client = aws.eventbridge_client();
    for interval in Interval::ALL {
        let needed = store.count_interval_entries(interval).await? > 0;
        client
            .put_rule()
            .name(rules.rule_name(interval))
            .schedule_expression("rate(1 minute)")
            .state(if needed {
                aws_sdk_eventbridge::types::RuleState::Enabled
            } else {
                aws_sdk_eventbridge::types::RuleState::Disabled
            })
            .send()
            .await
            .with_context(|| format!("the rule of {} cannot be created", interval.as_str()))?;
    }
    Ok(())
}
