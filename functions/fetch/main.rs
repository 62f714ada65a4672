//! Lambda: ticks of the interval rules, and chunks from the fetch and priority queues.

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_handlers::{Environment, FetchEvent, Tally, fetch, log_json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let environment = &Environment::from_env()?;
    let tally = &Tally::default();
    let refresher = &environment.refresher().observed_by(Arc::new(tally.clone()));
    let handle = async |event: LambdaEvent<FetchEvent>| {
        let turn = tally.turn(&environment.store, environment.clock.now());
        let ((), done) = tokio::join!(turn, Box::pin(fetch(refresher, event.payload)));
        done.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
