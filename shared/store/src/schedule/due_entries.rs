//! Due entries: which records a slot is for, and what was last dispatched of them.
//!
//! All that an unchanged refresh reads besides the consent, and thousands are read at once: an
//! entry is at most 163 bytes.

use futures::future::try_join_all;
use okra_core::{
    model::{
        ids::{BankId, RecordId, Seq},
        interval::{DueKey, Interval, LANES_PER_SLOT, Lane, Slot},
        snapshot::{ByProduct, Product},
    },
    resilience::failure_state::FailureState,
    schedule::plan::DueEntry,
    sync::decide::Watermark,
};

use crate::{
    Consistency, Store, StoreError,
    records::watermarks::{
        self, STATE_SEQ_ATTRIBUTE, digest_attribute, digest_value, seq_attribute,
    },
    table::{
        call::{KeyRange, ReadLimit},
        expression::{Condition, ItemUpdate},
        item::{Attributes, ItemBuilder, ItemReader, Key, bytes_value, number_value},
    },
};

/// Due entries of one lane of a slot at most: 16 times as many as 10^7 hourly records make.
pub const MAX_DUE_PER_LANE: usize = 166_667;

const KIND: &str = "due entry";

/// The attribute of what was wrong with the last refresh.
const FAILURE_STATE_ATTRIBUTE: &str = "f";

fn due_partition(interval: Interval, slot: Slot, lane: Lane) -> String {
    format!("DUE#{interval}#{:04}#{:02}", slot.0, lane.0)
}

pub(crate) fn due_entry_key(due_key: &DueKey) -> Key {
    Key::new(
        due_partition(due_key.interval, due_key.slot(), due_key.lane()),
        format!("{}#{}", due_key.bank, due_key.record),
    )
}

fn parse_due_sort_key(text: &str) -> Option<(BankId, RecordId)> {
    let (bank, record) = text.split_once('#')?;
    Some((bank.parse().ok()?, record.parse().ok()?))
}

pub(crate) fn write_due_entry(entry: &DueEntry) -> Attributes {
    watermarks::write_watermarks(
        ItemBuilder::new(due_entry_key(&entry.key)),
        &entry.watermarks,
    )
    .with_optional(STATE_SEQ_ATTRIBUTE, entry.state_seq.map(number_value))
    .with_optional(
        FAILURE_STATE_ATTRIBUTE,
        entry
            .failure_state
            .as_ref()
            .map(|it| bytes_value(it.to_bytes())),
    )
    .build()
}

fn read_due_entry(interval: Interval, item: &Attributes) -> Result<DueEntry, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let (bank, record) =
        parse_due_sort_key(reader.read_text("sk")?).ok_or_else(|| reader.corrupt_error("sk"))?;
    Ok(DueEntry {
        key: DueKey {
            interval,
            bank,
            record,
        },
        watermarks: watermarks::read_watermarks(&reader)?,
        state_seq: reader
            .read_optional(STATE_SEQ_ATTRIBUTE, ItemReader::read_number)?
            .map(Seq),
        failure_state: reader.read_optional(FAILURE_STATE_ATTRIBUTE, |reader, name| {
            FailureState::from_bytes(reader.read_bytes(name)?)
                .ok_or_else(|| reader.corrupt_error(name))
        })?,
    })
}

/// How far one stream was dispatched.
#[derive(Clone)]
enum DueEntryChange {
    ProductWatermark(Product, Watermark),
    StateSeq(Seq),
    FailureState(Option<FailureState>),
}

/// Moves the marks of streams that the entry holds, none of them backwards.
fn advance_update(due_key: &DueKey, changes: &[DueEntryChange]) -> ItemUpdate {
    changes.iter().fold(
        ItemUpdate::new(due_entry_key(due_key)),
        |update, step| match step {
            DueEntryChange::ProductWatermark(product, mark) => update
                .set_attribute(seq_attribute(*product), number_value(mark.seq))
                .set_or_remove(digest_attribute(*product), digest_value(mark))
                .with_condition(Condition::AtMost(
                    seq_attribute(*product),
                    number_value(mark.seq),
                )),
            DueEntryChange::StateSeq(seq) => update
                .set_attribute(STATE_SEQ_ATTRIBUTE, number_value(seq))
                .with_condition(Condition::AtMost(STATE_SEQ_ATTRIBUTE, number_value(seq))),
            DueEntryChange::FailureState(trouble) => update
                .set_or_remove(
                    FAILURE_STATE_ATTRIBUTE,
                    trouble.as_ref().map(|it| bytes_value(it.to_bytes())),
                )
                .with_condition(Condition::Exists),
        },
    )
}

impl Store {
    /// The due entries of a slot, those of a bank together within each lane. Read eventually: an entry
    /// that shows an older mark only costs a strong read later.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_DUE_PER_LANE`] in one of its lanes.
    pub async fn list_due_entries(
        &self,
        interval: Interval,
        slot: Slot,
    ) -> Result<Vec<DueEntry>, StoreError> {
        let lanes = (0..LANES_PER_SLOT).map(|lane| async move {
            let range = KeyRange::whole_partition(due_partition(interval, slot, Lane(lane)));
            let take = ReadLimit::All {
                bound: MAX_DUE_PER_LANE,
                what: "due entries of a lane",
            };
            let items = self.query_range(range, take, Consistency::Eventual).await?;
            items
                .iter()
                .map(|item| read_due_entry(interval, item))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
    }

    /// How many due entries of a slot are of a bank; read eventually. What other intervals ask of a
    /// bank in the same minute is seen by it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_DUE_PER_LANE`] in one of its lanes.
    pub async fn count_due_of_bank(
        &self,
        interval: Interval,
        slot: Slot,
        bank: BankId,
    ) -> Result<usize, StoreError> {
        let lanes = (0..LANES_PER_SLOT).map(|lane| async move {
            let range = KeyRange::with_prefix(
                due_partition(interval, slot, Lane(lane)),
                &format!("{bank}#"),
            );
            let take = ReadLimit::All {
                bound: MAX_DUE_PER_LANE,
                what: "due entries of a lane",
            };
            let items = self.query_range(range, take, Consistency::Eventual).await?;
            Ok::<_, StoreError>(items.len())
        });
        Ok(try_join_all(lanes).await?.into_iter().sum())
    }

    /// One due entry.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_due_entry(
        &self,
        due_key: DueKey,
        consistency: Consistency,
    ) -> Result<Option<DueEntry>, StoreError> {
        let item = self.get_item(due_entry_key(&due_key), consistency).await?;
        item.as_ref()
            .map(|item| read_due_entry(due_key.interval, item))
            .transpose()
    }

    /// Those of these due entries that there are, in any order; read eventually. No key may be there
    /// twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_due_entries(&self, due_keys: &[DueKey]) -> Result<Vec<DueEntry>, StoreError> {
        let keys = due_keys.iter().map(due_entry_key).collect();
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| {
                let reader = ItemReader::new(KIND, item);
                let interval = reader.read_text("pk")?.split('#').nth(1);
                let interval = interval.and_then(|it| it.parse().ok());
                read_due_entry(interval.ok_or_else(|| reader.corrupt_error("pk"))?, item)
            })
            .collect()
    }

    /// Moves the marks of a due entry, and its state watermark, forward: what they say was dispatched.
    /// A stream whose stored mark is further, or that is not on this interval any more, is left alone.
    /// True where every stream was moved. `trouble` takes the place of what was known of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn settle_due_entry(
        &self,
        due_key: DueKey,
        watermarks: ByProduct<Watermark>,
        state_seq: Option<Seq>,
        failure_state: Option<FailureState>,
    ) -> Result<bool, StoreError> {
        self.apply_changes(
            due_key,
            watermarks,
            state_seq,
            Some(DueEntryChange::FailureState(failure_state)),
        )
        .await
    }

    /// [`settle`](Self::settle) that leaves alone what is known of trouble.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn advance_watermarks(
        &self,
        due_key: DueKey,
        watermarks: ByProduct<Watermark>,
        state_seq: Option<Seq>,
    ) -> Result<bool, StoreError> {
        self.apply_changes(due_key, watermarks, state_seq, None)
            .await
    }

    async fn apply_changes(
        &self,
        due_key: DueKey,
        watermarks: ByProduct<Watermark>,
        state_seq: Option<Seq>,
        failure_change: Option<DueEntryChange>,
    ) -> Result<bool, StoreError> {
        let products = watermarks
            .iter()
            .map(|(product, mark)| DueEntryChange::ProductWatermark(product, *mark));
        let streams = products.chain(state_seq.map(DueEntryChange::StateSeq));
        let steps: Vec<DueEntryChange> = streams.chain(failure_change).collect();
        if steps.is_empty() || self.update_item(advance_update(&due_key, &steps)).await? {
            return Ok(true);
        }
        if steps.len() > 1 {
            for step in steps {
                self.update_item(advance_update(&due_key, &[step])).await?;
            }
        }
        Ok(false)
    }

    /// Forgets what a due entry knows of its bank's answers, so that its next refresh reads strongly
    /// whatever the bank says. Done before a change of state is committed: a crash after the commit
    /// is then found as it is for products.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn clear_due_digests(&self, due_key: DueKey) -> Result<(), StoreError> {
        let update = Product::ALL.into_iter().fold(
            ItemUpdate::new(due_entry_key(&due_key)).with_condition(Condition::Exists),
            |update, product| update.remove_attribute(digest_attribute(product)),
        );
        self.update_item(update).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::sync::digest::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::table::item::item_size;

    /// Bytes of a due entry at most: 25 of them make a 4 KB read unit, but for those of which some
    /// accounts are left alone, which have eight bytes more.
    const MAX_DUE_BYTES: usize = 171;

    fn any_watermark() -> impl Strategy<Value = Watermark> {
        (any::<Option<[u8; 16]>>(), any::<u64>()).prop_map(|(digest, seq)| Watermark {
            digest: digest.map(Digest),
            seq: Seq(seq),
        })
    }

    prop_compose! {
        fn entry()(
            interval in prop::sample::select(Interval::ALL.to_vec()),
            bank: [u8; 12],
            record: [u8; 12],
            balance in prop::option::of(any_watermark()),
            transactions in prop::option::of(any_watermark()),
            state in prop::option::of(any::<u64>()),
            trouble in prop::option::of((any::<[u8; 8]>(), 0..u64::MAX)),
        ) -> DueEntry {
            DueEntry {
                key: DueKey {
                    interval,
                    bank: BankId::from_bytes(bank),
                    record: RecordId::from_bytes(record),
                },
                watermarks: ByProduct { balance, transactions },
                state_seq: state.map(Seq),
                failure_state: trouble.and_then(|(bytes, places)| {
                    let bytes = [bytes.as_slice(), &places.to_be_bytes()].concat();
                    // As it is written: nothing is left alone until no time.
                    FailureState::from_bytes(&FailureState::from_bytes(&bytes)?.to_bytes())
                }),
            }
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_item_and_is_small(entry in entry()) {
            let item = write_due_entry(&entry);
            prop_assert_eq!(read_due_entry(entry.key.interval, &item).unwrap(), entry);
            prop_assert!(item_size(&item) <= MAX_DUE_BYTES, "{} bytes", item_size(&item));
        }

        #[test]
        fn the_entries_of_a_bank_lie_together(a in entry(), b in entry()) {
            let order = |entry: &DueEntry| (entry.key.bank, entry.key.record);
            prop_assert_eq!(due_entry_key(&a.key).sk.cmp(&due_entry_key(&b.key).sk), order(&a).cmp(&order(&b)));
        }
    }
}
