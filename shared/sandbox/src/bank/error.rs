//! Why a command was not executed: [`CommandError`].

use crate::account::EditError;

/// Why a command was not executed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such login.
    #[error("the bank has no such login")]
    NoSuchLogin,
    /// The login has no such account.
    #[error("the login has no such account")]
    NoSuchAccount,
    /// A number or a text is out of its bounds.
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
    /// The bank has [`MAX_LOGINS`](crate::MAX_LOGINS) logins, or the login
    /// [`MAX_GRANTS_PER_LOGIN`](crate::MAX_GRANTS_PER_LOGIN) grants.
    #[error("the bank has no room for more {0}")]
    LimitReached(&'static str),
    /// The row cannot be added or edited.
    #[error(transparent)]
    EditFailed(#[from] EditError),
    /// The command was executed, but the journal could not be written: a restart would forget it.
    #[error("the sandbox bank's journal cannot be written")]
    JournalFailed(#[source] std::io::Error),
    /// A command had another kind of outcome than commands of its kind have: a defect of the sandbox.
    #[error("the sandbox bank's command had an unexpected outcome")]
    UnexpectedOutcome,
}
