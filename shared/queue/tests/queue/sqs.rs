//! The behaviour that SQS documents, tested through the SDK against the embedded queues, or over HTTP against the server
//! at `OKRA_TEST_SQS_ENDPOINT`, where the tests of rules that it is known to break are skipped and named.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use aws_sdk_sqs::{
    error::ProvideErrorMetadata,
    operation::{
        receive_message::builders::ReceiveMessageFluentBuilder,
        send_message::builders::SendMessageFluentBuilder,
        send_message_batch::SendMessageBatchOutput,
    },
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
        MessageSystemAttributeName as Attribute, QueueAttributeName, SendMessageBatchRequestEntry,
        SendMessageBatchResultEntry,
    },
};
use tokio::time::Instant;

use crate::support::{TestQueue, TestSqs};

const VISIBILITY: &[(&str, &str)] = &[("VisibilityTimeout", "2")];

impl TestQueue {
    fn sending(&self, body: &str) -> SendMessageFluentBuilder {
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
    }

    async fn send(&self, body: &str) {
        self.sending(body).send().await.unwrap();
    }

    fn receiving(&self, max: i32) -> ReceiveMessageFluentBuilder {
        self.client
            .receive_message()
            .queue_url(&self.url)
            .message_system_attribute_names(Attribute::All)
            .max_number_of_messages(max)
    }

    async fn receive(&self, max: i32) -> Vec<Message> {
        let received = self.receiving(max).send().await.unwrap();
        received.messages.unwrap_or_default()
    }

    async fn bodies(&self, max: i32) -> Vec<String> {
        let messages = self.receive(max).await;
        messages.into_iter().filter_map(|m| m.body).collect()
    }

    async fn one(&self) -> Message {
        let mut messages = self.receive(10).await;
        assert_eq!(messages.len(), 1);
        messages.remove(0)
    }

    async fn delete(&self, receipt: &str) {
        self.client
            .delete_message()
            .queue_url(&self.url)
            .receipt_handle(receipt)
            .send()
            .await
            .unwrap();
    }

    async fn send_batch(
        &self,
        entries: impl IntoIterator<Item = SendMessageBatchRequestEntry>,
    ) -> Result<SendMessageBatchOutput, String> {
        self.client
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.into_iter().collect()))
            .send()
            .await
            .map_err(|error| error.code().unwrap_or_default().to_owned())
    }

    async fn attributes(&self) -> BTreeMap<String, String> {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .unwrap();
        let attributes = answer.attributes.unwrap().into_iter();
        attributes
            .map(|(n, v)| (n.as_str().to_owned(), v))
            .collect()
    }

    /// Messages that are visible, in flight, delayed.
    async fn depth(&self) -> [String; 3] {
        let attributes = self.attributes().await;
        [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        .map(|name| attributes[name].clone())
    }
}

fn entry(id: impl std::fmt::Display, body: impl Into<String>) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder()
        .id(format!("{id}"))
        .message_body(body)
        .build()
        .unwrap()
}

fn receipt(message: &Message) -> &str {
    message.receipt_handle().unwrap()
}

fn attribute<'a>(message: &'a Message, name: &Attribute) -> Option<&'a str> {
    message.attributes()?.get(name).map(String::as_str)
}

fn receives(message: &Message) -> Option<&str> {
    attribute(message, &Attribute::ApproximateReceiveCount)
}

#[tokio::test]
async fn a_message_is_received_as_it_was_sent_and_is_gone_when_deleted() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(VISIBILITY).await;
    let body = "Zażółć\n\t{\"a\":\"<&>\"} \u{1F980}";
    let sent = queue.sending(body).message_group_id("g").send().await;
    let sent = sent.unwrap();
    let message = queue.one().await;
    assert_eq!(message.body(), Some(body));
    assert_eq!(message.message_id(), sent.message_id());
    assert_eq!(message.md5_of_body(), sent.md5_of_message_body());
    assert_eq!(attribute(&message, &Attribute::MessageGroupId), Some("g"));
    assert_eq!(receives(&message), Some("1"));
    let times = [
        Attribute::SentTimestamp,
        Attribute::ApproximateFirstReceiveTimestamp,
    ];
    for time in times {
        let millis = attribute(&message, &time).unwrap();
        assert_eq!(millis.len(), 13, "{millis}");
    }
    queue.delete(receipt(&message)).await;
    sqs.advance_time(3).await;
    assert_eq!(queue.bodies(10).await, [""; 0]);
}

#[tokio::test]
async fn the_digest_is_that_of_the_body() {
    let queue = TestSqs::new().create_queue(&[]).await;
    let sent = queue.sending("hello").send().await.unwrap();
    let md5 = Some("5d41402abc4b2a76b9719d911017c592");
    assert_eq!(sent.md5_of_message_body(), md5);
    assert_eq!(queue.one().await.md5_of_body(), md5);
}

#[tokio::test]
async fn only_the_attributes_that_were_asked_for_come() {
    let queue = TestSqs::new().create_queue(&[]).await;
    queue.send("a").await;
    let none = queue
        .client
        .receive_message()
        .queue_url(&queue.url)
        .visibility_timeout(0)
        .send()
        .await
        .unwrap();
    assert!(
        none.messages()[0]
            .attributes()
            .is_none_or(HashMap::is_empty)
    );
    let asked = queue
        .client
        .receive_message()
        .queue_url(&queue.url)
        .message_system_attribute_names(Attribute::ApproximateReceiveCount)
        .send()
        .await
        .unwrap();
    let attributes = asked.messages()[0].attributes().unwrap();
    assert_eq!(attributes.len(), 1);
    assert_eq!(attributes[&Attribute::ApproximateReceiveCount], "2");
}

#[tokio::test]
async fn a_received_message_is_invisible_until_its_time_and_comes_with_a_fresh_receipt() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(VISIBILITY).await;
    queue.send("a").await;
    let first = queue.one().await;
    assert_eq!(queue.bodies(10).await, [""; 0]);
    assert_eq!(queue.depth().await, ["0", "1", "0"]);
    sqs.advance_time(3).await;
    let second = queue.one().await;
    assert_eq!(second.message_id(), first.message_id());
    assert_ne!(receipt(&second), receipt(&first));
    assert_eq!(receives(&second), Some("2"));
    assert_eq!(
        attribute(&second, &Attribute::ApproximateFirstReceiveTimestamp),
        attribute(&first, &Attribute::ApproximateFirstReceiveTimestamp)
    );
    if sqs.conforms_to("an old receipt deletes nothing (the server deletes by any receipt)") {
        queue.delete(receipt(&first)).await;
        sqs.advance_time(3).await;
        assert_eq!(receives(&queue.one().await), Some("3"));
    }
}

#[tokio::test]
async fn a_receipt_deletes_after_the_visibility_is_over_and_twice() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(VISIBILITY).await;
    queue.send("a").await;
    let message = queue.one().await;
    sqs.advance_time(3).await;
    queue.delete(receipt(&message)).await;
    assert_eq!(queue.bodies(10).await, [""; 0]);
    queue.delete(receipt(&message)).await;
}

#[tokio::test]
async fn the_receiver_may_choose_and_change_the_visibility() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(VISIBILITY).await;
    queue.send("a").await;
    let received = queue.receiving(1).visibility_timeout(5).send().await;
    let message = received.unwrap().messages.unwrap().remove(0);
    sqs.advance_time(3).await;
    assert_eq!(queue.bodies(10).await, [""; 0]);
    let change = |seconds| {
        queue
            .client
            .change_message_visibility()
            .queue_url(&queue.url)
            .receipt_handle(receipt(&message))
            .visibility_timeout(seconds)
            .send()
    };
    change(0).await.unwrap();
    let again = queue.one().await;
    assert_eq!(receives(&again), Some("2"));
    sqs.advance_time(3).await;
    if sqs.conforms_to(
        "a message that is not in flight has no visibility to change (the server changes it)",
    ) {
        let error = change(0).await.unwrap_err();
        let code = Some("AWS.SimpleQueueService.MessageNotInflight");
        assert_eq!(error.code(), code);
    }
    queue.delete(receipt(&again)).await;
    assert!(change(0).await.is_err());
}

#[tokio::test]
async fn a_batch_of_changes_is_answered_by_entry() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(&[]).await;
    queue.send("a").await;
    let message = queue.one().await;
    let change = |id: &str, receipt: &str| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(id)
            .receipt_handle(receipt)
            .visibility_timeout(0)
            .build()
            .unwrap()
    };
    let changed = queue
        .client
        .change_message_visibility_batch()
        .queue_url(&queue.url)
        .entries(change("good", receipt(&message)))
        .entries(change("bad", "nonsense"))
        .send()
        .await
        .unwrap();
    assert_eq!(changed.successful()[0].id(), "good");
    let [failed] = changed.failed() else { panic!() };
    assert_eq!(
        (failed.id(), failed.code()),
        ("bad", "ReceiptHandleIsInvalid")
    );
    assert!(failed.sender_fault());
    assert_eq!(queue.bodies(10).await, ["a"]);
}

#[tokio::test]
async fn a_message_that_comes_back_too_often_goes_to_the_dead_letter_queue() {
    let sqs = TestSqs::new();
    let dead = sqs.create_queue(&[]).await;
    let arn = dead.attributes().await["QueueArn"].clone();
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":2}}"#);
    let attributes = [("VisibilityTimeout", "1"), ("RedrivePolicy", &policy)];
    let queue = sqs.create_queue(&attributes).await;
    queue.send("poison").await;
    for count in ["1", "2"] {
        assert_eq!(receives(&queue.one().await), Some(count));
        assert_eq!(dead.bodies(10).await, [""; 0]);
        sqs.advance_time(2).await;
    }
    assert_eq!(queue.bodies(10).await, [""; 0]);
    assert_eq!(queue.depth().await, ["0", "0", "0"]);
    let message = dead.one().await;
    assert_eq!(message.body(), Some("poison"));
    assert_eq!(receives(&message), Some("3"));
    if sqs.conforms_to("a dead letter says where it came from (the server does not)") {
        let source = attribute(&message, &Attribute::DeadLetterQueueSourceArn);
        assert_eq!(source, Some(&*queue.attributes().await["QueueArn"]));
    }
}

#[tokio::test]
async fn a_delayed_message_comes_when_it_is_due() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(&[("DelaySeconds", "4")]).await;
    queue.send("by the queue").await;
    let send = queue.sending("by the message").delay_seconds(2);
    send.send().await.unwrap();
    assert_eq!(queue.bodies(10).await, [""; 0]);
    assert_eq!(queue.depth().await, ["0", "0", "2"]);
    sqs.advance_time(3).await;
    assert_eq!(queue.bodies(10).await, ["by the message"]);
    sqs.advance_time(2).await;
    assert_eq!(queue.bodies(10).await, ["by the queue"]);
}

#[tokio::test]
async fn a_long_poll_is_woken_by_what_is_sent() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(&[]).await;
    let send = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        queue.send("a").await;
    };
    let started = Instant::now();
    let (received, ()) = tokio::join!(queue.receiving(10).wait_time_seconds(10).send(), send);
    assert_eq!(received.unwrap().messages().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_long_poll_is_woken_by_what_becomes_due_while_it_waits() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(VISIBILITY).await;
    queue.send("comes back").await;
    queue.one().await;
    let delay = queue.sending("is delayed").delay_seconds(4);
    delay.send().await.unwrap();
    for body in ["comes back", "is delayed"] {
        let poll = queue
            .receiving(10)
            .wait_time_seconds(10)
            .visibility_timeout(60);
        let (received, ()) = tokio::join!(poll.send(), sqs.advance_time(3));
        assert_eq!(received.unwrap().messages()[0].body(), Some(body));
    }
}

#[tokio::test]
async fn a_long_poll_ends() {
    let queue = TestSqs::new()
        .create_queue(&[("ReceiveMessageWaitTimeSeconds", "1")])
        .await;
    let started = Instant::now();
    assert_eq!(queue.bodies(10).await, [""; 0]);
    let waited = started.elapsed();
    assert!((900..5000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn each_of_many_pollers_gets_a_message() {
    let queue = TestSqs::new().create_queue(&[]).await;
    let polls = (0..4).map(|_| {
        let poll = queue.receiving(1).wait_time_seconds(10).send();
        tokio::spawn(async move { poll.await.unwrap().messages.unwrap().remove(0).body })
    });
    let polls: Vec<_> = polls.collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    queue
        .send_batch((0..4).map(|n| entry(n, n.to_string())))
        .await
        .unwrap();
    let mut bodies = Vec::new();
    for poll in polls {
        bodies.extend(poll.await.unwrap());
    }
    bodies.sort_unstable();
    assert_eq!(bodies, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_batch_takes_what_is_valid_and_names_what_is_not() {
    let queue = TestSqs::new().create_queue(&[]).await;
    let late = SendMessageBatchRequestEntry::builder()
        .id("late")
        .message_body("late")
        .delay_seconds(901)
        .build()
        .unwrap();
    let answer = queue
        .send_batch([entry("a", "hello"), late, entry("b", "world")])
        .await
        .unwrap();
    let ids: Vec<_> = answer
        .successful()
        .iter()
        .map(SendMessageBatchResultEntry::id)
        .collect();
    assert_eq!(ids, ["a", "b"]);
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    assert_eq!(answer.successful()[0].md5_of_message_body(), md5);
    let [failed] = answer.failed() else { panic!() };
    assert_eq!(
        (failed.id(), failed.code()),
        ("late", "InvalidParameterValue")
    );
    assert!(failed.sender_fault());
    assert_eq!(queue.bodies(10).await, ["hello", "world"]);
}

#[tokio::test]
async fn a_batch_has_limits() {
    let queue = TestSqs::new().create_queue(&[]).await;
    let many = |count: usize, bytes: usize| (0..count).map(move |n| entry(n, "x".repeat(bytes)));
    let refusal = async |entries: Vec<_>| queue.send_batch(entries).await.err();
    let refused = |code: &str| Some(format!("AWS.SimpleQueueService.{code}"));
    assert_eq!(refusal(many(10, 1).collect()).await, None);
    assert_eq!(refusal(vec![]).await, refused("EmptyBatchRequest"));
    let eleven = many(11, 1).collect();
    assert_eq!(
        refusal(eleven).await,
        refused("TooManyEntriesInBatchRequest")
    );
    let twice = vec![entry("a", "x"), entry("a", "y")];
    assert_eq!(refusal(twice).await, refused("BatchEntryIdsNotDistinct"));
    let id = vec![entry("a.b", "x")];
    assert_eq!(refusal(id).await, refused("InvalidBatchEntryId"));
    // 1 MiB in all.
    let eighth = (1 << 20) / 8;
    assert_eq!(refusal(many(8, eighth).collect()).await, None);
    let over = many(7, eighth).chain([entry("x", "x".repeat(eighth + 1))]);
    assert_eq!(
        refusal(over.collect()).await,
        refused("BatchRequestTooLong")
    );
}

#[tokio::test]
async fn a_batch_deletes() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(VISIBILITY).await;
    queue
        .send_batch((0..10).map(|n| entry(n, "x")))
        .await
        .unwrap();
    let messages = queue.receive(10).await;
    let entry = |(n, receipt): (usize, &str)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(n.to_string())
            .receipt_handle(receipt)
            .build()
            .unwrap()
    };
    let receipts = messages.iter().take(9).map(receipt).chain(["nonsense"]);
    let deleted = queue
        .client
        .delete_message_batch()
        .queue_url(&queue.url)
        .set_entries(Some(receipts.enumerate().map(entry).collect()))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.successful().len(), 9);
    let [failed] = deleted.failed() else { panic!() };
    assert_eq!(
        (failed.id(), failed.code()),
        ("9", "ReceiptHandleIsInvalid")
    );
    sqs.advance_time(3).await;
    assert_eq!(queue.receive(10).await.len(), 1);
}

#[tokio::test]
async fn a_receive_brings_no_more_than_asked_for_and_none_twice() {
    let queue = TestSqs::new().create_queue(&[]).await;
    for batch in 0..3 {
        let entries = (0..10).map(|n| entry(n, (batch * 10 + n).to_string()));
        queue.send_batch(entries).await.unwrap();
    }
    let mut bodies = Vec::new();
    for max in [1, 3, 10, 10, 10] {
        let received = queue.bodies(max).await;
        assert!(received.len() <= usize::try_from(max).unwrap());
        bodies.extend(received);
    }
    let mut numbers: Vec<u32> = bodies.iter().map(|body| body.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn groups_take_turns() {
    let sqs = TestSqs::new();
    if !sqs.conforms_to("a busy group does not stand before others (the server has no fair queues)")
    {
        return;
    }
    let queue = sqs.create_queue(&[]).await;
    let grouped = |id: usize, group: &str| {
        SendMessageBatchRequestEntry::builder()
            .id(id.to_string())
            .message_body(format!("{group}{id}"))
            .message_group_id(group)
            .build()
            .unwrap()
    };
    queue
        .send_batch((0..8).map(|n| grouped(n, "busy")))
        .await
        .unwrap();
    queue
        .send_batch((0..2).map(|n| grouped(n, "quiet")))
        .await
        .unwrap();
    queue.send("none").await;
    let mut bodies = Vec::new();
    for max in [1, 2, 4, 10] {
        bodies.push(queue.bodies(max).await.join(" "));
    }
    let expected = [
        "none",
        "busy0 quiet0",
        "busy1 quiet1 busy2 busy3",
        "busy4 busy5 busy6 busy7",
    ];
    assert_eq!(bodies, expected);
}

#[tokio::test]
async fn an_old_message_is_forgotten() {
    let sqs = TestSqs::new();
    if !sqs.conforms_to("a message is kept for 60 s, which is too long to wait for") {
        return;
    }
    let queue = sqs.create_queue(&[("MessageRetentionPeriod", "60")]).await;
    queue.send("old").await;
    sqs.advance_time(59).await;
    queue.send("new").await;
    assert_eq!(queue.depth().await, ["2", "0", "0"]);
    sqs.advance_time(1).await;
    assert_eq!(queue.bodies(10).await, ["new"]);
}

#[tokio::test]
async fn a_purged_queue_is_empty() {
    let queue = TestSqs::new().create_queue(&[]).await;
    queue
        .send_batch((0..10).map(|n| entry(n, "x")))
        .await
        .unwrap();
    queue.receive(3).await;
    let purge = queue.client.purge_queue().queue_url(&queue.url);
    purge.send().await.unwrap();
    assert_eq!(queue.depth().await, ["0", "0", "0"]);
}

#[tokio::test]
async fn a_queue_is_found_by_its_name_and_made_once() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(VISIBILITY).await;
    let name = queue.url.rsplit('/').next().unwrap();
    let found = sqs.client.get_queue_url().queue_name(name).send().await;
    assert_eq!(found.unwrap().queue_url(), Some(&*queue.url));
    let create = |visibility: &str| {
        sqs.client
            .create_queue()
            .queue_name(name)
            .attributes(QueueAttributeName::VisibilityTimeout, visibility)
            .send()
    };
    assert_eq!(create("2").await.unwrap().queue_url(), Some(&*queue.url));
    let error = create("3").await.unwrap_err();
    assert!(error.into_service_error().is_queue_name_exists());
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let sqs = TestSqs::new();
    let queue = sqs.create_queue(&[]).await;
    let delay = queue.sending("x").delay_seconds(901).send().await;
    assert_eq!(delay.unwrap_err().code(), Some("InvalidParameterValue"));
    if sqs.conforms_to("a body has no control characters (the server takes them)") {
        let contents = queue.sending("\u{0}").send().await.unwrap_err();
        assert_eq!(contents.code(), Some("InvalidMessageContents"));
    }
    for max in [0, 11] {
        let error = queue.receiving(max).send().await.unwrap_err();
        assert_eq!(error.code(), Some("InvalidParameterValue"), "{max}");
    }
    let wait = queue.receiving(1).wait_time_seconds(21).send().await;
    assert_eq!(wait.unwrap_err().code(), Some("InvalidParameterValue"));
    let missing = sqs
        .client
        .get_queue_url()
        .queue_name("no-such")
        .send()
        .await;
    assert!(
        missing
            .unwrap_err()
            .into_service_error()
            .is_queue_does_not_exist()
    );
    let missing = TestQueue {
        client: sqs.client.clone(),
        url: format!("{}-no-such", queue.url),
    };
    let error = missing.sending("x").send().await.unwrap_err();
    assert!(error.into_service_error().is_queue_does_not_exist());
    let error = missing.receiving(1).send().await.unwrap_err();
    assert_eq!(
        error.code(),
        Some("AWS.SimpleQueueService.NonExistentQueue")
    );
}
