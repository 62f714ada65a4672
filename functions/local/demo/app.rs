//! The demo app: [`DemoApp`] with three customers, set up through the public API at the first run.

use anyhow::Context;
use okra_core::model::{
    ids::{AppId, RecordId},
    snapshot::Environment,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    api_client::ApiClient,
    apps::create_app,
    cli::GlobalOptions,
    keys::{read_private_file, write_private_file},
    printer::LinePrinter,
    receiver::WebhookReceiver,
    system::LocalSystem,
};

/// Where the demo app stores its key and its signing secret, which are shown once only.
const DEMO_FILE: &str = "demo.json";

/// The demo app's customers, and the ids of their banks.
const CUSTOMERS: [(&str, &str); 3] = [
    ("Ada Obi", "5d6fe57a4099cc4b210bbeb3"),
    ("Bola Ade", "5d6fe57a4099cc4b210bbec0"),
    ("Chidi Eze", "5d6fe57a4099cc4b210bbec2"),
];

/// What the demo app remembers.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct DemoApp {
    app: AppId,
    pub(super) secret_key: String,
    webhook_secret: String,
    pub(super) customers: Vec<DemoCustomer>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct DemoCustomer {
    customer: String,
    pub(super) record: RecordId,
    account: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct CreatedCustomer {
    customer_id: String,
    record_id: RecordId,
    name: String,
    accounts: Vec<CreatedAccount>,
}

#[derive(Deserialize)]
struct CreatedAccount {
    id: String,
}

/// The demo app of an earlier run, or a new one with three customers.
pub(super) async fn set_up_demo_app(
    options: &GlobalOptions,
    system: &LocalSystem,
    receiver: &WebhookReceiver,
) -> anyhow::Result<DemoApp> {
    let path = options.data.join(DEMO_FILE);
    if let Some(text) = read_private_file(&path)? {
        let demo: DemoApp = serde_json::from_str(&text)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        receiver.set_signing_secret(&demo.webhook_secret)?;
        return Ok(demo);
    }
    let environment = &system.environment;
    let created = create_app(
        &environment.store,
        "demo",
        Environment::Sandbox,
        &environment.clock,
    )
    .await?;
    let api = ApiClient::for_local_port(options.port, &created.secret_key)?;
    let url = format!("http://127.0.0.1:{}/hook", options.port + 2);
    let webhook_secret = api.set_webhook(&url).await?;
    receiver.set_signing_secret(&webhook_secret)?;
    let mut customers = Vec::new();
    for (name, bank) in CUSTOMERS {
        customers.push(create_customer(&api, name, bank).await?);
    }
    let demo = DemoApp {
        app: created.id,
        secret_key: created.secret_key,
        webhook_secret,
        customers,
    };
    write_private_file(&path, &serde_json::to_vec_pretty(&demo)?)?;
    Ok(demo)
}

async fn create_customer(api: &ApiClient, name: &str, bank: &str) -> anyhow::Result<DemoCustomer> {
    let request = json!({
        "name": name, "bank": bank, "noOfAccount": 1, "interval": "one_minute",
        "options": { "UserId": name },
    });
    let created: CreatedCustomer = api.post_json("sandbox/customers/create", &request).await?;
    let account = created.accounts.into_iter().next();
    Ok(DemoCustomer {
        customer: created.customer_id,
        record: created.record_id,
        account: account.context("the new customer has no account")?.id,
        name: created.name,
    })
}

/// Names the customers' records in the lines to come, and prints where everything is and what to try next.
pub(super) fn print_introduction(
    printer: &LinePrinter,
    options: &GlobalOptions,
    demo: &DemoApp,
    receiver: &WebhookReceiver,
) {
    for customer in &demo.customers {
        printer.set_record_name(customer.record, customer.name.clone());
    }
    let (port, key) = (options.port, &demo.secret_key);
    let resumed = match receiver.len() {
        0 => String::new(),
        count => format!("\nResumed: the demo app received {count} events in earlier runs.\n"),
    };
    let first = demo.customers.first();
    let (customer, account) = first.map_or(("", ""), |first| {
        (first.customer.as_str(), first.account.as_str())
    });
    printer.print_text(&format!(
        "okra-sync {version}, whole in one process
{resumed}
  API           http://127.0.0.1:{port}/v2
  dashboard     http://127.0.0.1:{port}/dashboard  (sign in with the secret key)
  sandbox bank  http://127.0.0.1:{bank}  (UK Open Banking v3.1 and v4.0; see its /control)
  demo app      http://127.0.0.1:{hook}/hook  (its webhook receiver)
  secret key    {key}
  data          {data}

Three customers are linked and refreshed every minute. Try next:

  curl -s http://127.0.0.1:{port}/v2/balance/getByCustomer -H 'Authorization: Bearer {key}' \\
       -d '{{\"customer\":\"{customer}\"}}'
  curl -s http://127.0.0.1:{port}/v2/transactions/getByCustomer -H 'Authorization: Bearer {key}' \\
       -d '{{\"customer\":\"{customer}\",\"limit\":5}}'
  curl -s http://127.0.0.1:{port}/v2/balance/refresh -H 'Authorization: Bearer {key}' \\
       -d '{{\"account_id\":\"{account}\"}}'

",
        version = env!("CARGO_PKG_VERSION"),
        bank = port + 1,
        hook = port + 2,
        data = options.data.display(),
    ));
}
