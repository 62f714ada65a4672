//! Watermarks as attributes, alike in heads and due entries: the digest as 16 bytes, the seq as a number. A product that
//! has a watermark has a seq; its digest may be missing.

use aws_sdk_dynamodb::types::AttributeValue;
use okra_core::{
    model::{
        ids::Seq,
        snapshot::{ByProduct, Product},
    },
    sync::{decide::Watermark, digest::Digest},
};

use crate::{
    StoreError,
    table::{
        attributes::{bytes_value, number_value},
        item::{ItemBuilder, ItemReader},
    },
};

/// The attribute of a product's digest.
pub(crate) const fn digest_attribute(product: Product) -> &'static str {
    match product {
        Product::Balance => "bd",
        Product::Transactions => "td",
    }
}

/// The attribute of a product's seq.
pub(crate) const fn seq_attribute(product: Product) -> &'static str {
    match product {
        Product::Balance => "bq",
        Product::Transactions => "tq",
    }
}

/// The attribute of the last change of state: committed, in a head; dispatched, in a due entry.
pub(crate) const STATE_SEQ_ATTRIBUTE: &str = "sq";

pub(crate) fn digest_value(watermark: &Watermark) -> Option<AttributeValue> {
    watermark.digest.map(|digest| bytes_value(digest.0))
}

pub(crate) fn write_watermarks(
    builder: ItemBuilder,
    watermarks: &ByProduct<Watermark>,
) -> ItemBuilder {
    watermarks
        .iter()
        .fold(builder, |builder, (product, watermark)| {
            builder
                .with_attribute(seq_attribute(product), number_value(watermark.seq))
                .with_optional(digest_attribute(product), digest_value(watermark))
        })
}

pub(crate) fn read_watermarks(reader: &ItemReader<'_>) -> Result<ByProduct<Watermark>, StoreError> {
    let mut watermarks = ByProduct::default();
    for product in Product::ALL {
        let Some(seq) = reader.read_optional(seq_attribute(product), ItemReader::read_number)?
        else {
            continue;
        };
        let digest = reader.read_optional(digest_attribute(product), |reader, name| {
            let bytes: [u8; 16] = reader
                .read_bytes(name)?
                .try_into()
                .map_err(|_| reader.corrupt_error(name))?;
            Ok(Digest(bytes))
        })?;
        *watermarks.get_mut(product) = Some(Watermark {
            digest,
            seq: Seq(seq),
        });
    }
    Ok(watermarks)
}
