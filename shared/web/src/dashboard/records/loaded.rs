//! [`LoadedRecords`]: the app's records for pages that count over all of them, up to a bound.

use okra_store::RecordHead;

use super::super::session::AppSession;
use crate::{components::format::format_count, page_error::PageError, web_state::WebState};

/// Records that a search or a count examines at most.
pub(crate) const MAX_RECORDS_SCANNED: usize = 2000;

/// The app's records, as many as are read.
pub(crate) struct LoadedRecords {
    pub(crate) items: Vec<RecordHead>,
    /// The app has more than these.
    pub(crate) has_more: bool,
}

impl LoadedRecords {
    /// A figure counted over them, with a plus sign where the app has more.
    pub(crate) fn qualify_figure(&self, text: impl std::fmt::Display) -> String {
        let more = if self.has_more { "+" } else { "" };
        format!("{text}{more}")
    }

    /// The note of a figure, with the number of records it was counted over where the app has more.
    pub(crate) fn qualify_note(&self, what: &str) -> String {
        match self.has_more {
            true => format!("{what}, of the first {}", format_count(self.items.len())),
            false => what.to_owned(),
        }
    }
}

/// The app's records, [`MAX_RECORDS_SCANNED`] at most.
pub(crate) async fn load_records(
    web: &WebState,
    session: &AppSession,
) -> Result<LoadedRecords, PageError> {
    const BATCH: usize = 100;
    let (mut items, mut after) = (Vec::new(), None);
    while items.len() < MAX_RECORDS_SCANNED {
        let page = web
            .services
            .store
            .list_records_of_app(session.app().id, after, BATCH)
            .await?;
        items.extend(page.items);
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    Ok(LoadedRecords {
        items,
        has_more: after.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_over_some_of_the_records_says_so() {
        let heads = |more| LoadedRecords {
            items: vec![],
            has_more: more,
        };
        assert_eq!(heads(false).qualify_figure(format_count(2000)), "2,000");
        assert_eq!(heads(true).qualify_figure(format_count(2000)), "2,000+");
        assert_eq!(heads(true).qualify_figure(format!("{:.1}", 0.5)), "0.5+");
        assert_eq!(heads(false).qualify_note("in time"), "in time");
        assert_eq!(
            heads(true).qualify_note("in time"),
            "in time, of the first 0"
        );
    }
}
