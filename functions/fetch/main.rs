//! Lambda: ticks of the interval rules, and chunks from the fetch and priority queues.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_handlers::{Environment, FetchEvent, fetch, log_json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let refresher = &Environment::from_env()?.refresher();
    let handle = async |event: LambdaEvent<FetchEvent>| {
        fetch(refresher, event.payload).await.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
