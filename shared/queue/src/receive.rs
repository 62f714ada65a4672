//! Receiving and deleting messages. A message is received again until it is deleted.

use std::collections::HashMap;

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};

use crate::{
    error::{ReceiveError, unwrap_sdk_error},
    queues::{MAX_BATCH_ENTRIES, Queue, Queues},
};

/// The names of the calls in errors.
const RECEIVE: &str = "ReceiveMessage";
const DELETE: &str = "DeleteMessageBatch";

/// A message as it was received.
#[derive(Clone, Debug)]
pub struct IncomingMessage {
    /// Its id.
    pub message_id: String,
    /// What it is deleted with.
    pub receipt: String,
    /// Its text.
    pub body: String,
    /// Its system attributes: receive count, message group, time it was sent.
    pub attributes: HashMap<String, String>,
}

impl IncomingMessage {
    fn from_sdk(message: Message) -> Result<Self, ReceiveError> {
        Ok(Self {
            message_id: require_part(message.message_id, "id")?,
            receipt: require_part(message.receipt_handle, "receipt handle")?,
            body: require_part(message.body, "body")?,
            attributes: message
                .attributes
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name.as_str().to_owned(), value))
                .collect(),
        })
    }
}

fn require_part(part: Option<String>, name: &'static str) -> Result<String, ReceiveError> {
    part.ok_or(ReceiveError::Malformed { part: name })
}

impl Queues {
    /// Receives up to `max_messages` (at most 10) messages, waiting up to `wait_s` (at most 20) seconds for
    /// the first. The client's own timeouts must be longer than that.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`].
    pub async fn receive_messages(
        &self,
        queue: Queue,
        max_messages: u8,
        wait_s: u16,
    ) -> Result<Vec<IncomingMessage>, ReceiveError> {
        let response = self
            .client
            .receive_message()
            .queue_url(self.queue_url(queue))
            .max_number_of_messages(i32::from(max_messages))
            .wait_time_seconds(i32::from(wait_s))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await
            .map_err(|error| ReceiveError::from_service(RECEIVE, unwrap_sdk_error(error)))?;
        let messages = response.messages.unwrap_or_default().into_iter();
        messages.map(IncomingMessage::from_sdk).collect()
    }

    /// Deletes received messages by their receipts. One that cannot be deleted is received again, which does no harm.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`].
    pub async fn delete_messages(
        &self,
        queue: Queue,
        receipts: &[String],
    ) -> Result<(), ReceiveError> {
        for batch in receipts.chunks(MAX_BATCH_ENTRIES) {
            let entries = batch.iter().enumerate().map(|(index, receipt)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(receipt)
                    .build()
                    .map_err(|error| ReceiveError::from_service(DELETE, error))
            });
            self.client
                .delete_message_batch()
                .queue_url(self.queue_url(queue))
                .set_entries(Some(entries.collect::<Result<_, _>>()?))
                .send()
                .await
                .map_err(|error| ReceiveError::from_service(DELETE, unwrap_sdk_error(error)))?;
        }
        Ok(())
    }
}
