//! Lambda: the deliver queue, and each minute's sweep of retries that are due.

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_handlers::{DeliverEvent, Environment, Tally, deliver, log_json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let environment = &Environment::from_env()?;
    let tally = &Tally::default();
    let deliverer = &environment
        .deliverer()?
        .observed_by(Arc::new(tally.clone()));
    let handle = async |event: LambdaEvent<DeliverEvent>| {
        let turn = tally.turn(&environment.store, environment.clock.now());
        let ((), done) = tokio::join!(turn, Box::pin(deliver(deliverer, event.payload)));
        done.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
