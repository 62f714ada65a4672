//! Making the table: for the local process and for tests. A deployment's table is in its template.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TableStatus, TimeToLiveSpecification,
    },
};

use crate::{
    Store, StoreError,
    table::item::{PK, SK, TTL_ATTRIBUTE},
};

/// Times a new table is looked at until it is ready.
const MAX_READY_CHECKS: u32 = 60;

/// Between two looks.
const READY_CHECK_PAUSE: Duration = Duration::from_millis(500);

impl Store {
    /// Makes the table where there is none, paid by the request, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::Contended`] where it is not ready after 30 s.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "CreateTable";
        let failed = |error| StoreError::Service {
            operation: OPERATION,
            source: Box::new(error),
        };
        let mut call = self
            .client
            .create_table()
            .table_name(&*self.table)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
            let definition = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S);
            let element = KeySchemaElement::builder()
                .attribute_name(name)
                .key_type(kind);
            call = call
                .attribute_definitions(definition.build().map_err(failed)?)
                .key_schema(element.build().map_err(failed)?);
        }
        match call.send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceInUseException") => {}
            Err(error) => return Err(StoreError::from_service(OPERATION, error)),
        }
        self.wait_until_ready().await?;
        self.enable_item_expiry().await
    }

    async fn wait_until_ready(&self) -> Result<(), StoreError> {
        for _ in 0..MAX_READY_CHECKS {
            let answer = self
                .client
                .describe_table()
                .table_name(&*self.table)
                .send()
                .await
                .map_err(|error| StoreError::from_service("DescribeTable", error))?;
            let status = answer.table.and_then(|table| table.table_status);
            if status == Some(TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(READY_CHECK_PAUSE).await;
        }
        Err(StoreError::Contended {
            operation: "CreateTable",
        })
    }

    /// Switches time to live on. Where it is on already DynamoDB refuses the call as invalid.
    async fn enable_item_expiry(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "UpdateTimeToLive";
        let specification = TimeToLiveSpecification::builder()
            .attribute_name(TTL_ATTRIBUTE)
            .enabled(true)
            .build()
            .map_err(|error| StoreError::Service {
                operation: OPERATION,
                source: Box::new(error),
            })?;
        let answer = self
            .client
            .update_time_to_live()
            .table_name(&*self.table)
            .time_to_live_specification(specification)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(refused))
                if refused.err().code() == Some("ValidationException") =>
            {
                Ok(())
            }
            Err(error) => Err(StoreError::from_service(OPERATION, error)),
        }
    }
}
