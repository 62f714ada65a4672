//! The bank itself: its logins, the commands executed on it, and the journal that remembers them.
//!
//! [`SandboxBank`] holds the state ([`state`]) behind one lock for each login ([`login`]). Every change is a
//! [`SandboxCommand`](crate::SandboxCommand) that [`execute`] applies and the [`journal`] keeps; [`requests`] has a
//! typed method for each. [`tokens`] has what opens a login, [`view`] what callers see of it.
//!
//! Rule: a command is on disk before it is acknowledged, and executing the journal again gives the same bank.

pub(crate) mod error;
pub(crate) mod execute;
pub(crate) mod journal;
pub(crate) mod login;
mod new_login;
pub(crate) mod options;
pub(crate) mod requests;
pub(crate) mod state;
pub(crate) mod tokens;
pub(crate) mod view;
