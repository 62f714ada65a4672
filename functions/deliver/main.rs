//! Lambda: the deliver queue, and each minute's sweep of retries that are due.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_handlers::{DeliverEvent, Environment, deliver, log_json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let deliverer = &Environment::from_env()?.deliverer()?;
    let handle = async |event: LambdaEvent<DeliverEvent>| {
        deliver(deliverer, event.payload).await.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
