//! The demo: an app, three customers, and what happens to them as lines.

use std::{
    collections::HashMap, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use okra_aws::Clock;
use okra_core::{
    ids::{AppId, RecordId},
    model::{BookingStatus, Direction, Environment as Env},
};
use okra_sandbox::{Bank, LoginId, NewTransaction, Place, RowKey, RowView};
use okra_store::Store;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    app::make_app,
    cli::Options,
    lines::{Lines, Source},
    minute::MinuteClock,
    process::{Process, listen, serve},
    receiver::{Arrival, OnReceived, Received, Receiver},
    sandbox::{self, Door},
};

/// Where the demo app keeps what it was told once: its key and its signing secret.
const FILE: &str = "demo.json";

/// How often the watcher looks at the bank.
const LOOK: Duration = Duration::from_millis(500);

/// How often what was counted is written.
const COUNTS: Duration = Duration::from_secs(5);

/// When the demo app's customer first buys something.
const FIRST_PURCHASE: Duration = Duration::from_secs(4);

/// What the demo app keeps.
#[derive(Clone, Serialize, Deserialize)]
struct Demo {
    app: AppId,
    secret_key: String,
    webhook_secret: String,
    customers: Vec<Customer>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Customer {
    customer: String,
    record: RecordId,
    account: String,
    name: String,
}

/// Runs the system, the sandbox bank and, unless `quiet`, the demo app until the process is stopped.
pub(crate) async fn run(options: Options, with_app: bool) -> anyhow::Result<()> {
    let (api, bank_port, hook) = (
        listen(options.port).await?,
        listen(options.port + 1).await?,
        listen(options.port + 2).await?,
    );
    let clock = Clock::system();
    let lines = Lines::new(clock.clone());
    let process = Process::open(&options, clock.clone()).await?;
    let bank = sandbox::open(&options.data, options.port + 1)?;
    sandbox::configure(&process.environment, options.port + 1).await?;

    let observer = Arc::new(lines.clone());
    let refresher = process
        .environment
        .refresher()
        .observed_by(observer.clone());
    let deliverer = Arc::new(process.environment.deliverer()?.observed_by(observer));
    let mut tasks = JoinSet::new();
    process.serve(&mut tasks, api, Some(Arc::new(Door { bank: bank.clone() })));
    serve(
        &mut tasks,
        bank_port,
        bank.router().merge(bank.control_router()),
    );

    let receiver = Receiver::durable(&options.data.join("received.jsonl"), tell(&lines))?;
    if with_app {
        serve(&mut tasks, hook, receiver.router());
        let demo = set_up(&options, &process, &receiver).await?;
        introduce(&lines, &options, &demo, &receiver);
        watch(&mut tasks, &lines, &bank, &demo);
        first_purchase(&mut tasks, &lines, &bank, &demo, &options);
    } else {
        drop(hook);
        let key = operator_key(&options.data, &process.environment.store, &clock).await?;
        lines.plain(&format!(
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
                sleep(COUNTS).await;
                lines.tally().flush(&store, clock.now()).await;
            }
        }
    });
    // Started last: what happens from here on is told by name.
    process.start(&mut tasks, &refresher, &deliverer);
    let minutes = MinuteClock {
        clock,
        store: process.environment.store.clone(),
        emulator: process.emulator.clone(),
        refresher,
        deliverer,
        lines: lines.clone(),
    };
    tasks.spawn(minutes.run());
    tokio::signal::ctrl_c().await?;
    lines.plain(
        "\nStopped. What was not finished is in the data folder and goes on with the next run.\n",
    );
    tasks.shutdown().await;
    Ok(())
}

/// The key of `serve`'s app: made at the first start, kept in a file for its owner alone.
async fn operator_key(folder: &Path, store: &Store, clock: &Clock) -> anyhow::Result<String> {
    let path = folder.join("secret-key");
    if let Ok(key) = std::fs::read_to_string(&path) {
        return Ok(key.trim().to_owned());
    }
    let (_, key) = make_app(store, "default", Env::Sandbox, clock).await?;
    write_private(&path, key.as_bytes())?;
    Ok(key)
}

pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
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
async fn set_up(options: &Options, process: &Process, receiver: &Receiver) -> anyhow::Result<Demo> {
    let path = options.data.join(FILE);
    if let Ok(text) = std::fs::read(&path) {
        let demo: Demo = serde_json::from_slice(&text)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        receiver.trust(&demo.webhook_secret)?;
        return Ok(demo);
    }
    let environment = &process.environment;
    let (app, secret_key) =
        make_app(&environment.store, "demo", Env::Sandbox, &environment.clock).await?;
    let api = Api::new(options.port, &secret_key)?;
    let url = format!("http://127.0.0.1:{}/hook", options.port + 2);
    let set = api.post("webhooks/set", &json!({ "url": url })).await?;
    let webhook_secret = set["secret"]
        .as_str()
        .context("a signing secret")?
        .to_owned();
    receiver.trust(&webhook_secret)?;
    let mut customers = Vec::new();
    for (name, bank) in [
        ("Ada Obi", "5d6fe57a4099cc4b210bbeb3"),
        ("Bola Ade", "5d6fe57a4099cc4b210bbec0"),
        ("Chidi Eze", "5d6fe57a4099cc4b210bbec2"),
    ] {
        let linked = api
            .post(
                "sandbox/customers/create",
                &json!({ "name": name, "bank": bank, "noOfAccount": 1, "interval": "one_minute",
                         "options": { "UserId": name } }),
            )
            .await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("an id");
        customers.push(Customer {
            customer: text(&linked["customer_id"])?,
            record: text(&linked["record_id"])?.parse()?,
            account: text(&linked["accounts"][0]["id"])?,
            name: text(&linked["name"])?,
        });
    }
    let demo = Demo {
        app,
        secret_key,
        webhook_secret,
        customers,
    };
    write_private(&path, &serde_json::to_vec_pretty(&demo)?)?;
    Ok(demo)
}

/// The public API, as an app calls it.
pub(crate) struct Api {
    client: Client,
    root: String,
    key: String,
}

impl Api {
    pub(crate) fn new(port: u16, key: &str) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(okra_aws::rustls_client_config())
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            root: format!("http://127.0.0.1:{port}/v2"),
            key: key.to_owned(),
        })
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/{path}", self.root);
        let answer = self
            .client
            .post(url)
            .bearer_auth(&self.key)
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

fn introduce(lines: &Lines, options: &Options, demo: &Demo, receiver: &Receiver) {
    for customer in &demo.customers {
        lines.name(customer.record, customer.name.clone());
    }
    let (port, key) = (options.port, &demo.secret_key);
    let known = match receiver.len() {
        0 => String::new(),
        count => format!("\nGoing on: the demo app was told of {count} events before.\n"),
    };
    let first = demo.customers.first();
    let (customer, account) =
        first.map_or(("", ""), |it| (it.customer.as_str(), it.account.as_str()));
    lines.plain(&format!(
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
fn tell(lines: &Lines) -> OnReceived {
    let lines = lines.clone();
    Arc::new(move |received: &Received, event: &Value, arrival| {
        if arrival == Arrival::Again {
            lines.say(
                Source::App,
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
        lines.say(
            Source::App,
            &format!("{event_name} #{}: {text}", received.seq),
        );
    })
}

/// Says what happens at the bank.
fn watch(tasks: &mut JoinSet<()>, lines: &Lines, bank: &Bank, demo: &Demo) {
    let (lines, bank) = (lines.clone(), bank.clone());
    let names: Vec<String> = demo.customers.iter().map(|it| it.name.clone()).collect();
    tasks.spawn(async move {
        let mut seen: HashMap<(LoginId, String, RowKey), BookingStatus> = HashMap::new();
        let mut first = true;
        loop {
            for login in bank
                .logins()
                .into_iter()
                .filter(|it| names.contains(&it.name))
            {
                for account in &login.accounts {
                    let place = Place {
                        login: login.id,
                        account: account.account_id.clone(),
                    };
                    for row in bank.rows(&place).unwrap_or_default() {
                        let key = (login.id, account.account_id.clone(), row.row);
                        let before = seen.insert(key, row.status);
                        if !first && before != Some(row.status) {
                            lines.say(Source::Bank, &happened(&login.name, &row, before));
                        }
                    }
                }
            }
            first = false;
            sleep(LOOK).await;
        }
    });
}

fn happened(name: &str, row: &RowView, before: Option<BookingStatus>) -> String {
    let (amount, text) = (&row.amount, &row.text);
    let verb = match row.direction {
        Direction::Credit => "gets",
        Direction::Debit => "pays",
    };
    match (before, row.status) {
        (Some(_), _) => format!("{name}: {text} is booked, {amount}"),
        (None, BookingStatus::Pending) => format!("{name} {verb} {amount}, {text} (pending)"),
        (None, BookingStatus::Booked) => format!("{name} {verb} {amount}, {text}"),
    }
}

/// A purchase soon after the start, and the app's customer pulling to refresh: so that a newcomer sees
/// the whole way at once and not at the next minute.
fn first_purchase(
    tasks: &mut JoinSet<()>,
    lines: &Lines,
    bank: &Bank,
    demo: &Demo,
    options: &Options,
) {
    let Some(customer) = demo.customers.first().cloned() else {
        return;
    };
    let (lines, bank, key, port) = (
        lines.clone(),
        bank.clone(),
        demo.secret_key.clone(),
        options.port,
    );
    tasks.spawn(async move {
        sleep(FIRST_PURCHASE).await;
        let login = bank
            .logins()
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
            dated: None,
            id: None,
        };
        if let Err(error) = bank.add(Place { login, account }, purchase) {
            lines.say(Source::Note, &format!("the first purchase failed: {error}"));
            return;
        }
        sleep(LOOK * 2).await;
        let text = format!(
            "{} pulls to refresh: POST /v2/transactions/refresh",
            customer.name
        );
        lines.say(Source::App, &text);
        let body = json!({ "record_id": customer.record });
        let refreshed = async {
            Api::new(port, &key)?
                .post("transactions/refresh", &body)
                .await
        };
        if let Err(error) = refreshed.await {
            lines.say(Source::Note, &format!("the refresh was refused: {error}"));
        }
    });
}
