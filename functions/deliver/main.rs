//! Lambda: the deliver queue, and each minute's sweep of retries that are due.

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_handlers::{
    DeliverEvent, MetricsCollector, RuntimeContext, handle_deliver_event, init_json_logging,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_json_logging();
    let environment = &RuntimeContext::from_env()?;
    let tally = &MetricsCollector::default();
    let deliverer = &environment
        .build_deliverer()?
        .with_observer(Arc::new(tally.clone()));
    let handle = async |event: LambdaEvent<DeliverEvent>| {
        let turn = tally.flush_previous_minutes(&environment.store, environment.clock.now());
        let ((), done) = tokio::join!(
            turn,
            Box::pin(handle_deliver_event(deliverer, event.payload))
        );
        done.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
