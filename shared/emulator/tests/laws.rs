//! Laws of a queue, under any sequence of calls and any passing of time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::HashMap;

use aws_sdk_sqs::{Client, types::Message};
use jiff::{SignedDuration, Timestamp};
use okra_aws::{AwsConfig, Clock};
use okra_emulator::{Depth, Emulator, QueueSpec, Redrive};
use proptest::prelude::*;

const MAX_RECEIVES: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
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
    Pass {
        seconds: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3_u8, prop_oneof![Just(0), 0..20])
            .prop_map(|(group, delay_s)| Step::Send { group, delay_s }),
        (1..=10, 0..20).prop_map(|(max, visibility_s)| Step::Receive { max, visibility_s }),
        (any::<usize>(), any::<bool>()).prop_map(|(which, stale)| Step::Delete { which, stale }),
        (0..15_i64).prop_map(|seconds| Step::Pass { seconds }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a message's life should be like.
#[derive(Debug)]
struct Life {
    group: u8,
    hidden_until: Timestamp,
    receipts: Vec<String>,
    deleted: bool,
    /// In the dead-letter queue.
    dead: bool,
}

impl Life {
    /// What a call that looks at the queue does to a message that came back too often.
    fn settle(&mut self, now: Timestamp) {
        let too_often = self.receipts.len() == MAX_RECEIVES as usize;
        self.dead |= too_often && !self.deleted && self.hidden_until <= now;
    }

    fn ready(&self, now: Timestamp) -> bool {
        !self.deleted && !self.dead && self.hidden_until <= now
    }
}

struct World {
    emulator: Emulator,
    client: Client,
    clock: Clock,
    lives: HashMap<String, Life>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::driven("2026-03-01T12:00:00Z".parse().unwrap());
        let emulator = Emulator::memory(clock.clone()).unwrap();
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
            client: AwsConfig::with_http_client(emulator.http_client()).sqs(),
            emulator,
            clock,
            lives: HashMap::new(),
        }
    }

    fn later(&self, seconds: i64) -> Timestamp {
        self.clock.now() + SignedDuration::from_secs(seconds)
    }

    async fn receive(&self, queue: &str, max: i32, visibility_s: i32) -> Vec<Message> {
        let receive = self.client.receive_message();
        let receive = receive.queue_url(self.emulator.queue_url(queue));
        let receive = receive.visibility_timeout(visibility_s);
        let received = receive.max_number_of_messages(max).send().await;
        received.unwrap().messages.unwrap_or_default()
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { group, delay_s } => {
                let body = self.lives.len().to_string();
                let send = self.client.send_message().message_body(&body);
                let send = send.queue_url(self.emulator.queue_url("queue"));
                let send = send.delay_seconds(delay_s);
                send.message_group_id(group.to_string())
                    .send()
                    .await
                    .unwrap();
                let life = Life {
                    group,
                    hidden_until: self.later(delay_s.into()),
                    receipts: Vec::new(),
                    deleted: false,
                    dead: false,
                };
                self.lives.insert(body, life);
            }
            Step::Receive { max, visibility_s } => self.checked_receive(max, visibility_s).await,
            Step::Delete { which, stale } => {
                let received = self.lives.values_mut().filter(|l| !l.receipts.is_empty());
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
                life.deleted |= receipt == last && !life.dead;
            }
            Step::Pass { seconds } => self.clock.set(self.later(seconds)),
        }
    }

    async fn checked_receive(&mut self, max: i32, visibility_s: i32) {
        let now = self.clock.now();
        for life in self.lives.values_mut() {
            life.settle(now);
        }
        let ready = self.lives.values().filter(|life| life.ready(now));
        let mut ready_groups: Vec<u8> = ready.map(|life| life.group).collect();
        let ready_before = ready_groups.len();
        ready_groups.sort_unstable();
        ready_groups.dedup();

        let messages = self.receive("queue", max, visibility_s).await;
        let max = usize::try_from(max).unwrap();
        assert_eq!(
            messages.len(),
            ready_before.min(max),
            "all that is ready comes"
        );
        let mut groups: Vec<u8> = Vec::new();
        let hidden_until = self.later(visibility_s.into());
        for message in messages {
            let life = self.lives.get_mut(message.body().unwrap()).unwrap();
            assert!(life.ready(now), "only what is ready comes");
            life.hidden_until = hidden_until;
            life.receipts.push(message.receipt_handle.unwrap());
            groups.push(life.group);
        }
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(
            groups.len(),
            ready_groups.len().min(max),
            "every group has its turn"
        );
    }

    /// Looks whether all is accounted for.
    fn check_end(&mut self) {
        let now = self.clock.now();
        let (mut expected, mut dead) = (Depth::default(), 0);
        for life in self.lives.values_mut() {
            life.settle(now);
            match life {
                Life { deleted: true, .. } => {}
                Life { dead: true, .. } => dead += 1,
                life if life.ready(now) => expected.visible += 1,
                life if life.receipts.is_empty() => expected.delayed += 1,
                _ => expected.in_flight += 1,
            }
        }
        assert_eq!(self.emulator.depth("queue"), Some(expected));
        assert_eq!(self.emulator.depth("dead").unwrap().visible, dead);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_is_lost_and_nothing_comes_before_its_time(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.step(step).await;
            }
            world.check_end();
        });
    }
}
