//! `ReceiveMessage`: takes the messages that are there or, as a long poll, waits for some.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    emulator::{SqsEmulator, queue_name_from_url},
    error::SqsError,
    limits::{RECEIVE_SIZE_RANGE, VISIBILITY_RANGE_S, WAIT_RANGE_S},
    message::to_received_message,
    spec::check_range,
    table::TakenMessage,
    wire::{ReceiveMessageRequest, ReceiveMessageResponse},
};

/// The bounds of a receive.
#[derive(Clone, Copy)]
struct ReceiveOptions {
    max: usize,
    visibility_s: Option<u32>,
    wait_s: Option<u32>,
}

impl ReceiveOptions {
    fn new(request: &ReceiveMessageRequest) -> Result<Self, SqsError> {
        let max = request.max_number_of_messages.unwrap_or(1);
        let visibility_s = request
            .visibility_timeout
            .map(|seconds| check_range("VisibilityTimeout", seconds, VISIBILITY_RANGE_S));
        let wait_s = request
            .wait_time_seconds
            .map(|seconds| check_range("WaitTimeSeconds", seconds, WAIT_RANGE_S));
        Ok(Self {
            max: check_range("MaxNumberOfMessages", max, RECEIVE_SIZE_RANGE)? as usize,
            visibility_s: visibility_s.transpose()?,
            wait_s: wait_s.transpose()?,
        })
    }
}

/// What was found in a queue.
struct ReceiveOutcome {
    messages: Vec<TakenMessage>,
    /// How long the receive waits in all.
    total_wait: Duration,
    /// Where there are no messages: how long until there may be.
    next_due_in: Option<Duration>,
}

impl SqsEmulator {
    pub(super) async fn receive_messages(
        &self,
        request: ReceiveMessageRequest,
    ) -> Result<ReceiveMessageResponse, SqsError> {
        let started = Instant::now();
        let options = ReceiveOptions::new(&request)?;
        let mut attribute_names = request.attribute_names;
        attribute_names.extend(request.message_system_attribute_names);
        let queue_url = &request.queue_url;
        // A receive that finds messages, or does not wait, needs no waker.
        let first = self.take_available(queue_url, options).await?;
        if !first.messages.is_empty() || first.total_wait.is_zero() {
            return Ok(render_messages(first.messages, &attribute_names));
        }
        let notifier = self.wakers.notifier_for(queue_name_from_url(queue_url));
        loop {
            // Subscribes before it looks, so that no message is missed in between.
            let mut notified = pin!(notifier.notified());
            notified.as_mut().enable();
            let found = self.take_available(queue_url, options).await?;
            // Saturates: a wait that is over has nothing left.
            let remaining = first.total_wait.saturating_sub(started.elapsed());
            if !found.messages.is_empty() || remaining.is_zero() {
                return Ok(render_messages(found.messages, &attribute_names));
            }
            let pause = found
                .next_due_in
                .map_or(remaining, |next| remaining.min(next));
            // Either end of the pause is a reason to look again.
            let _ = timeout(pause, notified).await;
        }
    }

    /// Takes the messages that are there.
    async fn take_available(
        &self,
        queue_url: &str,
        options: ReceiveOptions,
    ) -> Result<ReceiveOutcome, SqsError> {
        self.with_queue(queue_url, move |table, queue, now| {
            let visibility_s = options.visibility_s.unwrap_or(queue.spec.visibility_s);
            let visibility_ms = i64::from(visibility_s) * 1000;
            let (messages, next) = table.take_messages(queue, options.max, visibility_ms, now)?;
            // One that is due by now is found by the next look.
            let next = next.map(|next| u64::try_from(next - now).unwrap_or(0));
            Ok(ReceiveOutcome {
                messages,
                total_wait: Duration::from_secs(options.wait_s.unwrap_or(queue.spec.wait_s).into()),
                next_due_in: next.map(Duration::from_millis),
            })
        })
        .await
    }
}

fn render_messages(
    messages: Vec<TakenMessage>,
    attribute_names: &[String],
) -> ReceiveMessageResponse {
    ReceiveMessageResponse {
        messages: messages
            .into_iter()
            .map(|taken| to_received_message(taken, attribute_names))
            .collect(),
    }
}
