//! Lambda: the HTTP API, the dashboard and the widget behind API Gateway.

use lambda_http::{Error, run};
use okra_api::ApiState;
use okra_handlers::{Environment, log_json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    run(okra_web::router(ApiState::new(
        Environment::from_env()?,
        None,
    )))
    .await
}
