//! The public API, as an app calls it: [`ApiClient`].

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Client, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A client of an installation's API with the secret key of one app.
pub(crate) struct ApiClient {
    client: Client,
    origin: String,
    secret_key: String,
}

/// The envelope around every response's data.
#[derive(Deserialize)]
struct DataEnvelope<D> {
    data: D,
}

#[derive(Deserialize)]
struct WebhookSetData {
    secret: String,
}

/// An HTTP client with our TLS settings, without redirects or proxies; `timeout` bounds each call, where there is one.
pub(crate) fn build_http_client(timeout: Option<Duration>) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(okra_aws::rustls_client_config())
        .redirect(redirect::Policy::none())
        .no_proxy();
    if let Some(timeout) = timeout {
        builder = builder.timeout(timeout);
    }
    Ok(builder.build()?)
}

impl ApiClient {
    /// A client of the API at `origin`, such as `https://api.example`.
    pub(crate) fn new(client: Client, origin: &str, secret_key: &str) -> Self {
        Self {
            client,
            origin: origin.trim_end_matches('/').to_owned(),
            secret_key: secret_key.to_owned(),
        }
    }

    /// A client of the API that this process serves.
    pub(crate) fn for_local_port(port: u16, secret_key: &str) -> anyhow::Result<Self> {
        let origin = format!("http://127.0.0.1:{port}");
        Ok(Self::new(build_http_client(None)?, &origin, secret_key))
    }

    /// Where the API is.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Posts a request to `/v2/{path}`, and returns the data of its response.
    ///
    /// # Errors
    ///
    /// If the API cannot be reached, rejects the request, or responds with other data.
    pub(crate) async fn post_json<D: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<D> {
        let url = format!("{}/v2/{path}", self.origin);
        let request = self
            .client
            .post(url)
            .bearer_auth(&self.secret_key)
            .json(body);
        let response = request
            .send()
            .await
            .with_context(|| format!("{} cannot be reached", self.origin))?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(
            status.is_success(),
            "{path} was rejected with {status}: {}",
            error_message(&text)
        );
        let envelope: DataEnvelope<D> = serde_json::from_str(&text)
            .with_context(|| format!("the response of {path} cannot be read"))?;
        Ok(envelope.data)
    }

    /// Sets the app's webhook URL, and returns its signing secret.
    ///
    /// # Errors
    ///
    /// As [`post_json`](Self::post_json).
    pub(crate) async fn set_webhook(&self, url: &str) -> anyhow::Result<String> {
        let data: WebhookSetData = self
            .post_json("webhooks/set", &json!({ "url": url }))
            .await?;
        Ok(data.secret)
    }
}

/// The message of the API's error envelope; the whole text where something else responded.
fn error_message(text: &str) -> String {
    let error: Option<Value> = serde_json::from_str(text).ok();
    let message = error.as_ref().and_then(|error| error["message"].as_str());
    message.unwrap_or(text).to_owned()
}
