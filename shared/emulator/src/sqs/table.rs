//! The messages, in SQLite: [`QueueTable`].
//!
//! A message is *ready* (it can be received) or *waiting* (delayed, or in flight) until its time.
//! Each has an index of its own, so that a receive looks at no more than it takes: what is due is
//! made ready, then the groups rotate, the oldest message of each first.

use std::{collections::HashMap, sync::Arc};

use super::{
    spec::{QueueSpec, Redrive},
    wakers::QueueWakers,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queues (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        visibility_s INTEGER NOT NULL,
        delay_s INTEGER NOT NULL,
        retention_s INTEGER NOT NULL,
        wait_s INTEGER NOT NULL,
        dead_letter INTEGER REFERENCES queues (id),
        max_receive_count INTEGER
    );
    -- `received` counts over all queues, as SQS does; `received_before` is how many of them do not count towards
    -- the dead-letter queue: those in an earlier queue, and those of a process that died.
    -- AUTOINCREMENT: ids are never used twice.
    CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL REFERENCES queues (id),
        message_group TEXT NOT NULL,
        body TEXT NOT NULL,
        sent_ms INTEGER NOT NULL,
        ready INTEGER NOT NULL,
        visible_ms INTEGER NOT NULL,
        received INTEGER NOT NULL DEFAULT 0,
        received_before INTEGER NOT NULL DEFAULT 0,
        first_received_ms INTEGER,
        came_from INTEGER REFERENCES queues (id)
    );
    CREATE INDEX IF NOT EXISTS ready ON messages (queue, message_group) WHERE ready = 1;
    CREATE INDEX IF NOT EXISTS waiting ON messages (queue, visible_ms) WHERE ready = 0;
    CREATE INDEX IF NOT EXISTS age ON messages (queue, sent_ms);
";

/// The receivers of these messages died with the process that had the file open: they can be received again at once.
/// That is no failure of the message, so it does not count towards the dead-letter queue: a process that is stopped
/// often would lose its work.
const RELEASE_IN_FLIGHT: &str = "
    UPDATE messages SET visible_ms = 0, received_before = received_before + 1
    WHERE ready = 0 AND received > received_before";

const DELETE_EXPIRED: &str = "DELETE FROM messages WHERE queue = :queue AND sent_ms <= :oldest";

const REDRIVE_MESSAGES: &str = "
    UPDATE messages
    SET queue = :dead_letter, ready = 1, received_before = received, came_from = :queue
    WHERE queue = :queue AND ready = 0 AND visible_ms <= :now
        AND received - received_before >= :max_receive_count";

const MAKE_READY: &str =
    "UPDATE messages SET ready = 1 WHERE queue = :queue AND ready = 0 AND visible_ms <= :now";

/// The oldest ready message of the first group that is not before `:from`.
const TAKE_MESSAGE: &str = "
    UPDATE messages
    SET ready = 0, visible_ms = :visible, received = received + 1,
        first_received_ms = coalesce(first_received_ms, :now)
    WHERE id = (
        SELECT id FROM messages
        WHERE queue = :queue AND ready = 1 AND message_group >= :from
        ORDER BY message_group, id LIMIT 1
    )
    RETURNING id, message_group, body, sent_ms, received, first_received_ms,
        (SELECT name FROM queues WHERE queues.id = came_from)";

const FIND_NEXT_DUE: &str = "SELECT min(visible_ms) FROM messages WHERE queue = ?1 AND ready = 0";

const COUNT_MESSAGES: &str = "
    SELECT count(*) FILTER (WHERE ready = 1),
        count(*) FILTER (WHERE ready = 0 AND received > received_before),
        count(*) FILTER (WHERE ready = 0 AND received = received_before)
    FROM messages WHERE queue = ?1";

/// A queue as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StoredQueue {
    pub(super) id: i64,
    pub(super) spec: QueueSpec,
    dead_letter: Option<i64>,
}

/// A message to be stored.
pub(super) struct MessageToStore {
    pub(super) body: String,
    /// Empty for none.
    pub(super) group: String,
    pub(super) delay_ms: i64,
}

/// A message that was received.
pub(super) struct TakenMessage {
    pub(super) id: i64,
    pub(super) group: String,
    pub(super) body: String,
    pub(super) sent_ms: i64,
    /// Receives so far, this one included.
    pub(super) receive_count: i64,
    pub(super) first_received_ms: i64,
    /// The queue it was redriven from.
    pub(super) redriven_from: Option<String>,
}

/// How many messages a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Can be received now.
    pub visible: u64,
    /// Received and not yet deleted.
    pub in_flight: u64,
    /// Sent with a delay and not due yet.
    pub delayed: u64,
}

/// Queues could not be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PutQueuesError {
    /// The queue of this name has a dead-letter queue that does not exist.
    #[error("the dead-letter queue of {0} does not exist")]
    NoDeadLetterQueue(String),
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
}

/// Which receive of which message: what a receipt handle states.
#[derive(Clone, Copy)]
pub(super) struct ReceiptHandle {
    pub(super) message_id: i64,
    pub(super) receive_count: i64,
}

/// The outcome of a change of visibility.
pub(super) enum VisibilityChange {
    Changed,
    NotInFlight,
    NoSuchMessage,
}

/// The queues and their messages. Times are milliseconds since 1970.
pub(super) struct QueueTable {
    connection: Connection,
    wakers: Arc<QueueWakers>,
    /// The group that was served last, by queue.
    last_groups: HashMap<i64, String>,
}

impl QueueTable {
    pub(super) fn new(connection: Connection, wakers: Arc<QueueWakers>) -> rusqlite::Result<Self> {
        connection.execute(RELEASE_IN_FLIGHT, [])?;
        Ok(Self {
            connection,
            wakers,
            last_groups: HashMap::new(),
        })
    }

    /// Creates or changes queues, all or none.
    pub(super) fn put_queues(&mut self, specs: &[QueueSpec]) -> Result<(), PutQueuesError> {
        let transaction = self.connection.transaction()?;
        for spec in specs {
            put_queue(&transaction, spec)?;
        }
        // After all queues are there: the order of the specs does not matter.
        for spec in specs {
            if !put_redrive(&transaction, spec)? {
                return Err(PutQueuesError::NoDeadLetterQueue(spec.name.clone()));
            }
        }
        transaction.commit()?;
        Ok(())
    }

    pub(super) fn find_queue(&self, name: &str) -> rusqlite::Result<Option<StoredQueue>> {
        self.connection
            .prepare_cached(
                "SELECT q.id, q.name, q.visibility_s, q.delay_s, q.retention_s, q.wait_s,
                        q.dead_letter, q.max_receive_count, d.name
                 FROM queues q LEFT JOIN queues d ON d.id = q.dead_letter WHERE q.name = ?1",
            )?
            .query_row([name], read_queue)
            .optional()
    }

    /// Stores a message. Returns its id.
    pub(super) fn put_message(
        &self,
        queue: &StoredQueue,
        message: &MessageToStore,
        now: i64,
    ) -> rusqlite::Result<i64> {
        let id = insert_message(&self.connection, queue.id, message, now)?;
        self.wake_for_sent(queue, std::slice::from_ref(message), now);
        Ok(id)
    }

    /// Stores messages, all or none. Returns their ids.
    pub(super) fn put_messages(
        &mut self,
        queue: &StoredQueue,
        messages: &[MessageToStore],
        now: i64,
    ) -> rusqlite::Result<Vec<i64>> {
        let transaction = self.connection.transaction()?;
        let ids = messages
            .iter()
            .map(|message| insert_message(&transaction, queue.id, message, now))
            .collect::<Result<_, _>>()?;
        transaction.commit()?;
        self.wake_for_sent(queue, messages, now);
        Ok(ids)
    }

    fn wake_for_sent(&self, queue: &StoredQueue, messages: &[MessageToStore], now: i64) {
        let name = &queue.spec.name;
        let ready = messages
            .iter()
            .filter(|message| message.delay_ms == 0)
            .count();
        self.wakers.wake_for_messages(name, ready);
        let delays = messages
            .iter()
            .map(|message| message.delay_ms)
            .filter(|&delay_ms| delay_ms > 0);
        if let Some(soonest) = delays.min() {
            self.wakers.wake_by(name, now + soonest);
        }
    }

    /// Takes up to `max` messages, which stay invisible for `visibility_ms`. Where there is none, the second value is
    /// when the next becomes visible, if one is waiting.
    pub(super) fn take_messages(
        &mut self,
        queue: &StoredQueue,
        max: usize,
        visibility_ms: i64,
        now: i64,
    ) -> rusqlite::Result<(Vec<TakenMessage>, Option<i64>)> {
        let transaction = self.connection.transaction()?;
        let redriven = settle_queue(&transaction, queue, now)?;
        let mut last = self.last_groups.get(&queue.id).cloned();
        let mut taken = Vec::new();
        while taken.len() < max {
            let visible = now + visibility_ms;
            let Some(message) =
                take_from_next_group(&transaction, queue.id, last.as_deref(), visible, now)?
            else {
                break;
            };
            last = Some(message.group.clone());
            taken.push(message);
        }
        let next_due = if taken.is_empty() {
            transaction
                .prepare_cached(FIND_NEXT_DUE)?
                .query_row([queue.id], |row| row.get(0))?
        } else {
            None
        };
        transaction.commit()?;
        if let Some(last) = last {
            self.last_groups.insert(queue.id, last);
        }
        self.wake_dead_letter_queue(queue, redriven);
        if taken.is_empty() {
            self.wakers.set_next_wake(&queue.spec.name, next_due);
        } else {
            self.wakers.wake_by(&queue.spec.name, now + visibility_ms);
        }
        Ok((taken, next_due))
    }

    /// Deletes messages by their receipts. A receipt of an earlier receive deletes nothing.
    pub(super) fn delete_messages(
        &mut self,
        queue: i64,
        receipts: &[ReceiptHandle],
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for receipt in receipts {
            transaction
                .prepare_cached(
                    "DELETE FROM messages WHERE id = ?1 AND queue = ?2 AND received = ?3",
                )?
                .execute(params![receipt.message_id, queue, receipt.receive_count])?;
        }
        transaction.commit()
    }

    /// Makes a message in flight visible in `visibility_ms` from now.
    pub(super) fn change_visibility(
        &mut self,
        queue: &StoredQueue,
        receipt: ReceiptHandle,
        visibility_ms: i64,
        now: i64,
    ) -> rusqlite::Result<VisibilityChange> {
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE messages SET visible_ms = :visible
                 WHERE id = :id AND queue = :queue AND received = :received
                    AND ready = 0 AND visible_ms > :now",
            )?
            .execute(named_params! {
                ":id": receipt.message_id, ":queue": queue.id, ":received": receipt.receive_count,
                ":visible": now + visibility_ms, ":now": now,
            })?;
        if changed > 0 {
            self.wakers.wake_by(&queue.spec.name, now + visibility_ms);
            return Ok(VisibilityChange::Changed);
        }
        let exists = self
            .connection
            .prepare_cached("SELECT 1 FROM messages WHERE id = ?1 AND queue = ?2")?
            .exists([receipt.message_id, queue.id])?;
        Ok(if exists {
            VisibilityChange::NotInFlight
        } else {
            VisibilityChange::NoSuchMessage
        })
    }

    pub(super) fn queue_depth(
        &mut self,
        queue: &StoredQueue,
        now: i64,
    ) -> rusqlite::Result<QueueDepth> {
        let transaction = self.connection.transaction()?;
        let redriven = settle_queue(&transaction, queue, now)?;
        let depth = transaction
            .prepare_cached(COUNT_MESSAGES)?
            .query_row([queue.id], |row| {
                Ok(QueueDepth {
                    visible: row.get(0)?,
                    in_flight: row.get(1)?,
                    delayed: row.get(2)?,
                })
            })?;
        transaction.commit()?;
        self.wake_dead_letter_queue(queue, redriven);
        Ok(depth)
    }

    pub(super) fn purge_messages(&self, queue: i64) -> rusqlite::Result<()> {
        self.connection
            .execute("DELETE FROM messages WHERE queue = ?1", [queue])?;
        Ok(())
    }

    fn wake_dead_letter_queue(&self, queue: &StoredQueue, messages: usize) {
        if let Some(redrive) = &queue.spec.redrive {
            self.wakers
                .wake_for_messages(&redrive.dead_letter, messages);
        }
    }
}

fn put_queue(transaction: &Transaction<'_>, spec: &QueueSpec) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO queues (name, visibility_s, delay_s, retention_s, wait_s)
         VALUES (:name, :visibility_s, :delay_s, :retention_s, :wait_s)
         ON CONFLICT (name) DO UPDATE SET visibility_s = :visibility_s, delay_s = :delay_s,
            retention_s = :retention_s, wait_s = :wait_s",
        named_params! {
            ":name": spec.name,
            ":visibility_s": spec.visibility_s,
            ":delay_s": spec.delay_s,
            ":retention_s": spec.retention_s,
            ":wait_s": spec.wait_s,
        },
    )?;
    Ok(())
}

/// False where the dead-letter queue does not exist.
fn put_redrive(transaction: &Transaction<'_>, spec: &QueueSpec) -> rusqlite::Result<bool> {
    let dead_letter: Option<i64> = match &spec.redrive {
        None => None,
        Some(redrive) => {
            let found = transaction
                .query_row(
                    "SELECT id FROM queues WHERE name = ?1",
                    [&redrive.dead_letter],
                    |row| row.get(0),
                )
                .optional()?;
            if found.is_none() {
                return Ok(false);
            }
            found
        }
    };
    transaction.execute(
        "UPDATE queues SET dead_letter = ?2, max_receive_count = ?3 WHERE name = ?1",
        params![
            spec.name,
            dead_letter,
            spec.redrive.as_ref().map(|r| r.max_receive_count)
        ],
    )?;
    Ok(true)
}

fn read_queue(row: &Row<'_>) -> rusqlite::Result<StoredQueue> {
    let (receives, name): (Option<u32>, Option<String>) = (row.get(7)?, row.get(8)?);
    Ok(StoredQueue {
        id: row.get(0)?,
        dead_letter: row.get(6)?,
        spec: QueueSpec {
            name: row.get(1)?,
            visibility_s: row.get(2)?,
            delay_s: row.get(3)?,
            retention_s: row.get(4)?,
            wait_s: row.get(5)?,
            redrive: name
                .zip(receives)
                .map(|(dead_letter, max_receive_count)| Redrive {
                    dead_letter,
                    max_receive_count,
                }),
        },
    })
}

fn insert_message(
    connection: &Connection,
    queue: i64,
    message: &MessageToStore,
    now: i64,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO messages (queue, message_group, body, sent_ms, ready, visible_ms)
             VALUES (:queue, :group, :body, :now, :ready, :visible)",
        )?
        .execute(named_params! {
            ":queue": queue,
            ":group": message.group,
            ":body": message.body,
            ":now": now,
            ":ready": message.delay_ms == 0,
            ":visible": now + message.delay_ms,
        })?;
    Ok(connection.last_insert_rowid())
}

/// Brings a queue up to date: deletes what is too old, redrives what was received too often, makes ready what is due.
/// Returns how many were redriven.
fn settle_queue(
    transaction: &Transaction<'_>,
    queue: &StoredQueue,
    now: i64,
) -> rusqlite::Result<usize> {
    let oldest = now - i64::from(queue.spec.retention_s) * 1000;
    transaction
        .prepare_cached(DELETE_EXPIRED)?
        .execute(named_params! { ":queue": queue.id, ":oldest": oldest })?;
    let redriven = match (queue.dead_letter, &queue.spec.redrive) {
        (Some(dead_letter), Some(redrive)) => transaction
            .prepare_cached(REDRIVE_MESSAGES)?
            .execute(named_params! {
                ":queue": queue.id,
                ":dead_letter": dead_letter,
                ":max_receive_count": redrive.max_receive_count,
                ":now": now,
            })?,
        _ => 0,
    };
    transaction
        .prepare_cached(MAKE_READY)?
        .execute(named_params! { ":queue": queue.id, ":now": now })?;
    Ok(redriven)
}

/// Takes a message of the next group: the one after `last_group`, or the first again.
fn take_from_next_group(
    transaction: &Transaction<'_>,
    queue: i64,
    last_group: Option<&str>,
    visible_ms: i64,
    now: i64,
) -> rusqlite::Result<Option<TakenMessage>> {
    let mut statement = transaction.prepare_cached(TAKE_MESSAGE)?;
    // Groups are printable, so the group right after the last one is at or after this text.
    let after_last = last_group.map(|last| format!("{last}\u{1}"));
    for from in after_last.iter().map(String::as_str).chain([""]) {
        let parameters =
            named_params! { ":queue": queue, ":from": from, ":visible": visible_ms, ":now": now };
        let taken = statement.query_row(parameters, read_message).optional()?;
        if taken.is_some() {
            return Ok(taken);
        }
    }
    Ok(None)
}

fn read_message(row: &Row<'_>) -> rusqlite::Result<TakenMessage> {
    Ok(TakenMessage {
        id: row.get(0)?,
        group: row.get(1)?,
        body: row.get(2)?,
        sent_ms: row.get(3)?,
        receive_count: row.get(4)?,
        first_received_ms: row.get(5)?,
        redriven_from: row.get(6)?,
    })
}
