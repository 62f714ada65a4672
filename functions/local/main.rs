//! The whole system in one process: `cargo run`.

mod app;
mod banks;
mod cli;
mod demo;
mod keys;
mod lines;
mod listen;
mod mapping;
mod minute;
mod process;
mod receiver;
mod replay;
mod sandbox;

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
    let ran = match command {
        None => demo::run_demo(options, true).await,
        Some(CliCommand::Serve) => demo::run_demo(options, false).await,
        Some(CliCommand::App(args)) => app::run_app_command(&options, &args).await,
        Some(CliCommand::Key(args)) => app::run_key_command(&options, &args).await,
        Some(CliCommand::Limit(args)) => app::run_limit_command(&options, &args).await,
        Some(CliCommand::Banks(args)) => banks::run_banks_command(&args).await,
        Some(CliCommand::Replay(replay)) => replay::run_replay(&options, &replay).await,
        Some(CliCommand::Listen(args)) => listen::run_listen(&args).await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One sentence, the cause behind it; a closed terminal is no reason to fail otherwise.
            let _ = writeln!(std::io::stderr(), "okra-sync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What `RUST_LOG` says; errors without it.
fn log_filter() -> EnvFilter {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    // At the finest level the SDK writes out whole requests and answers, with what accounts hold.
    let quiet = ["aws_smithy_runtime=debug", "aws_smithy_http_client=debug"];
    let wanted = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    if wanted < LevelFilter::TRACE {
        return filter;
    }
    let quiet = quiet.iter().filter_map(|directive| directive.parse().ok());
    quiet.fold(filter, EnvFilter::add_directive)
}
