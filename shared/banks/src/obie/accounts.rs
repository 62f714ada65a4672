//! `/accounts`.

use okra_core::{
    model::AccountFacts,
    money::MoneyError,
    normal::{optional_text, text},
};
use serde::Deserialize;

use super::{
    answer::{Nonsense, Object, Page, Text, parse, text_of},
    codes::{account_kind, is_deleted},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data<'a> {
    #[serde(borrow, default)]
    account: Option<Vec<Object<Row<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    #[serde(borrow)]
    account_id: Text<'a>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    currency: Option<Text<'a>>,
    #[serde(borrow, default)]
    account_sub_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    account_type_code: Option<Text<'a>>,
    #[serde(borrow, default)]
    nickname: Option<Text<'a>>,
    #[serde(borrow, default)]
    description: Option<Text<'a>>,
    #[serde(borrow, default)]
    account: Option<Vec<Identification<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Identification<'a> {
    #[serde(borrow, default)]
    identification: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}

/// Bytes of an account's id at most; the standard allows 40 characters.
const MAX_ACCOUNT_ID: usize = 160;

/// True for an id that can stand in a path: neither blank nor a step to another place.
pub(super) fn is_usable_id(id: &str) -> bool {
    !id.trim().is_empty() && id.len() <= MAX_ACCOUNT_ID && id != "." && id != ".."
}

impl Row<'_> {
    fn facts(&self, path: &str) -> Result<AccountFacts, Nonsense> {
        let bank_account_id = self.account_id.as_str();
        if !is_usable_id(bank_account_id) {
            let problem = "blank, too long or not fit for a path";
            return Err(Nonsense::new(format!("{path}.AccountId"), problem));
        }
        let currency = text_of(&self.currency)
            .unwrap_or_default()
            .parse()
            .map_err(|error: MoneyError| Nonsense::of_money(path, &error))?;
        let ids = || self.account.iter().flatten();
        let name = ids()
            .find_map(|it| optional_text(text_of(&it.name)))
            .or_else(|| optional_text(text_of(&self.nickname)))
            .or_else(|| optional_text(text_of(&self.description)))
            .unwrap_or_default();
        let number = ids().find_map(|it| optional_text(text_of(&it.identification)));
        let kind = text_of(&self.account_type_code).or_else(|| text_of(&self.account_sub_type));
        Ok(AccountFacts {
            bank_account_id: bank_account_id.to_owned(),
            name,
            number: number.unwrap_or_default(),
            kind: account_kind(&text(kind.unwrap_or_default())).to_owned(),
            currency,
        })
    }
}

/// Reads a page of accounts, of either version; deleted ones are left out. The name is the holder's,
/// else the nickname, else the description; the number is the first identification stated.
///
/// # Errors
///
/// [`Nonsense`] with the path of the first fault.
pub fn parse_accounts(body: &[u8]) -> Result<Page<AccountFacts>, Nonsense> {
    let (data, next): (Data<'_>, _) = parse(body)?;
    let rows = data.account.unwrap_or_default();
    let items = rows
        .iter()
        .enumerate()
        .filter(|(_, Object(row))| !is_deleted(text_of(&row.status)))
        .map(|(n, Object(row))| row.facts(&format!("Data.Account[{n}]")))
        .collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}
