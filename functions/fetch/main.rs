//! Lambda: ticks of the interval rules, and chunks from the fetch and priority queues.

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_handlers::{
    FetchEvent, MetricsCollector, RuntimeContext, handle_fetch_event, init_json_logging,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_json_logging();
    let environment = &RuntimeContext::from_env()?;
    let tally = &MetricsCollector::default();
    let refresher = &environment
        .build_refresher()
        .with_observer(Arc::new(tally.clone()));
    let handle = async |event: LambdaEvent<FetchEvent>| {
        let turn = tally.flush_previous_minutes(&environment.store, environment.clock.now());
        let ((), done) = tokio::join!(turn, Box::pin(handle_fetch_event(refresher, event.payload)));
        done.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
