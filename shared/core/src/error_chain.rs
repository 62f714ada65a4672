//! Errors with all of their sources, for logs: [`error_chain`] formats an error and what caused it in one line.
//!
//! The rule: an error is logged once, where it is handled, and nothing of its chain is left out.

use std::{error::Error, fmt};

/// Sources of an error that are written at most.
const MAX_SOURCES: usize = 16;

/// An error and its sources, from the outermost to the cause, separated by colons.
pub fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    ErrorChain(error)
}

struct ErrorChain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        for _ in 0..MAX_SOURCES {
            let Some(error) = source else { break };
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the store failed")]
    struct StoreFault(#[source] std::fmt::Error);

    #[test]
    fn every_source_is_written() {
        let error = StoreFault(std::fmt::Error);
        let expected = format!("the store failed: {}", std::fmt::Error);
        assert_eq!(error_chain(&error).to_string(), expected);
    }
}
