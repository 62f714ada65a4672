//! Lambda: the HTTP API, the dashboard and the widget behind API Gateway.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_api::gateway;
use okra_app::Services;
use okra_handlers::{RuntimeContext, init_json_logging};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_json_logging();
    let services = Services::new(RuntimeContext::from_env()?, None);
    let router = &okra_web::build_router(services.clone(), okra_api::build_router(services));
    let handle = async |event: LambdaEvent<gateway::GatewayEvent>| {
        let answer = gateway::serve_event(router.clone(), event.payload).await;
        answer.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
