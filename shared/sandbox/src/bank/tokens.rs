//! What opens a login: [`SandboxToken`], the [`SandboxTokens`] that expire before their consent does, and the refresh
//! tokens that buy the next ones (RFC 6749).
//!
//! Rule: every token is derived from the bank's seed, so that it outlives a restart. Whoever knows the seed knows the
//! tokens, which is fine for money that does not exist.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::Serialize;

use crate::{
    command::{LoginId, TokenTerms},
    hash::digest_parts,
};

/// Id of the one client that the sandbox bank knows.
pub const CLIENT_ID: &str = "okra-sync";

/// The client's secret. It is public: the money does not exist.
pub const CLIENT_SECRET: &str = "sandbox-secret";

/// An access token. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SandboxToken(String);

impl SandboxToken {
    /// The text that follows `Bearer`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text that follows `Bearer`.
    pub fn into_string(self) -> String {
        self.0
    }

    fn from_parts(parts: &[&[u8]]) -> Self {
        Self(HEXLOWER.encode(&digest_parts(parts)))
    }

    /// The token of a grant that lives as long as the grant.
    pub(super) fn for_grant(seed: u64, login: LoginId, grant_number: usize) -> Self {
        Self::from_parts(&[
            b"token",
            &seed.to_be_bytes(),
            &login.0.to_be_bytes(),
            &(grant_number as u64).to_be_bytes(),
        ])
    }
}

impl fmt::Debug for SandboxToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SandboxToken(..)")
    }
}

/// What a client is given for a grant whose tokens expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SandboxTokens {
    /// The bearer token of calls.
    pub access_token: SandboxToken,
    /// What the next tokens are requested with.
    pub refresh_token: SandboxToken,
    /// Seconds the access token lives.
    pub expires_in: u32,
}

/// The renewals of one grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRenewal {
    pub(super) terms: TokenTerms,
    pub(super) generation: u64,
}

/// What a refresh token stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefreshTokenGrant {
    pub(super) login: LoginId,
    pub(super) grant_number: u32,
    pub(super) generation: u64,
}

/// Which of the two tokens of a generation.
#[derive(Clone, Copy)]
pub(super) enum TokenKind {
    Access,
    Refresh,
}

/// Derives a token of one generation of a grant.
pub(super) fn derive_generation_token(
    kind: TokenKind,
    seed: u64,
    login: LoginId,
    grant_number: u32,
    generation: u64,
) -> SandboxToken {
    let kind: &[u8] = match kind {
        TokenKind::Access => b"access",
        TokenKind::Refresh => b"refresh",
    };
    SandboxToken::from_parts(&[
        kind,
        &seed.to_be_bytes(),
        &login.0.to_be_bytes(),
        &grant_number.to_be_bytes(),
        &generation.to_be_bytes(),
    ])
}
