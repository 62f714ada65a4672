//! The whole system in one process: `cargo run`.

mod app;
mod banks;
mod cli;
mod demo;
mod keys;
mod lines;
mod mapping;
mod minute;
mod process;
mod receiver;
mod replay;
mod sandbox;

use std::{io::Write, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use self::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let ran = match command {
        None => demo::run(options, true).await,
        Some(Command::Serve) => demo::run(options, false).await,
        Some(Command::App(args)) => app::run(&options, &args).await,
        Some(Command::Banks(args)) => banks::run(&args).await,
        Some(Command::Replay(replay)) => replay::run(&options, &replay).await,
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
