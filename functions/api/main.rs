//! Lambda: the HTTP API behind API Gateway.

use lambda_http::{Error, run};
use okra_api::{ApiState, router};
use okra_handlers::{Environment, log_json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_json();
    run(router(ApiState::new(Environment::from_env()?, None))).await
}
