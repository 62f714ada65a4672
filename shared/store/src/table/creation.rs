//! Creating the table: for the local process and for tests. A deployment's table is in its template.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TableStatus, TimeToLiveSpecification,
    },
};

use super::{
    attributes::{PK, SK, TTL_ATTRIBUTE},
    error::StoreError,
    store::Store,
};

/// Times a new table is checked until it is ready.
const MAX_READY_CHECKS: u32 = 60;

/// Between two checks.
const READY_CHECK_PAUSE: Duration = Duration::from_millis(500);

impl Store {
    /// Creates the table where there is none, billed by the request, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::Contended`] where it is not ready after 30 s.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "CreateTable";
        let mut call = self
            .client
            .create_table()
            .table_name(&*self.table)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
            let definition = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build()
                .map_err(|error| StoreError::invalid_request(OPERATION, error))?;
            let element = KeySchemaElement::builder()
                .attribute_name(name)
                .key_type(kind)
                .build()
                .map_err(|error| StoreError::invalid_request(OPERATION, error))?;
            call = call.attribute_definitions(definition).key_schema(element);
        }
        match call.send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceInUseException") => {}
            Err(error) => return Err(self.service_error(OPERATION, error)),
        }
        self.wait_until_ready().await?;
        self.enable_item_expiry().await
    }

    async fn wait_until_ready(&self) -> Result<(), StoreError> {
        for _ in 0..MAX_READY_CHECKS {
            let response = self
                .client
                .describe_table()
                .table_name(&*self.table)
                .send()
                .await
                .map_err(|error| self.service_error("DescribeTable", error))?;
            let status = response.table.and_then(|table| table.table_status);
            if status == Some(TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(READY_CHECK_PAUSE).await;
        }
        Err(StoreError::Contended {
            operation: "CreateTable",
        })
    }

    /// Switches time to live on. Where it is on already, DynamoDB rejects the call as invalid.
    async fn enable_item_expiry(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "UpdateTimeToLive";
        let specification = TimeToLiveSpecification::builder()
            .attribute_name(TTL_ATTRIBUTE)
            .enabled(true)
            .build()
            .map_err(|error| StoreError::invalid_request(OPERATION, error))?;
        let response = self
            .client
            .update_time_to_live()
            .table_name(&*self.table)
            .time_to_live_specification(specification)
            .send()
            .await;
        match response {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(rejection))
                if rejection.err().code() == Some("ValidationException") =>
            {
                Ok(())
            }
            Err(error) => Err(self.service_error(OPERATION, error)),
        }
    }
}
