//! Marks as attributes, alike in heads and due entries: the digest as 16 bytes, the sequence number
//! as a number. A product that is there has a sequence number; its digest may be missing.

use okra_core::{
    decide::Mark,
    ids::Seq,
    model::{ByProduct, Product},
    normal::Digest,
};

use crate::{
    StoreError,
    item::{Draft, Reader, bytes, n},
};

/// The attribute of a product's digest.
pub(crate) const fn digest_name(product: Product) -> &'static str {
    match product {
        Product::Balance => "bd",
        Product::Transactions => "td",
    }
}

/// The attribute of a product's sequence number.
pub(crate) const fn seq_name(product: Product) -> &'static str {
    match product {
        Product::Balance => "bq",
        Product::Transactions => "tq",
    }
}

/// The attribute of the last change of state: committed, in a head; dispatched, in a due entry.
pub(crate) const STATE_SEQ: &str = "sq";

pub(crate) fn digest_value(mark: &Mark) -> Option<aws_sdk_dynamodb::types::AttributeValue> {
    mark.digest.map(|digest| bytes(digest.0))
}

pub(crate) fn write(draft: Draft, marks: &ByProduct<Mark>) -> Draft {
    marks.iter().fold(draft, |draft, (product, mark)| {
        draft
            .with(seq_name(product), n(mark.seq))
            .maybe(digest_name(product), digest_value(mark))
    })
}

pub(crate) fn read(reader: &Reader<'_>) -> Result<ByProduct<Mark>, StoreError> {
    let mut marks = ByProduct::default();
    for product in Product::ALL {
        let Some(seq) = reader.optional(seq_name(product), Reader::number)? else {
            continue;
        };
        let digest = reader.optional(digest_name(product), |reader, name| {
            let bytes: [u8; 16] = reader
                .bytes(name)?
                .try_into()
                .map_err(|_| reader.corrupt(name))?;
            Ok(Digest(bytes))
        })?;
        *marks.slot(product) = Some(Mark {
            digest,
            seq: Seq(seq),
        });
    }
    Ok(marks)
}
