//! Properties of a queue that hold after any sequence of calls and any passing of time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::HashMap;

use aws_sdk_sqs::{Client, types::Message};
use jiff::{SignedDuration, Timestamp};
use okra_aws::{AwsConfig, Clock};
use okra_emulator::{Emulator, QueueDepth, QueueSpec, Redrive};
use proptest::prelude::*;

const MAX_RECEIVES: u32 = 3;

#[derive(Clone, Debug)]
enum QueueStep {
    Send {
        group: u8,
        delay_s: i32,
    },
    Receive {
        max: i32,
        visibility_s: i32,
    },
    /// Deletes one of the messages received so far, with its last or an earlier receipt.
    Delete {
        which: usize,
        stale: bool,
    },
    AdvanceClock {
        seconds: i64,
    },
}

fn any_steps() -> impl Strategy<Value = Vec<QueueStep>> {
    let step = prop_oneof![
        (0..3_u8, prop_oneof![Just(0), 0..20])
            .prop_map(|(group, delay_s)| QueueStep::Send { group, delay_s }),
        (1..=10, 0..20).prop_map(|(max, visibility_s)| QueueStep::Receive { max, visibility_s }),
        (any::<usize>(), any::<bool>())
            .prop_map(|(which, stale)| QueueStep::Delete { which, stale }),
        (0..15_i64).prop_map(|seconds| QueueStep::AdvanceClock { seconds }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a message's life should be like.
#[derive(Debug)]
struct ExpectedMessage {
    group: u8,
    hidden_until: Timestamp,
    receipts: Vec<String>,
    is_deleted: bool,
    /// In the dead-letter queue.
    is_dead_letter: bool,
}

impl ExpectedMessage {
    /// What a call on the queue does to a message that was received too often.
    fn redrive_if_due(&mut self, now: Timestamp) {
        let too_often = self.receipts.len() == MAX_RECEIVES as usize;
        self.is_dead_letter |= too_often && !self.is_deleted && self.hidden_until <= now;
    }

    fn is_ready(&self, now: Timestamp) -> bool {
        !self.is_deleted && !self.is_dead_letter && self.hidden_until <= now
    }
}

struct QueueModel {
    emulator: Emulator,
    client: Client,
    clock: Clock,
    expected_messages: HashMap<String, ExpectedMessage>,
}

impl QueueModel {
    fn new() -> Self {
        let clock = Clock::manual_at("2026-03-01T12:00:00Z".parse().unwrap());
        let emulator = Emulator::in_memory(clock.clone()).unwrap();
        let queue = QueueSpec {
            redrive: Some(Redrive {
                dead_letter: "dead".to_owned(),
                max_receive_count: MAX_RECEIVES,
            }),
            ..QueueSpec::new("queue")
        };
        emulator
            .create_queues(&[queue, QueueSpec::new("dead")])
            .unwrap();
        Self {
            client: AwsConfig::with_http_client(emulator.http_client()).sqs_client(),
            emulator,
            clock,
            expected_messages: HashMap::new(),
        }
    }

    fn time_in(&self, seconds: i64) -> Timestamp {
        self.clock.now() + SignedDuration::from_secs(seconds)
    }

    async fn receive_messages(&self, queue: &str, max: i32, visibility_s: i32) -> Vec<Message> {
        let receive = self.client.receive_message();
        let receive = receive.queue_url(self.emulator.queue_url(queue));
        let receive = receive.visibility_timeout(visibility_s);
        let received = receive.max_number_of_messages(max).send().await;
        received.unwrap().messages.unwrap_or_default()
    }

    async fn run_step(&mut self, step: &QueueStep) {
        match *step {
            QueueStep::Send { group, delay_s } => {
                let body = self.expected_messages.len().to_string();
                let send = self.client.send_message().message_body(&body);
                let send = send.queue_url(self.emulator.queue_url("queue"));
                let send = send.delay_seconds(delay_s);
                send.message_group_id(group.to_string())
                    .send()
                    .await
                    .unwrap();
                let life = ExpectedMessage {
                    group,
                    hidden_until: self.time_in(delay_s.into()),
                    receipts: Vec::new(),
                    is_deleted: false,
                    is_dead_letter: false,
                };
                self.expected_messages.insert(body, life);
            }
            QueueStep::Receive { max, visibility_s } => self.check_receive(max, visibility_s).await,
            QueueStep::Delete { which, stale } => {
                let received = self
                    .expected_messages
                    .values_mut()
                    .filter(|l| !l.receipts.is_empty());
                let mut received: Vec<_> = received.collect();
                received.sort_by(|a, b| a.receipts.cmp(&b.receipts));
                if received.is_empty() {
                    return;
                }
                let which = which % received.len();
                let life = &mut received[which];
                let last = life.receipts.len() - 1;
                let receipt = if stale { 0 } else { last };
                let delete = self.client.delete_message();
                let delete = delete.queue_url(self.emulator.queue_url("queue"));
                let delete = delete.receipt_handle(&life.receipts[receipt]);
                delete.send().await.unwrap();
                // A message of the dead-letter queue is none of this queue's any more.
                life.is_deleted |= receipt == last && !life.is_dead_letter;
            }
            QueueStep::AdvanceClock { seconds } => self.clock.set_time(self.time_in(seconds)),
        }
    }

    async fn check_receive(&mut self, max: i32, visibility_s: i32) {
        let now = self.clock.now();
        for life in self.expected_messages.values_mut() {
            life.redrive_if_due(now);
        }
        let ready = self
            .expected_messages
            .values()
            .filter(|life| life.is_ready(now));
        let mut ready_groups: Vec<u8> = ready.map(|life| life.group).collect();
        let ready_before = ready_groups.len();
        ready_groups.sort_unstable();
        ready_groups.dedup();

        let messages = self.receive_messages("queue", max, visibility_s).await;
        let max = usize::try_from(max).unwrap();
        assert_eq!(
            messages.len(),
            ready_before.min(max),
            "all that is ready comes"
        );
        let mut groups: Vec<u8> = Vec::new();
        let hidden_until = self.time_in(visibility_s.into());
        for message in messages {
            let life = self
                .expected_messages
                .get_mut(message.body().unwrap())
                .unwrap();
            assert!(life.is_ready(now), "only what is ready comes");
            life.hidden_until = hidden_until;
            life.receipts.push(message.receipt_handle.unwrap());
            groups.push(life.group);
        }
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(
            groups.len(),
            ready_groups.len().min(max),
            "every group is served in rotation"
        );
    }

    /// Checks that every message is accounted for.
    fn check_final_depths(&mut self) {
        let now = self.clock.now();
        let (mut expected, mut dead) = (QueueDepth::default(), 0);
        for life in self.expected_messages.values_mut() {
            life.redrive_if_due(now);
            match life {
                ExpectedMessage {
                    is_deleted: true, ..
                } => {}
                ExpectedMessage {
                    is_dead_letter: true,
                    ..
                } => dead += 1,
                life if life.is_ready(now) => expected.visible += 1,
                life if life.receipts.is_empty() => expected.delayed += 1,
                _ => expected.in_flight += 1,
            }
        }
        assert_eq!(self.emulator.queue_depth("queue").unwrap(), expected);
        assert_eq!(self.emulator.queue_depth("dead").unwrap().visible, dead);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_message_is_lost_and_none_is_visible_early(steps in any_steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let mut world = QueueModel::new();
            for step in &steps {
                world.run_step(step).await;
            }
            world.check_final_depths();
        });
    }
}
