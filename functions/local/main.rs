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

use self::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(std::io::stderr)
        .init();
    let ran = match command {
        None => demo::run(options, true).await,
        Some(Command::Serve) => demo::run(options, false).await,
        Some(Command::App(args)) => app::run(&options, &args).await,
        Some(Command::Key(args)) => app::keys(&options, &args).await,
        Some(Command::Limit(args)) => app::limit(&options, &args).await,
        Some(Command::Banks(args)) => banks::run(&args).await,
        Some(Command::Replay(replay)) => replay::run(&options, &replay).await,
        Some(Command::Listen(args)) => listen::run(&args).await,
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
fn filter() -> EnvFilter {
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
