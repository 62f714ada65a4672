//! The demo: an app, three customers, and what happens to them as lines.

use std::{
    collections::HashMap, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use okra_aws::Clock;
use okra_core::model::{
    ids::{AppId, RecordId},
    snapshot::{BookingStatus, Direction, Environment as Env},
};
use okra_sandbox::{AccountAddress, LoginId, NewTransaction, RowKey, RowView, SandboxBank};
use okra_store::Store;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    app::create_app,
    cli::GlobalOptions,
    lines::{LinePrinter, LineSource},
    minute::MinuteClock,
    process::{LocalSystem, bind_local_port, serve_router},
    receiver::{EventArrival, ReceivedCallback, ReceivedEvent, WebhookReceiver},
    sandbox::{self, LocalSandbox},
};

/// Where the demo app keeps what it was told once: its key and its signing secret.
const DEMO_FILE: &str = "demo.json";

/// How often the watcher looks at the bank.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How often what was counted is written.
const TALLY_FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// When the demo app's customer first buys something.
const FIRST_PURCHASE_DELAY: Duration = Duration::from_secs(4);

/// What the demo app keeps.
#[derive(Clone, Serialize, Deserialize)]
struct DemoApp {
    app: AppId,
    secret_key: String,
    webhook_secret: String,
    customers: Vec<DemoCustomer>,
}

#[derive(Clone, Serialize, Deserialize)]
struct DemoCustomer {
    customer: String,
    record: RecordId,
    account: String,
    name: String,
}

/// Runs the system, the sandbox bank and, unless `quiet`, the demo app until the process is stopped.
pub(crate) async fn run_demo(options: GlobalOptions, with_app: bool) -> anyhow::Result<()> {
    let (api, bank_port, hook) = (
        bind_local_port(options.port).await?,
        bind_local_port(options.port + 1).await?,
        bind_local_port(options.port + 2).await?,
    );
    let clock = Clock::system();
    let lines = LinePrinter::new(clock.clone());
    let process = LocalSystem::open_data_folder(&options, clock.clone()).await?;
    let bank = sandbox::open_sandbox_bank(&options.data, options.port + 1)?;
    sandbox::store_sandbox_banks(&process.environment, options.port + 1).await?;

    let observer = Arc::new(lines.clone());
    let refresher = process
        .environment
        .build_refresher()
        .with_observer(observer.clone());
    let deliverer = Arc::new(
        process
            .environment
            .build_deliverer()?
            .with_observer(observer),
    );
    let mut tasks = JoinSet::new();
    process.serve_api(
        &mut tasks,
        api,
        Some(Arc::new(LocalSandbox { bank: bank.clone() })),
    );
    serve_router(
        &mut tasks,
        bank_port,
        bank.api_router().merge(bank.control_router()),
    );

    let receiver = WebhookReceiver::open_durable(
        &options.data.join("received.jsonl"),
        print_received_events(&lines),
    )?;
    if with_app {
        serve_router(&mut tasks, hook, receiver.webhook_router());
        let demo = set_up_demo_app(&options, &process, &receiver).await?;
        print_introduction(&lines, &options, &demo, &receiver);
        print_bank_movements(&mut tasks, &lines, &bank, &demo);
        schedule_first_purchase(&mut tasks, &lines, &bank, &demo, &options);
    } else {
        drop(hook);
        let key = load_operator_key(&options.data, &process.environment.store, &clock).await?;
        lines.print_text(&format!(
            "okra-sync {} serves on http://127.0.0.1:{}, its dashboard under /dashboard\n  secret key  {key}\n  sandbox bank  http://127.0.0.1:{}\n",
            env!("CARGO_PKG_VERSION"),
            options.port,
            options.port + 1,
        ));
    }
    tasks.spawn({
        let (lines, store, clock) = (
            lines.clone(),
            process.environment.store.clone(),
            clock.clone(),
        );
        async move {
            loop {
                sleep(TALLY_FLUSH_INTERVAL).await;
                lines.tally().flush_counts(&store, clock.now()).await;
            }
        }
    });
    // Started last: what happens from here on is told by name.
    process.start_workers(&mut tasks, &refresher, &deliverer);
    let minutes = MinuteClock {
        clock,
        store: process.environment.store.clone(),
        emulator: process.emulator.clone(),
        refresher,
        deliverer,
        printer: lines.clone(),
    };
    tasks.spawn(minutes.run_forever());
    tokio::signal::ctrl_c().await?;
    lines.print_text(
        "\nStopped. What was not finished is in the data folder and goes on with the next run.\n",
    );
    tasks.shutdown().await;
    Ok(())
}

/// The key of `serve`'s app: made at the first start, kept in a file for its owner alone.
async fn load_operator_key(folder: &Path, store: &Store, clock: &Clock) -> anyhow::Result<String> {
    let path = folder.join("secret-key");
    if let Ok(key) = std::fs::read_to_string(&path) {
        return Ok(key.trim().to_owned());
    }
    let (_, key) = create_app(store, "default", Env::Sandbox, clock).await?;
    write_private_file(&path, key.as_bytes())?;
    Ok(key)
}

pub(crate) fn write_private_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let aside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .with_context(|| format!("cannot write {}", aside.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    Ok(())
}

/// The demo app of an earlier run, or a new one with three customers, all through the public API.
async fn set_up_demo_app(
    options: &GlobalOptions,
    system: &LocalSystem,
    receiver: &WebhookReceiver,
) -> anyhow::Result<DemoApp> {
    let path = options.data.join(DEMO_FILE);
    if let Ok(text) = std::fs::read(&path) {
        let demo: DemoApp = serde_json::from_slice(&text)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        receiver.set_signing_secret(&demo.webhook_secret)?;
        return Ok(demo);
    }
    let environment = &system.environment;
    let (app, secret_key) =
        create_app(&environment.store, "demo", Env::Sandbox, &environment.clock).await?;
    let api = ApiClient::new(options.port, &secret_key)?;
    let url = format!("http://127.0.0.1:{}/hook", options.port + 2);
    let set = api
        .post_json("webhooks/set", &json!({ "url": url }))
        .await?;
    let webhook_secret = set["secret"]
        .as_str()
        .context("a signing secret")?
        .to_owned();
    receiver.set_signing_secret(&webhook_secret)?;
    let mut customers = Vec::new();
    for (name, bank) in [
        ("Ada Obi", "5d6fe57a4099cc4b210bbeb3"),
        ("Bola Ade", "5d6fe57a4099cc4b210bbec0"),
        ("Chidi Eze", "5d6fe57a4099cc4b210bbec2"),
    ] {
        let linked = api
            .post_json(
                "sandbox/customers/create",
                &json!({ "name": name, "bank": bank, "noOfAccount": 1, "interval": "one_minute",
                         "options": { "UserId": name } }),
            )
            .await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("an id");
        customers.push(DemoCustomer {
            customer: text(&linked["customer_id"])?,
            record: text(&linked["record_id"])?.parse()?,
            account: text(&linked["accounts"][0]["id"])?,
            name: text(&linked["name"])?,
        });
    }
    let demo = DemoApp {
        app,
        secret_key,
        webhook_secret,
        customers,
    };
    write_private_file(&path, &serde_json::to_vec_pretty(&demo)?)?;
    Ok(demo)
}

/// The public API, as an app calls it.
pub(crate) struct ApiClient {
    client: Client,
    base_url: String,
    secret_key: String,
}

impl ApiClient {
    pub(crate) fn new(port: u16, key: &str) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(okra_aws::rustls_client_config())
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            base_url: format!("http://127.0.0.1:{port}/v2"),
            secret_key: key.to_owned(),
        })
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/{path}", self.base_url);
        let answer = self
            .client
            .post(url)
            .bearer_auth(&self.secret_key)
            .json(body)
            .send()
            .await?;
        let status = answer.status();
        let mut answer: Value = answer.json().await?;
        ensure!(
            status.is_success(),
            "{path} answered {status}: {}",
            answer["message"]
        );
        Ok(answer["data"].take())
    }
}

fn print_introduction(
    printer: &LinePrinter,
    options: &GlobalOptions,
    demo: &DemoApp,
    receiver: &WebhookReceiver,
) {
    for customer in &demo.customers {
        printer.set_record_name(customer.record, customer.name.clone());
    }
    let (port, key) = (options.port, &demo.secret_key);
    let known = match receiver.len() {
        0 => String::new(),
        count => format!("\nGoing on: the demo app was told of {count} events before.\n"),
    };
    let first = demo.customers.first();
    let (customer, account) =
        first.map_or(("", ""), |it| (it.customer.as_str(), it.account.as_str()));
    printer.print_text(&format!(
        "okra-sync {version}, whole in one process
{known}
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

/// Says what the receiver was told.
fn print_received_events(printer: &LinePrinter) -> ReceivedCallback {
    let lines = printer.clone();
    Arc::new(move |received: &ReceivedEvent, event: &Value, arrival| {
        if arrival == EventArrival::Duplicate {
            lines.print_line(
                LineSource::App,
                &format!("{} came again and was recognised", received.id),
            );
            return;
        }
        let who = event["options"]["UserId"].as_str().unwrap_or_default();
        let text = if let Some(balance) = event.get("balance").filter(|it| it.is_object()) {
            format!(
                "{who} now has {} {}",
                balance["currency"].as_str().unwrap_or_default(),
                balance["available_balance"]
            )
        } else {
            let (new, modified, removed) = (
                event["new_transactions"].as_u64().unwrap_or(0),
                event["modified_transactions"]
                    .as_array()
                    .map_or(0, Vec::len),
                event["removed_transactions"].as_array().map_or(0, Vec::len),
            );
            let latest = event["transactions"]
                .as_array()
                .and_then(|rows| rows.last());
            let latest = latest.map(|row| {
                let (sign, amount) = match row["credit"].is_null() {
                    true => ("-", &row["debit"]),
                    false => ("+", &row["credit"]),
                };
                let pending = if row["pending"] == true {
                    ", pending"
                } else {
                    ""
                };
                format!(
                    ": {sign}{amount} {}{pending}",
                    row["notes"]["desc"].as_str().unwrap_or_default()
                )
            });
            let latest = if new + modified as u64 <= 2 {
                latest.unwrap_or_default()
            } else {
                String::new()
            };
            format!(
                "{who} has {new} new, {modified} changed, {removed} removed transactions{latest}"
            )
        };
        let event_name = event["event"].as_str().unwrap_or_default();
        lines.print_line(
            LineSource::App,
            &format!("{event_name} #{}: {text}", received.seq),
        );
    })
}

/// Says what happens at the bank.
fn print_bank_movements(
    tasks: &mut JoinSet<()>,
    printer: &LinePrinter,
    bank: &SandboxBank,
    demo: &DemoApp,
) {
    let (lines, bank) = (printer.clone(), bank.clone());
    let names: Vec<String> = demo.customers.iter().map(|it| it.name.clone()).collect();
    tasks.spawn(async move {
        let mut seen: HashMap<(LoginId, String, RowKey), BookingStatus> = HashMap::new();
        let mut first = true;
        loop {
            for login in bank
                .list_logins()
                .into_iter()
                .filter(|it| names.contains(&it.name))
            {
                for account in &login.accounts {
                    let place = AccountAddress {
                        login: login.id,
                        account_id: account.account_id.clone(),
                    };
                    for row in bank.list_rows(&place).unwrap_or_default() {
                        let key = (login.id, account.account_id.clone(), row.row);
                        let before = seen.insert(key, row.status);
                        if !first && before != Some(row.status) {
                            lines.print_line(
                                LineSource::Bank,
                                &describe_movement(&login.name, &row, before),
                            );
                        }
                    }
                }
            }
            first = false;
            sleep(POLL_INTERVAL).await;
        }
    });
}

fn describe_movement(name: &str, row: &RowView, previous_status: Option<BookingStatus>) -> String {
    let (amount, text) = (&row.amount, &row.text);
    let verb = match row.direction {
        Direction::Credit => "gets",
        Direction::Debit => "pays",
    };
    match (previous_status, row.status) {
        (Some(_), _) => format!("{name}: {text} is booked, {amount}"),
        (None, BookingStatus::Pending) => format!("{name} {verb} {amount}, {text} (pending)"),
        (None, BookingStatus::Booked) => format!("{name} {verb} {amount}, {text}"),
    }
}

/// A purchase soon after the start, and the app's customer pulling to refresh: so that a newcomer sees
/// the whole way at once and not at the next minute.
fn schedule_first_purchase(
    tasks: &mut JoinSet<()>,
    printer: &LinePrinter,
    bank: &SandboxBank,
    demo: &DemoApp,
    options: &GlobalOptions,
) {
    let Some(customer) = demo.customers.first().cloned() else {
        return;
    };
    let (lines, bank, key, port) = (
        printer.clone(),
        bank.clone(),
        demo.secret_key.clone(),
        options.port,
    );
    tasks.spawn(async move {
        sleep(FIRST_PURCHASE_DELAY).await;
        let login = bank
            .list_logins()
            .into_iter()
            .find(|it| it.name == customer.name);
        let Some((login, account)) =
            login.and_then(|it| Some((it.id, it.accounts.first()?.account_id.clone())))
        else {
            return;
        };
        let purchase = NewTransaction {
            direction: Direction::Debit,
            amount: "2450.00".to_owned(),
            text: "POS SHOPRITE IKEJA".to_owned(),
            status: BookingStatus::Booked,
            booking_time: None,
            id: None,
        };
        if let Err(error) = bank.add_row(
            AccountAddress {
                login,
                account_id: account,
            },
            purchase,
        ) {
            lines.print_line(
                LineSource::Note,
                &format!("the first purchase failed: {error}"),
            );
            return;
        }
        sleep(POLL_INTERVAL * 2).await;
        let text = format!(
            "{} pulls to refresh: POST /v2/transactions/refresh",
            customer.name
        );
        lines.print_line(LineSource::App, &text);
        let body = json!({ "record_id": customer.record });
        let refreshed = async {
            ApiClient::new(port, &key)?
                .post_json("transactions/refresh", &body)
                .await
        };
        if let Err(error) = refreshed.await {
            lines.print_line(
                LineSource::Note,
                &format!("the refresh was refused: {error}"),
            );
        }
    });
}
