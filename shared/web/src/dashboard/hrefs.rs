//! The addresses of the dashboard's pages.

use okra_core::model::ids::{RecordId, Seq};

/// The page of a record that lists a change.
pub(crate) fn change_href(record: RecordId, seq: Seq) -> String {
    let before = seq.0.saturating_add(1);
    format!("/dashboard/records/{record}?before={before}#seq-{seq}")
}

/// A page of the delivery log, or one below it, with these parameters; those that are empty are left out.
pub(crate) fn log_href(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    // Pairs of texts are always encodable.
    let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
    format!("/dashboard/deliveries{path}?{query}")
}
