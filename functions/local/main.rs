//! The whole system in one process: `cargo run`.
//!
//! [`system`] opens and serves it; [`mapping`] and [`minute`] do what SQS triggers and EventBridge do on AWS. The commands
//! are [`demo`] (also `serve`), [`replay`], [`listen`], [`apps`] and [`banks`]; [`cli`] reads the command line.

mod api_client;
mod apps;
mod banks;
mod cli;
mod demo;
mod http_server;
mod keys;
mod listen;
mod mapping;
mod minute;
mod output;
mod printer;
mod receiver;
mod replay;
mod sandbox;
mod system;
mod vault_key;

use std::{io::Write, process::ExitCode};

use clap::Parser;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use self::cli::{Cli, CliCommand};

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(log_filter())
        .with_writer(std::io::stderr)
        .init();
    let result = match command {
        None => demo::run_demo(options).await,
        Some(CliCommand::Serve) => demo::run_serve(options).await,
        Some(CliCommand::App(args)) => apps::run_app_command(&options, &args).await,
        Some(CliCommand::Key(args)) => apps::run_key_command(&options, &args).await,
        Some(CliCommand::VaultKey) => vault_key::run_vault_key_command(&options),
        Some(CliCommand::Limit(args)) => apps::run_limit_command(&options, &args).await,
        Some(CliCommand::Banks(args)) => banks::run_banks_command(&args).await,
        Some(CliCommand::Replay(replay)) => replay::run_replay(&options, &replay).await,
        Some(CliCommand::Listen(args)) => listen::run_listen(&args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The error and its causes on one line. A closed terminal changes nothing about the outcome.
            let _ = writeln!(std::io::stderr(), "okra-sync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The filter in `RUST_LOG`; without it, errors only.
fn log_filter() -> EnvFilter {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    // At the finest level the SDK logs whole requests and responses, with account data in them.
    let quiet = ["aws_smithy_runtime=debug", "aws_smithy_http_client=debug"];
    let max_level = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    if max_level < LevelFilter::TRACE {
        return filter;
    }
    let quiet = quiet.iter().filter_map(|directive| directive.parse().ok());
    quiet.fold(filter, EnvFilter::add_directive)
}
