//! `/accounts`: [`parse_accounts`] reads who holds which accounts, and leaves deleted ones out.

use okra_core::{
    model::{money::MoneyError, snapshot::AccountFacts},
    sync::digest::{normalise_optional_text, normalise_text},
};
use serde::Deserialize;

use super::{
    dialect::{account_kind_from_code, is_deleted},
    response::{
        BorrowedText, JsonObject, MalformedResponse, ObiePage, optional_str, parse_envelope,
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieAccountList<'a> {
    #[serde(borrow, default)]
    account: Option<Vec<JsonObject<ObieAccount<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieAccount<'a> {
    #[serde(borrow)]
    account_id: BorrowedText<'a>,
    #[serde(borrow, default)]
    status: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    currency: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    account_sub_type: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    account_type_code: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    nickname: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    description: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    account: Option<Vec<ObieAccountIdentification<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieAccountIdentification<'a> {
    #[serde(borrow, default)]
    identification: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    name: Option<BorrowedText<'a>>,
}

/// Bytes of an account's id at most; the standard allows 40 characters.
const MAX_ACCOUNT_ID_BYTES: usize = 160;

/// True for an id that can be a segment of a URL: neither blank nor a step to another directory.
pub(super) fn is_usable_account_id(id: &str) -> bool {
    !id.trim().is_empty() && id.len() <= MAX_ACCOUNT_ID_BYTES && id != "." && id != ".."
}

impl<'a> ObieAccount<'a> {
    fn identifications(&self) -> impl Iterator<Item = &ObieAccountIdentification<'a>> {
        self.account.iter().flatten()
    }

    fn to_facts(&self, path: &str) -> Result<AccountFacts, MalformedResponse> {
        let bank_account_id = self.account_id.as_str();
        if !is_usable_account_id(bank_account_id) {
            let problem = "must not be blank, too long or a dot segment";
            return Err(MalformedResponse::new(format!("{path}.AccountId"), problem));
        }
        let currency = optional_str(&self.currency)
            .unwrap_or_default()
            .parse()
            .map_err(|error: MoneyError| MalformedResponse::from_money_error(path, &error))?;
        let name = self
            .identifications()
            .find_map(|it| normalise_optional_text(optional_str(&it.name)))
            .or_else(|| normalise_optional_text(optional_str(&self.nickname)))
            .or_else(|| normalise_optional_text(optional_str(&self.description)))
            .unwrap_or_default();
        let number = self
            .identifications()
            .find_map(|it| normalise_optional_text(optional_str(&it.identification)));
        let kind =
            optional_str(&self.account_type_code).or_else(|| optional_str(&self.account_sub_type));
        Ok(AccountFacts {
            bank_account_id: bank_account_id.to_owned(),
            name,
            number: number.unwrap_or_default(),
            kind: account_kind_from_code(&normalise_text(kind.unwrap_or_default())).to_owned(),
            currency,
        })
    }
}

/// Reads a page of accounts, of either version; deleted ones are left out. The name is the holder's, else the
/// nickname, else the description; the number is the first identification stated.
///
/// # Errors
///
/// [`MalformedResponse`] with the path of the first fault.
pub fn parse_accounts(body: &[u8]) -> Result<ObiePage<AccountFacts>, MalformedResponse> {
    let (data, next): (ObieAccountList<'_>, _) = parse_envelope(body)?;
    let rows = data.account.unwrap_or_default();
    let items = rows
        .iter()
        .enumerate()
        .filter(|(_, JsonObject(row))| !is_deleted(optional_str(&row.status)))
        .map(|(n, JsonObject(row))| row.to_facts(&format!("Data.Account[{n}]")))
        .collect::<Result<_, _>>()?;
    Ok(ObiePage::from_items(items, next))
}
