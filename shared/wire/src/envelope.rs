//! What every answer comes in.

use serde::Serialize;

use crate::scalar::IsoInstant;

/// A good answer. `data` is never null: Okra's clients read into it without looking.
#[derive(Clone, Debug, Serialize)]
pub struct Success<D> {
    /// `success`.
    pub status: &'static str,
    /// For people; clients do not match on it.
    pub message: String,
    /// The resource.
    pub data: D,
}

impl<D> Success<D> {
    /// A good answer.
    pub fn new(message: impl Into<String>, data: D) -> Self {
        Self {
            status: "success",
            message: message.into(),
            data,
        }
    }
}

/// A refusal.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// `error`.
    pub status: &'static str,
    /// For people.
    pub message: String,
    /// What is wrong, for programs.
    pub data: FailureData,
    /// Also in the header `x-request-id`.
    pub request_id: String,
}

/// What is wrong.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct FailureData {
    /// One sentence for each thing that is wrong.
    pub message: Vec<String>,
    /// Okra's family, where there is one.
    pub method: &'static str,
    /// Stable.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where a refresh was refused: when it may be asked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_refresh_available_at: Option<IsoInstant>,
}

/// A page of a list, in the shape of mongoose-paginate.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Documents of the whole list.
    pub total_docs: usize,
    /// Documents of a page at most.
    pub limit: usize,
    /// A page before this one.
    pub has_prev_page: bool,
    /// A page after this one.
    pub has_next_page: bool,
    /// This page, from 1.
    pub page: usize,
    /// Pages of the whole list; at least 1.
    pub total_pages: usize,
    /// Number of this page's first document, from 1.
    pub paging_counter: usize,
    /// The page before, or null.
    pub prev_page: Option<usize>,
    /// The page after, or null.
    pub next_page: Option<usize>,
}

/// Documents of a page at most, whatever is asked for.
pub const MAX_PAGE_LIMIT: usize = 1000;

/// Documents of a page where nothing is asked for.
pub const DEFAULT_PAGE_LIMIT: usize = 20;

impl Pagination {
    /// The page `page` (from 1) of `total` documents, `limit` to a page; both brought within bounds.
    pub fn new(total: usize, page: usize, limit: usize) -> Self {
        let (page, limit) = (page.max(1), limit.clamp(1, MAX_PAGE_LIMIT));
        let total_pages = total.div_ceil(limit).max(1);
        Self {
            total_docs: total,
            limit,
            has_prev_page: page > 1,
            has_next_page: page < total_pages,
            page,
            total_pages,
            paging_counter: (page - 1).saturating_mul(limit).saturating_add(1),
            prev_page: (page > 1).then(|| page - 1),
            next_page: (page < total_pages).then(|| page + 1),
        }
    }

    /// The only page of the only document.
    pub fn single_document() -> Self {
        Self::new(1, 1, DEFAULT_PAGE_LIMIT)
    }

    /// The documents of this page.
    pub fn cut_page<T>(&self, all: Vec<T>) -> Vec<T> {
        all.into_iter()
            .skip(self.paging_counter - 1)
            .take(self.limit)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_cut_as_mongoose_does() {
        let first = Pagination::new(41, 1, 20);
        let json = serde_json::to_string(&first).unwrap();
        assert_eq!(
            json,
            r#"{"totalDocs":41,"limit":20,"hasPrevPage":false,"hasNextPage":true,"page":1,"totalPages":3,"pagingCounter":1,"prevPage":null,"nextPage":2}"#
        );
        let last = Pagination::new(41, 3, 20);
        assert_eq!(last.cut_page((0..41).collect()), [40]);
        assert_eq!(last.next_page, None);
        assert_eq!(Pagination::new(0, 0, 0).total_pages, 1);
        assert_eq!(
            Pagination::new(5, usize::MAX, usize::MAX).cut_page(vec![1]),
            [0; 0]
        );
    }
}
