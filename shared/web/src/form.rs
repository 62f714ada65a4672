//! [`FormFields`]: the fields of a submitted form or of a query.

use axum::body::{Body, to_bytes};

use crate::page_error::PageError;

/// Bytes of a form at most.
const MAX_FORM_BYTES: usize = 32 * 1024;

/// The fields of a form or a query, in their order; a name may occur several times.
#[derive(Default)]
pub(crate) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// The fields of an encoded text; none where it cannot be decoded.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(serde_urlencoded::from_bytes(text).unwrap_or_default())
    }

    /// The fields of a body; `None` where it is too long or incomplete.
    pub(crate) async fn read_body(body: Body) -> Option<Self> {
        let body = to_bytes(body, MAX_FORM_BYTES).await.ok()?;
        Some(Self::parse(&body))
    }

    /// The first value of a name, trimmed; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// The number of a field; `None` where it is empty.
    ///
    /// # Errors
    ///
    /// [`PageError::Rejected`] where it is not a number.
    pub(crate) fn parse_number(&self, name: &str) -> Result<Option<u64>, PageError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse().map(Some);
        number.map_err(|_| PageError::invalid_form(format!("{name} must be a number.")))
    }

    /// Every value of a name, in order.
    pub(crate) fn all_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}
