//! Due entries: which records a slot is for, and what was last dispatched of them.
//!
//! All that an unchanged refresh reads besides the consent, and thousands are read at once: an
//! entry is at most 160 bytes.

use futures::future::try_join_all;
use okra_core::{
    decide::Mark,
    ids::{BankId, RecordId},
    model::{ByProduct, Product},
    plan::DueEntry,
    schedule::{DueKey, Interval, LANES, Lane, Slot},
};

use crate::{
    Consistency, Store, StoreError,
    call::{Range, Take},
    expression::{Update, When},
    item::{Attributes, Draft, Key, Reader, n},
    marks::{self, digest_name, digest_value, seq_name},
};

/// Due entries of one lane of a slot at most: 16 times as many as 10^7 hourly records make.
pub const MAX_DUE_PER_LANE: usize = 166_667;

const KIND: &str = "due entry";

fn partition(interval: Interval, slot: Slot, lane: Lane) -> String {
    format!("DUE#{interval}#{:04}#{:02}", slot.0, lane.0)
}

pub(crate) fn key(of: &DueKey) -> Key {
    Key::new(
        partition(of.interval, of.slot(), of.lane()),
        format!("{}#{}", of.bank, of.record),
    )
}

fn parse_sort_key(text: &str) -> Option<(BankId, RecordId)> {
    let (bank, record) = text.split_once('#')?;
    Some((bank.parse().ok()?, record.parse().ok()?))
}

pub(crate) fn write(entry: &DueEntry) -> Attributes {
    marks::write(Draft::new(key(&entry.key)), &entry.marks).done()
}

fn read(interval: Interval, item: &Attributes) -> Result<DueEntry, StoreError> {
    let reader = Reader::new(KIND, item);
    let (bank, record) = parse_sort_key(reader.text("sk")?).ok_or_else(|| reader.corrupt("sk"))?;
    Ok(DueEntry {
        key: DueKey {
            interval,
            bank,
            record,
        },
        marks: marks::read(&reader)?,
    })
}

/// Moves the marks of products that the entry holds, none of them backwards.
fn forward(of: &DueKey, products: &[(Product, Mark)]) -> Update {
    products
        .iter()
        .fold(Update::new(key(of)), |update, (product, mark)| {
            update
                .set(seq_name(*product), n(mark.seq))
                .assign(digest_name(*product), digest_value(mark))
                .when(When::AtMost(seq_name(*product), n(mark.seq)))
        })
}

impl Store {
    /// The due entries of a slot, those of a bank together within each lane. Read eventually: an entry
    /// that shows an older mark only costs a strong read later.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_DUE_PER_LANE`] in one of its lanes.
    pub async fn due(&self, interval: Interval, slot: Slot) -> Result<Vec<DueEntry>, StoreError> {
        let lanes = (0..LANES).map(|lane| async move {
            let range = Range::all(partition(interval, slot, Lane(lane)));
            let take = Take::All {
                bound: MAX_DUE_PER_LANE,
                what: "due entries of a lane",
            };
            let items = self.query(range, take, Consistency::Eventual).await?;
            items
                .iter()
                .map(|item| read(interval, item))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
    }

    /// One due entry.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn due_entry(
        &self,
        of: DueKey,
        consistency: Consistency,
    ) -> Result<Option<DueEntry>, StoreError> {
        let item = self.get(key(&of), consistency).await?;
        item.as_ref()
            .map(|item| read(of.interval, item))
            .transpose()
    }

    /// Moves the marks of a due entry forward: what they say was dispatched. A product whose stored
    /// mark is further, or that is not on this interval any more, is left alone. True where every
    /// product was moved.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn advance(&self, of: DueKey, marks: ByProduct<Mark>) -> Result<bool, StoreError> {
        let products: Vec<(Product, Mark)> = marks
            .iter()
            .map(|(product, mark)| (product, *mark))
            .collect();
        if products.is_empty() || self.update(forward(&of, &products)).await? {
            return Ok(true);
        }
        if products.len() > 1 {
            for product in products {
                self.update(forward(&of, &[product])).await?;
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::{ids::Seq, normal::Digest};
    use proptest::prelude::*;

    use super::*;
    use crate::item::size;

    /// Bytes of a due entry at most: 25 of them make a 4 KB read unit.
    const MAX_DUE_BYTES: usize = 160;

    fn mark() -> impl Strategy<Value = Mark> {
        (any::<Option<[u8; 16]>>(), any::<u64>()).prop_map(|(digest, seq)| Mark {
            digest: digest.map(Digest),
            seq: Seq(seq),
        })
    }

    prop_compose! {
        fn entry()(
            interval in prop::sample::select(Interval::ALL.to_vec()),
            bank: [u8; 12],
            record: [u8; 12],
            balance in prop::option::of(mark()),
            transactions in prop::option::of(mark()),
        ) -> DueEntry {
            DueEntry {
                key: DueKey {
                    interval,
                    bank: BankId::from_bytes(bank),
                    record: RecordId::from_bytes(record),
                },
                marks: ByProduct { balance, transactions },
            }
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_item_and_is_small(entry in entry()) {
            let item = write(&entry);
            prop_assert_eq!(read(entry.key.interval, &item).unwrap(), entry);
            prop_assert!(size(&item) <= MAX_DUE_BYTES, "{} bytes", size(&item));
        }

        #[test]
        fn the_entries_of_a_bank_lie_together(a in entry(), b in entry()) {
            let order = |entry: &DueEntry| (entry.key.bank, entry.key.record);
            prop_assert_eq!(key(&a.key).sk.cmp(&key(&b.key).sk), order(&a).cmp(&order(&b)));
        }
    }
}
