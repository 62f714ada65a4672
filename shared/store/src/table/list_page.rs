//! [`ListPage`]: a part of a list that is read by pages.

/// A part of a list, and where the next part begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T, C> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor that the next part is read with; `None` at the end.
    pub next_cursor: Option<C>,
}

impl<T, C: Copy> ListPage<T, C> {
    /// The page of items whose ids were read with this limit: where as many came, there may be more after the last.
    pub(crate) fn from_limited(items: Vec<T>, ids: &[C], limit: usize) -> Self {
        let next_cursor = ids.last().copied().filter(|_| ids.len() == limit);
        Self { items, next_cursor }
    }
}
