//! What the login page remembers: [`AuthorisationState`] with the consents, logins and codes that wait to be used.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{expiring_map::ExpiringMap, query::AuthorisePageQuery};
use crate::command::LoginId;

/// Consents, logins and codes that wait to be used.
#[derive(Default)]
pub(crate) struct AuthorisationState {
    generated_id_count: AtomicU64,
    /// The permissions of consents that wait for their user.
    pub(super) consents: ExpiringMap<Vec<String>>,
    pub(super) sessions: ExpiringMap<AuthorisationSession>,
    pub(super) codes: ExpiringMap<AuthorisationCode>,
}

impl AuthorisationState {
    /// A number that no other generated id has.
    pub(crate) fn next_id_number(&self) -> u64 {
        self.generated_id_count.fetch_add(1, Ordering::Relaxed)
    }
}

/// A user whom an app sent to the login page.
#[derive(Clone)]
pub(super) struct AuthorisationSession {
    pub(super) query: AuthorisePageQuery,
    /// The consent that the query is about.
    pub(super) consent_id: String,
    pub(super) failed_attempts: u8,
    pub(super) step: LoginStep,
}

/// What the user has to do next.
#[derive(Clone, Copy)]
pub(super) enum LoginStep {
    EnterCredentials,
    EnterOneTimeCode(LoginId),
    AllowAccess(LoginId),
}

/// A code that can be exchanged once.
#[derive(Clone)]
pub(super) struct AuthorisationCode {
    pub(super) login: LoginId,
    pub(super) consent_id: String,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) code_challenge: Option<String>,
}
