//! Due entries: which records a slot is for, and what was last dispatched of them.
//!
//! All that an unchanged refresh reads besides the consent, and thousands are read at once: an
//! entry is at most 163 bytes.

use futures::future::try_join_all;
use okra_core::{
    decide::Mark,
    ids::{BankId, RecordId, Seq},
    model::{ByProduct, Product},
    plan::DueEntry,
    schedule::{DueKey, Interval, LANES, Lane, Slot},
    trouble::Trouble,
};

use crate::{
    Consistency, Store, StoreError,
    call::{Range, Take},
    expression::{Update, When},
    item::{Attributes, Draft, Key, Reader, bytes, n},
    marks::{self, STATE_SEQ, digest_name, digest_value, seq_name},
};

/// Due entries of one lane of a slot at most: 16 times as many as 10^7 hourly records make.
pub const MAX_DUE_PER_LANE: usize = 166_667;

const KIND: &str = "due entry";

/// The attribute of what was wrong with the last refresh.
const TROUBLE: &str = "f";

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
    marks::write(Draft::new(key(&entry.key)), &entry.marks)
        .maybe(STATE_SEQ, entry.state.map(n))
        .maybe(TROUBLE, entry.trouble.map(|it| bytes(it.to_bytes())))
        .done()
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
        state: reader.optional(STATE_SEQ, Reader::number)?.map(Seq),
        trouble: reader.optional(TROUBLE, |reader, name| {
            Trouble::from_bytes(reader.bytes(name)?).ok_or_else(|| reader.corrupt(name))
        })?,
    })
}

/// How far one stream was dispatched.
#[derive(Clone, Copy)]
enum Step {
    Product(Product, Mark),
    State(Seq),
    Trouble(Option<Trouble>),
}

/// Moves the marks of streams that the entry holds, none of them backwards.
fn forward(of: &DueKey, steps: &[Step]) -> Update {
    steps
        .iter()
        .fold(Update::new(key(of)), |update, step| match step {
            Step::Product(product, mark) => update
                .set(seq_name(*product), n(mark.seq))
                .assign(digest_name(*product), digest_value(mark))
                .when(When::AtMost(seq_name(*product), n(mark.seq))),
            Step::State(seq) => update
                .set(STATE_SEQ, n(seq))
                .when(When::AtMost(STATE_SEQ, n(seq))),
            Step::Trouble(trouble) => update
                .assign(TROUBLE, trouble.map(|it| bytes(it.to_bytes())))
                .when(When::Exists),
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

    /// How many due entries of a slot are of a bank; read eventually. What other intervals ask of a
    /// bank in the same minute is seen by it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_DUE_PER_LANE`] in one of its lanes.
    pub async fn due_of_bank(
        &self,
        interval: Interval,
        slot: Slot,
        bank: BankId,
    ) -> Result<usize, StoreError> {
        let lanes = (0..LANES).map(|lane| async move {
            let range = Range::prefix(partition(interval, slot, Lane(lane)), &format!("{bank}#"));
            let take = Take::All {
                bound: MAX_DUE_PER_LANE,
                what: "due entries of a lane",
            };
            let items = self.query(range, take, Consistency::Eventual).await?;
            Ok::<_, StoreError>(items.len())
        });
        Ok(try_join_all(lanes).await?.into_iter().sum())
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

    /// Those of these due entries that there are, in any order; read eventually. No key may be there
    /// twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn due_entries(&self, of: &[DueKey]) -> Result<Vec<DueEntry>, StoreError> {
        let keys = of.iter().map(key).collect();
        let items = self.batch_get(keys, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| {
                let reader = Reader::new(KIND, item);
                let interval = reader.text("pk")?.split('#').nth(1);
                let interval = interval.and_then(|it| it.parse().ok());
                read(interval.ok_or_else(|| reader.corrupt("pk"))?, item)
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
    pub async fn settle(
        &self,
        of: DueKey,
        marks: ByProduct<Mark>,
        state: Option<Seq>,
        trouble: Option<Trouble>,
    ) -> Result<bool, StoreError> {
        self.take(of, marks, state, Some(Step::Trouble(trouble)))
            .await
    }

    /// [`settle`](Self::settle) that leaves alone what is known of trouble.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn advance(
        &self,
        of: DueKey,
        marks: ByProduct<Mark>,
        state: Option<Seq>,
    ) -> Result<bool, StoreError> {
        self.take(of, marks, state, None).await
    }

    async fn take(
        &self,
        of: DueKey,
        marks: ByProduct<Mark>,
        state: Option<Seq>,
        trouble: Option<Step>,
    ) -> Result<bool, StoreError> {
        let products = marks
            .iter()
            .map(|(product, mark)| Step::Product(product, *mark));
        let streams = products.chain(state.map(Step::State));
        let steps: Vec<Step> = streams.chain(trouble).collect();
        if steps.is_empty() || self.update(forward(&of, &steps)).await? {
            return Ok(true);
        }
        if steps.len() > 1 {
            for step in steps {
                self.update(forward(&of, &[step])).await?;
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
    pub async fn unsettle(&self, of: DueKey) -> Result<(), StoreError> {
        let update = Product::ALL.into_iter().fold(
            Update::new(key(&of)).when(When::Exists),
            |update, product| update.remove(digest_name(product)),
        );
        self.update(update).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::normal::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::item::size;

    /// Bytes of a due entry at most: 25 of them make a 4 KB read unit, but for those of which some
    /// accounts are left alone, which have eight bytes more.
    const MAX_DUE_BYTES: usize = 171;

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
            state in prop::option::of(any::<u64>()),
            trouble in prop::option::of((any::<[u8; 8]>(), 0..u64::MAX)),
        ) -> DueEntry {
            DueEntry {
                key: DueKey {
                    interval,
                    bank: BankId::from_bytes(bank),
                    record: RecordId::from_bytes(record),
                },
                marks: ByProduct { balance, transactions },
                state: state.map(Seq),
                trouble: trouble.and_then(|(bytes, places)| {
                    let bytes = [bytes.as_slice(), &places.to_be_bytes()].concat();
                    // As it is written: nothing is left alone until no time.
                    Trouble::from_bytes(&Trouble::from_bytes(&bytes)?.to_bytes())
                }),
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
