//! The command line: [`Cli`] with its commands and their arguments. The doc comments are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use okra_core::model::ids::AppId;

/// Self-hosted bank data synchronisation, whole in one process.
///
/// Without a command it runs the demo: the system, a sandbox bank, and an app whose webhooks you can
/// watch arrive.
#[derive(Debug, Parser)]
#[command(name = "okra-sync", version, about, after_help = COMMAND_EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<CliCommand>,
    #[command(flatten)]
    pub(crate) options: GlobalOptions,
}

const COMMAND_EXAMPLES: &str = "Examples:
  okra-sync                                  the demo on http://127.0.0.1:3000
  okra-sync serve --banks banks.toml         your own banks, no demo
  okra-sync replay trans.csv                 real transactions, day by day, as fast as it goes
  okra-sync listen --forward-to http://127.0.0.1:4000/hook --key okra_sk_...
                                             events on your laptop, from any installation
  okra-sync --dynamodb-endpoint http://127.0.0.1:8000 --sqs-endpoint http://127.0.0.1:9324
                                             other emulators of AWS than the embedded ones";

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run the system without the demo
    Serve,
    /// Create an app and its secret key, which is shown only now
    App(AppArgs),
    /// List, rotate or revoke the secret keys of an app
    Key(KeyArgs),
    /// Add a key to the vault of the data folder: it seals from the next start on
    VaultKey,
    /// Set how many refreshes of one product an app may request in a minute
    Limit(LimitArgs),
    /// Put the banks of a TOML file into a table on AWS
    Banks(BanksArgs),
    /// Load real transactions into the sandbox bank and play the days forward
    Replay(ReplayArgs),
    /// Post an app's events to a URL of this machine, signed as webhooks are
    Listen(ListenArgs),
}

/// Arguments of `listen`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListenArgs {
    /// Where events are posted
    #[arg(long, value_name = "URL")]
    pub(crate) forward_to: String,
    /// The app's secret key
    #[arg(long, env = "OKRA_SECRET_KEY", hide_env_values = true)]
    pub(crate) key: String,
    /// Where the API is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    pub(crate) api: String,
    /// Start with the first event of each record instead of the next one
    #[arg(long)]
    pub(crate) from_start: bool,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct GlobalOptions {
    /// Port of the API; the sandbox bank gets the next one, the demo's receiver the one after
    #[arg(long, global = true, default_value_t = 3000, env = "OKRA_PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    pub(crate) port: u16,
    /// Folder of the database, the queues and the keys
    #[arg(long, global = true, default_value = ".okra-sync", env = "OKRA_DATA")]
    pub(crate) data: PathBuf,
    /// Banks to add, as a TOML file
    #[arg(long, global = true, env = "OKRA_BANKS")]
    pub(crate) banks: Option<PathBuf>,
    /// Another DynamoDB than the embedded one
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "OKRA_DYNAMODB_ENDPOINT"
    )]
    pub(crate) dynamodb_endpoint: Option<String>,
    /// Another SQS than the embedded one
    #[arg(long, global = true, value_name = "URL", env = "OKRA_SQS_ENDPOINT")]
    pub(crate) sqs_endpoint: Option<String>,
}

/// Arguments of `app`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AppArgs {
    /// The app's name
    pub(crate) name: String,
    /// A table on AWS instead of the embedded one, with the credentials of the environment
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// Create the app for real banks instead of the sandbox
    #[arg(long)]
    pub(crate) production: bool,
}

/// Arguments of `limit`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    /// The app's id
    pub(crate) app: AppId,
    /// Refreshes of one product in a minute; Okra's plans had 20, 40 and 60
    #[arg(value_parser = clap::value_parser!(u32).range(1..=6000))]
    pub(crate) rate: u32,
    /// A table on AWS instead of the embedded one, with the credentials of the environment
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
}

/// Arguments of `banks`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BanksArgs {
    /// The file, as for --banks; banks with the same ids are replaced
    pub(crate) file: PathBuf,
    /// The stack's table; with the credentials of the environment, and its VaultKey in OKRA_VAULT_KEY
    #[arg(long, value_name = "NAME")]
    pub(crate) table: String,
}

/// Arguments of `key`.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyArgs {
    /// What to do
    #[arg(value_enum)]
    pub(crate) action: KeyAction,
    /// The app's id
    pub(crate) app: AppId,
    /// The key to revoke, by the id that `list` shows
    #[arg(long, required_if_eq("action", "revoke"))]
    pub(crate) id: Option<String>,
    /// Hours that earlier keys stay valid after a rotation
    #[arg(long, default_value_t = 24)]
    pub(crate) overlap_hours: u16,
    /// A table on AWS instead of the embedded one, with the credentials of the environment
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
}

/// What `key` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyAction {
    /// Show the keys' ids, last digits and expiry
    List,
    /// Create a new key, shown only now; earlier keys expire
    Rotate,
    /// Reject a key from now on
    Revoke,
}

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Transactions in the PKDD'99 format: semicolons, one header line
    pub(crate) file: PathBuf,
    /// Skip and count malformed rows instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_bad_rows: bool,
    /// Discard an interrupted replay and start over
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Most days to play; all by default
    #[arg(long, value_name = "N")]
    pub(crate) days: Option<u32>,
    /// Add pending rows, edits and removals derived from this seed to those of the file
    #[arg(long, value_name = "SEED")]
    pub(crate) inject: Option<u64>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
