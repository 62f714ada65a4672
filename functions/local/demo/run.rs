//! `okra-sync` and `okra-sync serve`: the running system, with the demo app or without.

use std::{path::Path, sync::Arc, time::Duration};

use okra_aws::Clock;
use okra_core::model::snapshot::Environment;
use okra_sandbox::SandboxBank;
use okra_store::Store;
use tokio::{task::JoinSet, time::sleep};

use super::{app, app_events, bank_activity};
use crate::{
    apps::create_app,
    cli::GlobalOptions,
    http_server::serve_router,
    keys::{read_private_file, write_private_file},
    minute::MinuteClock,
    printer::LinePrinter,
    receiver::WebhookReceiver,
    sandbox::{self, LocalSandbox},
    system::{LocalSystem, bind_local_port},
};

/// How often what was counted is written.
const TALLY_FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// The system and the sandbox bank, opened and served. Its workers are started last.
struct RunningSystem {
    system: LocalSystem,
    bank: SandboxBank,
    printer: LinePrinter,
    clock: Clock,
    tasks: JoinSet<()>,
}

/// Runs the system, the sandbox bank and the demo app until the process is stopped.
pub(crate) async fn run_demo(options: GlobalOptions) -> anyhow::Result<()> {
    // Bound first: a port that is taken stops the demo before anything is written.
    let receiver_port = bind_local_port(options.port + 2).await?;
    let mut running = RunningSystem::open(&options).await?;
    let receiver = WebhookReceiver::open_durable(
        &options.data.join("received.jsonl"),
        app_events::print_received_events(&running.printer),
    )?;
    serve_router(&mut running.tasks, receiver_port, receiver.webhook_router());
    let demo = app::set_up_demo_app(&options, &running.system, &receiver).await?;
    app::print_introduction(&running.printer, &options, &demo, &receiver);
    let RunningSystem {
        bank,
        printer,
        tasks,
        ..
    } = &mut running;
    bank_activity::print_bank_movements(tasks, printer, bank, &demo);
    bank_activity::schedule_first_purchase(tasks, printer, bank, &demo, options.port);
    running.run_until_stopped().await
}

/// Runs the system and the sandbox bank until the process is stopped.
pub(crate) async fn run_serve(options: GlobalOptions) -> anyhow::Result<()> {
    let running = RunningSystem::open(&options).await?;
    let store = &running.system.environment.store;
    let key = load_operator_key(&options.data, store, &running.clock).await?;
    running.printer.print_text(&format!(
        "okra-sync {} serves on http://127.0.0.1:{}, its dashboard under /dashboard\n  secret key  {key}\n  sandbox bank  http://127.0.0.1:{}\n",
        env!("CARGO_PKG_VERSION"),
        options.port,
        options.port + 1,
    ));
    running.run_until_stopped().await
}

impl RunningSystem {
    async fn open(options: &GlobalOptions) -> anyhow::Result<Self> {
        let api_port = bind_local_port(options.port).await?;
        let bank_port = bind_local_port(options.port + 1).await?;
        let clock = Clock::system();
        let system = LocalSystem::open_data_folder(options, clock.clone()).await?;
        let bank = sandbox::open_sandbox_bank(&options.data, options.port + 1)?;
        sandbox::store_sandbox_banks(&system.environment, options.port + 1).await?;
        let mut tasks = JoinSet::new();
        let logins = LocalSandbox { bank: bank.clone() };
        system.serve_api(&mut tasks, api_port, Some(Arc::new(logins)));
        let bank_router = bank.api_router().merge(bank.control_router());
        serve_router(&mut tasks, bank_port, bank_router);
        Ok(Self {
            system,
            bank,
            printer: LinePrinter::new(clock.clone()),
            clock,
            tasks,
        })
    }

    /// Starts the workers and the minute clock, and waits for Ctrl-C. They start last, so that every line has the names
    /// that were set up before.
    async fn run_until_stopped(mut self) -> anyhow::Result<()> {
        let environment = &self.system.environment;
        let observer = Arc::new(self.printer.clone());
        let refresher = environment
            .build_refresher()
            .with_observer(observer.clone());
        let deliverer = Arc::new(environment.build_deliverer()?.with_observer(observer));
        self.tasks.spawn(flush_tally(
            self.printer.clone(),
            environment.store.clone(),
            self.clock.clone(),
        ));
        self.system
            .start_workers(&mut self.tasks, &refresher, &deliverer);
        let minutes = MinuteClock {
            clock: self.clock,
            store: environment.store.clone(),
            emulator: self.system.emulator.clone(),
            refresher,
            deliverer,
            printer: self.printer.clone(),
        };
        self.tasks.spawn(minutes.run_forever());
        tokio::signal::ctrl_c().await?;
        self.printer.print_text(
            "\nStopped. Unfinished work is in the data folder and continues with the next run.\n",
        );
        self.tasks.shutdown().await;
        Ok(())
    }
}

/// Writes what was counted for the dashboard, every few seconds until the process ends.
async fn flush_tally(printer: LinePrinter, store: Store, clock: Clock) {
    loop {
        sleep(TALLY_FLUSH_INTERVAL).await;
        printer.tally().flush_counts(&store, clock.now()).await;
    }
}

/// The secret key of `serve`'s app: created at the first start, stored in a file for its owner alone.
async fn load_operator_key(folder: &Path, store: &Store, clock: &Clock) -> anyhow::Result<String> {
    let path = folder.join("secret-key");
    if let Some(key) = read_private_file(&path)? {
        return Ok(key.trim().to_owned());
    }
    let created = create_app(store, "default", Environment::Sandbox, clock).await?;
    write_private_file(&path, created.secret_key.as_bytes())?;
    Ok(created.secret_key)
}
