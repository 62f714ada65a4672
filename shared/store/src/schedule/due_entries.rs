//! Due entries: which records are refreshed in a slot, and what was last dispatched of them. A due entry is all that an
//! unchanged refresh reads besides the consent, and thousands are read at once: an entry is at most 171 bytes.

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join_all;
use okra_core::{
    model::{
        ids::{BankId, Seq},
        interval::{DueKey, Interval, LANES_PER_SLOT, Lane, Slot},
        snapshot::{ByProduct, Product},
    },
    resilience::failure_state::FailureState,
    schedule::plan::DueEntry,
    sync::decide::Watermark,
};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    records::watermarks::{
        self, STATE_SEQ_ATTRIBUTE, digest_attribute, digest_value, seq_attribute,
    },
    table::{
        attributes::{Attributes, bytes_value, number_value},
        expression::{Condition, ItemUpdate},
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, ReadLimit},
    },
};

/// Due entries of one lane of a slot at most: 16 times as many as 10^7 hourly records result in.
pub const MAX_DUE_PER_LANE: usize = 166_667;

const KIND: &str = "due entry";

/// The attribute of what is known of failed refreshes.
const FAILURE_STATE_ATTRIBUTE: &str = "f";

pub(crate) fn write_due_entry(entry: &DueEntry) -> Attributes {
    watermarks::write_watermarks(
        ItemBuilder::new(Key::DueEntry(entry.key)),
        &entry.watermarks,
    )
    .with_optional(STATE_SEQ_ATTRIBUTE, entry.state_seq.map(number_value))
    .with_optional(
        FAILURE_STATE_ATTRIBUTE,
        entry.failure_state.as_ref().map(failure_state_value),
    )
    .build()
}

fn failure_state_value(state: &FailureState) -> AttributeValue {
    bytes_value(state.to_bytes())
}

fn read_due_entry(item: &Attributes) -> Result<DueEntry, StoreError> {
    let reader = ItemReader::new(KIND, item);
    Ok(DueEntry {
        key: reader.parse_key(key::parse_due_key)?,
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

/// One change of a due entry: how far a stream was dispatched, or how its refresh failed.
#[derive(Clone)]
enum DueEntryChange {
    ProductWatermark(Product, Watermark),
    StateSeq(Seq),
    FailureState(Option<FailureState>),
}

/// Moves the watermarks of streams that the entry holds, none of them backwards.
fn advance_update(due_key: &DueKey, changes: &[DueEntryChange]) -> ItemUpdate {
    changes.iter().fold(
        ItemUpdate::new(Key::DueEntry(*due_key)),
        |update, change| match change {
            DueEntryChange::ProductWatermark(product, watermark) => update
                .set_attribute(seq_attribute(*product), number_value(watermark.seq))
                .set_or_remove(digest_attribute(*product), digest_value(watermark))
                .with_condition(Condition::AtMost(
                    seq_attribute(*product),
                    number_value(watermark.seq),
                )),
            DueEntryChange::StateSeq(seq) => update
                .set_attribute(STATE_SEQ_ATTRIBUTE, number_value(seq))
                .with_condition(Condition::AtMost(STATE_SEQ_ATTRIBUTE, number_value(seq))),
            DueEntryChange::FailureState(failure_state) => update
                .set_or_remove(
                    FAILURE_STATE_ATTRIBUTE,
                    failure_state.as_ref().map(failure_state_value),
                )
                .with_condition(Condition::Exists),
        },
    )
}

impl Store {
    /// The due entries of a slot, those of a bank together within each lane. Read eventually: an entry
    /// that shows an older watermark only costs a strong read later.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_due_entries(
        &self,
        interval: Interval,
        slot: Slot,
    ) -> Result<Vec<DueEntry>, StoreError> {
        let lanes = (0..LANES_PER_SLOT).map(|lane| async move {
            let range = KeyRange::whole_partition(key::due_partition(interval, slot, Lane(lane)));
            let limit = ReadLimit::Capped {
                bound: MAX_DUE_PER_LANE,
                what: "due entries of a lane",
            };
            let items = self
                .query_range(range, limit, Consistency::Eventual)
                .await?;
            items
                .iter()
                .map(read_due_entry)
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
    }

    /// How many due entries of a slot are of a bank; read eventually. It shows how many calls other intervals make to a
    /// bank in the same minute.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn count_due_of_bank(
        &self,
        interval: Interval,
        slot: Slot,
        bank: BankId,
    ) -> Result<usize, StoreError> {
        let lanes = (0..LANES_PER_SLOT).map(|lane| async move {
            let range = KeyRange::with_prefix(
                key::due_partition(interval, slot, Lane(lane)),
                &key::due_bank_prefix(bank),
            );
            let limit = ReadLimit::Capped {
                bound: MAX_DUE_PER_LANE,
                what: "due entries of a lane",
            };
            let items = self
                .query_range(range, limit, Consistency::Eventual)
                .await?;
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
        let item = self.get_item(Key::DueEntry(due_key), consistency).await?;
        item.as_ref().map(read_due_entry).transpose()
    }

    /// The due entries of these keys that exist, in any order; read eventually. No key may be there
    /// twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_due_entries(&self, due_keys: &[DueKey]) -> Result<Vec<DueEntry>, StoreError> {
        let keys = due_keys.iter().copied().map(Key::DueEntry);
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        items.iter().map(read_due_entry).collect()
    }

    /// Moves the watermarks of a due entry and its state seq forward: what they cover was dispatched.
    /// A stream whose stored watermark is further, or that is not on this interval any more, stays as it is.
    /// True where every stream was moved. `failure_state` takes the place of the stored one.
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

    /// [`settle_due_entry`](Self::settle_due_entry) that leaves the failure state as it is.
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
            .map(|(product, watermark)| DueEntryChange::ProductWatermark(product, *watermark));
        let streams = products.chain(state_seq.map(DueEntryChange::StateSeq));
        let changes: Vec<DueEntryChange> = streams.chain(failure_change).collect();
        if changes.is_empty() || self.update_item(advance_update(&due_key, &changes)).await? {
            return Ok(true);
        }
        // One of them does not apply: each is tried alone, so that the others are made.
        if changes.len() > 1 {
            for change in changes {
                self.update_item(advance_update(&due_key, &[change]))
                    .await?;
            }
        }
        Ok(false)
    }

    /// Removes the digests of a due entry, so that its next refresh reads the head strongly whatever the bank responds.
    /// Done before a change of state is committed: a crash after the commit is then found as it is for products.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn clear_due_digests(&self, due_key: DueKey) -> Result<(), StoreError> {
        let update = Product::ALL.into_iter().fold(
            ItemUpdate::new(Key::DueEntry(due_key)).with_condition(Condition::Exists),
            |update, product| update.remove_attribute(digest_attribute(product)),
        );
        self.update_item(update).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::{model::ids::RecordId, sync::digest::Digest};
    use proptest::prelude::*;

    use super::*;
    use crate::table::attributes::item_size;

    /// Bytes of a due entry at most: 25 of them are a 4 KB read unit, but for those with suspended products, which have
    /// eight bytes more.
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
            failure in prop::option::of((any::<[u8; 8]>(), 0..u64::MAX)),
        ) -> DueEntry {
            DueEntry {
                key: DueKey {
                    interval,
                    bank: BankId::from_bytes(bank),
                    record: RecordId::from_bytes(record),
                },
                watermarks: ByProduct { balance, transactions },
                state_seq: state.map(Seq),
                failure_state: failure.and_then(|(bytes, suspended)| {
                    let bytes = [bytes.as_slice(), &suspended.to_be_bytes()].concat();
                    // As it is written: without an end of the suspension nothing is suspended.
                    FailureState::from_bytes(&FailureState::from_bytes(&bytes)?.to_bytes())
                }),
            }
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_item_and_is_small(entry in entry()) {
            let item = write_due_entry(&entry);
            prop_assert_eq!(read_due_entry(&item).unwrap(), entry);
            prop_assert!(item_size(&item) <= MAX_DUE_BYTES, "{} bytes", item_size(&item));
        }

    }
}
