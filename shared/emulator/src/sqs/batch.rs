//! Batches: what makes one valid, and entries that are served one by one.

use std::collections::HashSet;

use super::{
    error::SqsError,
    limits::{MAX_BATCH, MAX_ENTRY_ID_CHARS},
    wire::{BatchEntry, BatchResponse, BatchSuccess, EmptyResponse},
};

/// Serves the entries of a batch one by one: one that fails does not affect the others.
pub(super) fn serve_each_entry<T>(
    entries: Vec<BatchEntry<T>>,
    mut serve_entry: impl FnMut(T) -> Result<(), SqsError>,
) -> BatchResponse<EmptyResponse> {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for BatchEntry { id, entry } in entries {
        match serve_entry(entry) {
            Ok(()) => successful.push(BatchSuccess {
                id,
                result: EmptyResponse {},
            }),
            Err(error) => failed.push(error.to_batch_failure(&id)),
        }
    }
    BatchResponse { successful, failed }
}

/// Rejects a batch that SQS would reject as a whole.
pub(super) fn validate_batch<T>(entries: &[BatchEntry<T>]) -> Result<(), SqsError> {
    if entries.is_empty() {
        return Err(SqsError::EmptyBatch);
    }
    if entries.len() > MAX_BATCH {
        return Err(SqsError::TooManyEntries(entries.len()));
    }
    let mut seen = HashSet::new();
    for BatchEntry { id, .. } in entries {
        if id.is_empty() || id.len() > MAX_ENTRY_ID_CHARS || !id.chars().all(is_entry_id_char) {
            return Err(SqsError::InvalidEntryId);
        }
        if !seen.insert(id) {
            return Err(SqsError::RepeatedId(id.clone()));
        }
    }
    Ok(())
}

const fn is_entry_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
