//! Lambda: the HTTP API, the dashboard and the widget behind API Gateway.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use okra_api::{ApiState, gateway};
use okra_handlers::{Environment, log_json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    let router = &okra_web::router(ApiState::new(Environment::from_env()?, None));
    let handle = async |event: LambdaEvent<gateway::Event>| {
        let answer = gateway::serve(router.clone(), event.payload).await;
        answer.map_err(Error::from)
    };
    run(service_fn(handle)).await
}
