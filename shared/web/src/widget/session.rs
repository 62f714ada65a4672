//! What a customer on the way through the widget has got so far.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::civil::Date;
use okra_banks::{ConsentId, ConsentSecret};
use okra_core::{
    ids::{AppId, BankId, RecordId},
    model::ByProduct,
    schedule::Interval,
};
use okra_store::{KeyHash, LINK_SESSION_KEPT_S, LinkSession};
use okra_vault::fresh_nonce;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::options::Asked;
use crate::{Web, trouble::Trouble};

/// What the seal is for.
const PURPOSE: &[u8] = b"link session";
const STATE_PURPOSE: &[u8] = b"link state";

/// A link on its way.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) app: AppId,
    /// The page's origin.
    pub(crate) origin: String,
    pub(crate) asked: Asked,
    /// The record that is linked again, if one is.
    pub(crate) reauth: Option<RecordId>,
    /// What that record reads.
    pub(crate) renewed: Option<Renewed>,
    pub(crate) bank: Option<BankId>,
    /// The way to the bank that is open now.
    pub(crate) visit: Option<Visit>,
    /// Since when the bank is asked for its accounts, the customer having come back: seconds since 1970.
    pub(crate) reading_s: Option<i64>,
    /// What the bank gave, until the record is made.
    pub(crate) consent: Option<ConsentSecret>,
    pub(crate) offered: Vec<Offered>,
    /// What went wrong at the bank.
    pub(crate) problem: Option<Problem>,
    /// What the page is told at the end.
    pub(crate) linked: Option<Value>,
    pub(crate) record: Option<RecordId>,
    /// Seconds since 1970 after which nothing goes on.
    expires_s: i64,
}

/// What a record reads whose consent is renewed.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Renewed {
    /// How often, each product.
    pub(crate) schedule: ByProduct<Interval>,
    /// The first day whose transactions are read.
    pub(crate) since: Date,
}

/// One way to the bank and back.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Visit {
    /// Has to come back, once.
    pub(crate) nonce: String,
    /// PKCE's (RFC 7636).
    pub(crate) verifier: String,
    /// The consent that is to be authorised.
    pub(crate) consent: ConsentId,
    /// Where the customer is sent.
    pub(crate) url: String,
}

/// An account that the bank's consent covers.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Offered {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) number: String,
    pub(crate) kind: String,
}

/// Why a customer came back without a consent.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Problem {
    /// The customer cancelled, or the bank refused the login.
    Denied,
    /// The bank is out of order.
    Down,
    /// The bank answered what we cannot use.
    Nonsense,
    /// The bank limits how often it is asked.
    Busy,
}

impl Problem {
    /// What the customer is told.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Denied => "The bank did not let you in, or you cancelled. Nothing was shared.",
            Self::Down => "The bank is out of order at the moment. Try again in a few minutes.",
            Self::Nonsense => {
                "The bank gave an answer that we cannot read. Try again, or choose another bank."
            }
            Self::Busy => "The bank asks us to wait. Try again in a minute.",
        }
    }
}

impl Link {
    pub(crate) fn new(app: AppId, origin: String, asked: Asked) -> Self {
        Self {
            app,
            origin,
            asked,
            reauth: None,
            renewed: None,
            bank: None,
            visit: None,
            reading_s: None,
            consent: None,
            offered: vec![],
            problem: None,
            linked: None,
            record: None,
            expires_s: 0,
        }
    }
}

/// A session as it was read: writing it succeeds only where nobody else has meanwhile.
pub(crate) struct Open {
    pub(crate) link: Link,
    hash: KeyHash,
    version: u64,
}

/// The token of a new session. Only its hash is stored.
pub(crate) async fn begin(web: &Web, link: &Link) -> Result<String, Trouble> {
    let token = HEXLOWER.encode(&fresh_nonce()?);
    let mut link = link.clone();
    link.expires_s = web.now().as_second() + LINK_SESSION_KEPT_S;
    let open = Open {
        link,
        hash: KeyHash::of(&token),
        version: 0,
    };
    open.save(web).await?;
    Ok(token)
}

/// The session of a token; `None` where there is none or it is over.
pub(crate) async fn open(web: &Web, token: &str) -> Result<Option<Open>, Trouble> {
    let hash = KeyHash::of(token);
    let Some(stored) = web.api.store.link_session(hash).await? else {
        return Ok(None);
    };
    let plain = web.api.vault.open(PURPOSE, &stored.sealed)?;
    // What an older version began is over: its customer was shown something else.
    let Ok(link) = serde_json::from_slice::<Link>(&plain) else {
        return Ok(None);
    };
    let over = link.expires_s <= web.now().as_second();
    Ok((!over).then_some(Open {
        link,
        hash,
        version: stored.version,
    }))
}

impl Open {
    /// The session as it is after it was saved.
    pub(crate) fn next(&self) -> Self {
        Self {
            link: self.link.clone(),
            hash: self.hash,
            version: self.version + 1,
        }
    }

    /// Stores it. False where another call did so since it was read.
    pub(crate) async fn save(&self, web: &Web) -> Result<bool, Trouble> {
        let plain = Zeroizing::new(serde_json::to_vec(&self.link)?);
        let session = LinkSession {
            version: self.version + 1,
            sealed: web.api.vault.seal(PURPOSE, &plain, fresh_nonce()?)?,
        };
        let store = &web.api.store;
        Ok(store
            .put_link_session(self.hash, &session, web.now())
            .await?)
    }
}

/// What comes back from the bank as `state`: the session and the visit, sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) session: String,
    pub(crate) nonce: String,
}

impl State {
    pub(crate) fn seal(&self, web: &Web) -> Result<String, Trouble> {
        let plain = serde_json::to_vec(self)?;
        let sealed = web.api.vault.seal(STATE_PURPOSE, &plain, fresh_nonce()?)?;
        Ok(BASE64URL_NOPAD.encode(&sealed))
    }

    pub(crate) fn open(web: &Web, text: &str) -> Option<Self> {
        let sealed = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let plain = web.api.vault.open(STATE_PURPOSE, &sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    }
}
