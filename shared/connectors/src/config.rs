//! Banks from a file: an operator adds one without code. [`parse_bank_files`] reads a file into [`BankFileEntry`]s,
//! [`check_bank`] checks one bank's configuration wherever it came from.
//!
//! The rule: a file never holds a secret, only the name of the variable that does.
//!
//! ```toml
//! [[bank]]
//! id = "5d6fe57a4099cc4b210bbeb3"
//! name = "Guaranty Trust Bank"
//! slug = "guaranty-trust-bank"
//! standard = "obie-3.1"
//! base_url = "https://bank.example/open-banking/v3.1/aisp"
//!
//! [bank.limits]                       # optional, and so is each of its fields
//! records_per_second = 5
//!
//! [bank.oauth]                        # optional: where access tokens are renewed
//! token_url = "https://auth.bank.example/token"
//! client_id = "okra-sync"
//! client_auth = "client_secret_basic" # or client_secret_post, none
//! secret_env = "GTB_CLIENT_SECRET"    # name of the environment variable that holds the secret
//! ```

use std::collections::HashSet;

use okra_core::model::bank::{BankConfig, BankLimits, OAuthClient};
use serde::{Deserialize, de::DeserializeOwned};
use url::{Host, Url};

use crate::{connector::ConfigProblem, registry::connector_for, security::requires_secret};

/// Banks in one file at most.
pub const MAX_BANKS: usize = 500;

/// Milliseconds that an operator may let one call take, at most.
pub const MAX_DEADLINE_MS: u32 = 120_000;

/// Pages that an operator may let one list have, at most.
pub const MAX_PAGES: u32 = 1_000;

/// Bytes that an operator may let one page have, at most.
pub const MAX_BODY_BYTES: u32 = 32 * 1024 * 1024;

/// What an app may claim for a bank that it adds: less than an operator, because the time and memory that a bank takes
/// are those of all apps.
const APP_BANK_CEILINGS: [(&str, u32); 5] = [
    ("records_per_second", 50),
    ("concurrency", 32),
    ("deadline_ms", 15_000),
    ("max_pages", 200),
    ("max_body_bytes", 4 * 1024 * 1024),
];

/// Bytes of a client id at most.
const MAX_CLIENT_ID_BYTES: usize = 256;

/// One `[[bank]]` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankFileEntry {
    /// The bank.
    pub config: BankConfig,
    /// Name of the environment variable that holds our client's secret at the bank, where it has one.
    pub secret_env: Option<String>,
}

/// Why a file of banks cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BankConfigError {
    /// Not TOML, or not a list of banks.
    #[error("the banks file cannot be read: {0}")]
    Unreadable(String),
    /// One bank's field is wrong.
    #[error("bank {bank}: {field} {problem}")]
    InvalidField {
        /// Its slug; where it has none, its position in the file, from 1.
        bank: String,
        /// The field.
        field: String,
        /// What is wrong with it, as a predicate: `must not be empty`.
        problem: String,
    },
    /// More than [`MAX_BANKS`].
    #[error("the file has more than {MAX_BANKS} banks")]
    TooManyBanks,
}

impl BankConfigError {
    fn invalid_field(bank: &str, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField {
            bank: bank.to_owned(),
            field: field.into(),
            problem: problem.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanksFile {
    #[serde(default)]
    bank: Vec<toml::Table>,
}

/// Reads the banks of a file: one `[[bank]]` table each, with the fields of [`BankConfig`].
///
/// # Errors
///
/// [`BankConfigError`], naming the bank and the field.
pub fn parse_banks(toml: &str) -> Result<Vec<BankConfig>, BankConfigError> {
    let entries = parse_bank_files(toml)?;
    Ok(entries.into_iter().map(|entry| entry.config).collect())
}

/// Reads the banks of a file with the names of the variables that hold our secrets there.
///
/// # Errors
///
/// [`BankConfigError`], naming the bank and the field.
pub fn parse_bank_files(toml: &str) -> Result<Vec<BankFileEntry>, BankConfigError> {
    let file: BanksFile = toml::from_str(toml)
        .map_err(|error| BankConfigError::Unreadable(error.message().to_owned()))?;
    if file.bank.len() > MAX_BANKS {
        return Err(BankConfigError::TooManyBanks);
    }
    let (mut ids, mut slugs) = (HashSet::new(), HashSet::new());
    let mut entries = Vec::with_capacity(file.bank.len());
    for (index, table) in file.bank.into_iter().enumerate() {
        let entry = parse_bank_table(index, table)?;
        let config = &entry.config;
        let duplicate = if !ids.insert(config.id) {
            Some("id")
        } else if !slugs.insert(config.slug.clone()) {
            Some("slug")
        } else {
            None
        };
        if let Some(field) = duplicate {
            return Err(BankConfigError::invalid_field(
                &config.slug,
                field,
                "is used twice",
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn parse_bank_table(
    index: usize,
    mut table: toml::Table,
) -> Result<BankFileEntry, BankConfigError> {
    let name = match table.get("slug") {
        Some(toml::Value::String(slug)) => slug.clone(),
        _ => format!("number {}", index + 1),
    };
    let secret_env = take_secret_env(&name, &mut table)?;
    let config: BankConfig = deserialize_table(&name, toml::Value::Table(table))?;
    check_bank(&config)?;
    if secret_env.is_none() && config.oauth.as_ref().is_some_and(requires_secret) {
        return Err(BankConfigError::invalid_field(
            &name,
            "oauth.secret_env",
            "is missing: the client authenticates with a secret",
        ));
    }
    Ok(BankFileEntry { config, secret_env })
}

/// Takes the name of the secret's variable out of a bank's table. A file never holds a secret, sealed
/// or not.
fn take_secret_env(bank: &str, table: &mut toml::Table) -> Result<Option<String>, BankConfigError> {
    let Some(toml::Value::Table(oauth)) = table.get_mut("oauth") else {
        return Ok(None);
    };
    if oauth.contains_key("sealed_secret") {
        return Err(BankConfigError::invalid_field(
            bank,
            "oauth.sealed_secret",
            "must not be in a file; name an environment variable in secret_env",
        ));
    }
    match oauth.remove("secret_env") {
        None => Ok(None),
        Some(toml::Value::String(name)) if is_variable_name(&name) => Ok(Some(name)),
        Some(_) => Err(BankConfigError::invalid_field(
            bank,
            "oauth.secret_env",
            "must be the name of an environment variable",
        )),
    }
}

fn deserialize_table<T: DeserializeOwned>(
    bank: &str,
    value: toml::Value,
) -> Result<T, BankConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let problem = format!("cannot be read: {}", error.inner().message());
        let path = match error.path().to_string().as_str() {
            "." => "its table".to_owned(),
            path => path.to_owned(),
        };
        BankConfigError::invalid_field(bank, path, problem)
    })
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|first: char| !first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Checks one bank's configuration.
///
/// # Errors
///
/// [`BankConfigError::InvalidField`].
pub fn check_bank(bank: &BankConfig) -> Result<(), BankConfigError> {
    check_identity(bank)
        .and_then(|()| connector_for(bank.standard).check_config(bank))
        .and_then(|()| check_url("base_url", &bank.base_url))
        .and_then(|()| bank.oauth.as_ref().map_or(Ok(()), check_client))
        .map_err(|it| BankConfigError::invalid_field(&bank.slug, it.field, it.problem))?;
    check_limits(bank)
}

/// Checks the configuration of a bank that an app adds.
///
/// # Errors
///
/// [`BankConfigError::InvalidField`]; also for limits above those that an app may claim.
pub fn check_app_bank(bank: &BankConfig) -> Result<(), BankConfigError> {
    check_bank(bank)?;
    let limits = [
        bank.limits.records_per_second,
        u32::from(bank.limits.concurrency),
        bank.limits.deadline_ms,
        u32::from(bank.limits.max_pages),
        bank.limits.max_body_bytes,
    ];
    for (value, (field, ceiling)) in limits.into_iter().zip(APP_BANK_CEILINGS) {
        if value > ceiling {
            let field = format!("limits.{field}");
            let problem = format!("must be at most {ceiling} for a bank that an app adds");
            return Err(BankConfigError::invalid_field(&bank.slug, field, problem));
        }
    }
    Ok(())
}

fn check_identity(bank: &BankConfig) -> Result<(), ConfigProblem> {
    if bank.name.trim().is_empty() {
        return Err(ConfigProblem {
            field: "name",
            problem: "must not be empty",
        });
    }
    if !is_slug(&bank.slug) {
        return Err(ConfigProblem {
            field: "slug",
            problem: "must be letters, digits and hyphens",
        });
    }
    if bank.country.len() != 2 || !bank.country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(ConfigProblem {
            field: "country",
            problem: "must be two capital letters (ISO 3166)",
        });
    }
    Ok(())
}

fn is_slug(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn check_client(client: &OAuthClient) -> Result<(), ConfigProblem> {
    check_url("oauth.token_url", &client.token_url)?;
    if let Some(url) = &client.authorization_url {
        check_url("oauth.authorization_url", url)?;
    }
    if client.client_id.is_empty() || client.client_id.len() > MAX_CLIENT_ID_BYTES {
        return Err(ConfigProblem {
            field: "oauth.client_id",
            problem: "must be 1 to 256 bytes",
        });
    }
    Ok(())
}

fn check_url(field: &'static str, url: &str) -> Result<(), ConfigProblem> {
    match find_url_problem(url) {
        Some(problem) => Err(ConfigProblem { field, problem }),
        None => Ok(()),
    }
}

fn find_url_problem(url: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(url) else {
        return Some("must be a URL");
    };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback) {
        return Some("must be https, or http on this machine");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must not hold credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Some("must end with its path");
    }
    None
}

fn check_limits(bank: &BankConfig) -> Result<(), BankConfigError> {
    let BankLimits {
        records_per_second,
        concurrency,
        deadline_ms,
        max_pages,
        max_body_bytes,
        unattended_per_day,
        user_reserve,
        user_present_only: _,
    } = bank.limits;
    if unattended_per_day.is_some_and(|allowed| allowed <= user_reserve) {
        return Err(BankConfigError::invalid_field(
            &bank.slug,
            "limits.unattended_per_day",
            "must be more than limits.user_reserve, which is kept of it",
        ));
    }
    let bounds = [
        ("records_per_second", records_per_second, u32::MAX),
        ("concurrency", u32::from(concurrency), u32::MAX),
        ("deadline_ms", deadline_ms, MAX_DEADLINE_MS),
        ("max_pages", u32::from(max_pages), MAX_PAGES),
        ("max_body_bytes", max_body_bytes, MAX_BODY_BYTES),
    ];
    for (field, value, most) in bounds {
        let problem = if value == 0 {
            "must be at least 1".to_owned()
        } else if value > most {
            format!("must be at most {most}")
        } else {
            continue;
        };
        let field = format!("limits.{field}");
        return Err(BankConfigError::invalid_field(&bank.slug, field, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use okra_core::model::bank::ClientAuth;

    use super::*;

    const BANK_TOML: &str = r#"
        [[bank]]
        id = "5d6fe57a4099cc4b210bbeb3"
        name = "Guaranty Trust Bank"
        slug = "guaranty-trust-bank"
        standard = "obie-3.1"
        base_url = "https://bank.example/open-banking/v3.1/aisp"
        [bank.limits]
        records_per_second = 5
    "#;

    const CLIENT_TOML: &str = r#"
        [bank.oauth]
        token_url = "https://auth.bank.example/token"
        client_id = "okra-sync"
        secret_env = "GTB_CLIENT_SECRET"
    "#;

    fn parse_error_text(toml: &str) -> String {
        parse_bank_files(toml).unwrap_err().to_string()
    }

    fn check_rejected(from: &str, to: &str, expected: &str) {
        let toml = format!("{BANK_TOML}{CLIENT_TOML}");
        assert!(toml.contains(from), "{from}");
        let error = parse_error_text(&toml.replacen(from, to, 1));
        assert!(error.starts_with(expected), "{to}: {error}");
    }

    #[test]
    fn a_bank_that_an_app_adds_claims_no_more_than_the_defaults_and_some_pages() {
        let mut bank = parse_bank_files(BANK_TOML).unwrap().swap_remove(0).config;
        bank.limits = BankLimits {
            max_pages: 200,
            ..BankLimits::default()
        };
        assert_eq!(check_app_bank(&bank), Ok(()));
        bank.limits.deadline_ms += 1;
        assert_eq!(check_bank(&bank), Ok(()));
        let error = check_app_bank(&bank).unwrap_err().to_string();
        assert!(
            error.contains("limits.deadline_ms must be at most 15000"),
            "{error}"
        );
    }

    #[test]
    fn a_bank_needs_few_fields() {
        let banks = parse_banks(BANK_TOML).unwrap();
        assert_eq!(banks[0].slug, "guaranty-trust-bank");
        assert_eq!(banks[0].limits.records_per_second, 5);
        assert_eq!(banks[0].limits.max_pages, 50);
        assert_eq!(banks[0].country, "NG");
        assert_eq!(parse_banks("").unwrap(), []);
    }

    #[test]
    fn credentials_are_references_beside_the_configuration() {
        let files = parse_bank_files(&format!("{BANK_TOML}{CLIENT_TOML}")).unwrap();
        assert_eq!(files[0].secret_env.as_deref(), Some("GTB_CLIENT_SECRET"));
        let client = files[0].config.oauth.as_ref().unwrap();
        assert_eq!(client.client_auth, ClientAuth::ClientSecretBasic);
        assert_eq!(client.sealed_secret, None);
        let without_client = &parse_bank_files(BANK_TOML).unwrap()[0];
        assert_eq!(
            (&without_client.config.oauth, &without_client.secret_env),
            (&None, &None)
        );
    }

    #[test]
    fn a_problem_is_named_with_its_bank_and_field() {
        let gtb = |rest: &str| format!("bank guaranty-trust-bank: {rest}");
        let check = |from: &str, to: &str, expected: &str| check_rejected(from, to, &gtb(expected));
        check("5d6fe5", "xyz", "id cannot be read");
        check("Guaranty Trust Bank", " ", "name must not be empty");
        check(
            "obie-3.1",
            "obie-2",
            "standard cannot be read: unknown variant",
        );
        check("name =", "nam =", "nam cannot be read: unknown field");
        check("= 5", "= 0", "limits.records_per_second must be at least 1");
        check("= 5", "= '5'", "limits.records_per_second cannot be read");
        check(
            "records_per_second = 5",
            "pages = 5",
            "limits.pages cannot be read",
        );
        check(
            "GTB_CLIENT_SECRET",
            "s3cret",
            "oauth.secret_env must be the name",
        );
        check(
            "secret_env = \"GTB_CLIENT_SECRET\"",
            "",
            "oauth.secret_env is missing",
        );
        check(
            "secret_env =",
            "sealed_secret =",
            "oauth.sealed_secret must not be in a file",
        );
        check(
            "secret_env =",
            "secret =",
            "oauth.secret cannot be read: unknown field",
        );
        check(
            "https://auth.",
            "http://auth.",
            "oauth.token_url must be https",
        );
        check("\"okra-sync\"", "\"\"", "oauth.client_id must be 1 to");
        check(
            "client_id =",
            "client_auth = 'tls'\nclient_id =",
            "oauth.client_auth cannot be read: unknown variant",
        );
        let limits = [
            ("deadline_ms", "limits.deadline_ms must be at most 120000"),
            ("max_pages", "limits.max_pages cannot be read"),
            (
                "max_body_bytes",
                "limits.max_body_bytes must be at most 33554432",
            ),
        ];
        for (field, expected) in limits {
            check(
                "records_per_second = 5",
                &format!("{field} = 99999999"),
                expected,
            );
        }
        let more = [
            ("country = 'ng'", "country must be two capital letters"),
            ("financial_id = 'a b'", "financial_id must be visible ASCII"),
        ];
        for (field, expected) in more {
            check(
                "[bank.limits]",
                &format!("{field}\n[bank.limits]"),
                expected,
            );
        }
    }

    #[test]
    fn a_bank_without_a_slug_is_named_by_its_position() {
        let second = BANK_TOML.replace("slug", "slag");
        assert!(
            parse_error_text(&format!("{BANK_TOML}{second}")).starts_with("bank number 2: slag")
        );
        check_rejected(
            "guaranty-trust-bank",
            "a b",
            "bank a b: slug must be letters",
        );
        assert!(parse_error_text("[[bonk]]").starts_with("the banks file cannot be read"));
        assert!(parse_error_text("bank = 1").starts_with("the banks file cannot be read"));
    }

    #[test]
    fn an_id_or_slug_may_not_be_used_twice() {
        assert!(parse_error_text(&format!("{BANK_TOML}{BANK_TOML}")).ends_with("id is used twice"));
        let other = BANK_TOML.replace("5d6fe5", "5d6fe6");
        assert!(parse_error_text(&format!("{BANK_TOML}{other}")).ends_with("slug is used twice"));
    }

    #[test]
    fn a_url_must_be_https_unless_it_is_on_this_machine() {
        let bank = |url: &str| {
            let mut bank = parse_banks(BANK_TOML).unwrap().remove(0);
            bank.base_url = url.to_owned();
            check_bank(&bank)
        };
        for good in [
            "https://bank.example/aisp",
            "http://127.0.0.1:8080/aisp",
            "http://[::1]/aisp/",
            "http://localhost:1",
        ] {
            assert_eq!(bank(good), Ok(()), "{good}");
        }
        for bad in [
            "http://bank.example/aisp",
            "http://localhost.bank.example",
            "http://10.0.0.1/",
            "ftp://localhost/",
            "bank.example",
            "https://user:secret@bank.example/",
            "https://bank.example/?a=b",
            "https://bank.example/#a",
        ] {
            assert!(bank(bad).is_err(), "{bad}");
        }
    }
}
