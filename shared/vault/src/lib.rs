//! Encryption of bank credentials and endpoint secrets at rest: [`Vault`] seals with XChaCha20-Poly1305.
//!
//! The rule: each ciphertext is bound to its owner, so that it cannot be moved to another record, and neither keys nor
//! plaintext appear in an error or a log.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use data_encoding::BASE64;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Bytes of a nonce: long enough to be drawn at random for each seal.
pub const NONCE_BYTES: usize = 24;

/// First byte of a ciphertext: how the rest is to be read.
const FORMAT_VERSION: u8 = 1;

/// Why a secret cannot be sealed or opened. Its text says nothing of the contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// There is no key in the environment.
    #[error("the environment variable OKRA_VAULT_KEY is not set")]
    MissingKey,
    /// A key is not 32 bytes in base64, or there are too many.
    #[error(
        "OKRA_VAULT_KEY must be 1 to {MAX_KEYS} keys of 32 bytes in base64, separated by commas"
    )]
    InvalidKey,
    /// The data was sealed under another key or for another owner, or was changed since.
    #[error("the sealed data cannot be opened with this key for this owner")]
    CipherFailed,
    /// The data was sealed by a release that this one does not know.
    #[error("the sealed data has an unknown format")]
    UnknownFormat,
    /// The operating system gave no random bytes.
    #[error("the operating system returned no random bytes")]
    NoRandomness,
}

/// Keys of one vault at most: while a key is replaced there are two.
pub const MAX_KEYS: usize = 4;

/// Seals with its first key, and opens what any of its keys sealed.
pub struct Vault(Vec<XChaCha20Poly1305>);

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// A vault with this key. The cipher wipes its copy when it is dropped.
    pub fn new(mut key: [u8; KEY_BYTES]) -> Self {
        let vault = Self(vec![XChaCha20Poly1305::new((&key).into())]);
        key.zeroize();
        vault
    }

    /// A vault with these keys: first the key that seals, then those that it replaced.
    ///
    /// # Errors
    ///
    /// [`VaultError::InvalidKey`] for no key, or more than [`MAX_KEYS`].
    pub fn from_keys(keys: &[[u8; KEY_BYTES]]) -> Result<Self, VaultError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(VaultError::InvalidKey);
        }
        let ciphers = keys.iter().map(|key| XChaCha20Poly1305::new(key.into()));
        Ok(Self(ciphers.collect()))
    }

    /// A vault with the keys in `OKRA_VAULT_KEY`, as [`Vault::from_base64`] reads them.
    ///
    /// # Errors
    ///
    /// [`VaultError::MissingKey`], [`VaultError::InvalidKey`].
    pub fn from_env() -> Result<Self, VaultError> {
        let text =
            Zeroizing::new(std::env::var("OKRA_VAULT_KEY").map_err(|_| VaultError::MissingKey)?);
        Self::from_base64(&text)
    }

    /// A vault with keys of 32 bytes in base64, separated by commas: first the key that seals, then those that it
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`VaultError::InvalidKey`].
    pub fn from_base64(text: &str) -> Result<Self, VaultError> {
        let keys: Vec<&str> = text.split(',').collect();
        if keys.len() > MAX_KEYS {
            return Err(VaultError::InvalidKey);
        }
        keys.into_iter()
            .map(parse_key)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Seals for an owner: a record's or an endpoint's id. A nonce must never be used twice.
    ///
    /// # Errors
    ///
    /// [`VaultError::CipherFailed`] for more than 256 GB, which no secret comes near.
    pub fn seal_secret(
        &self,
        owner: &[u8],
        plaintext: &[u8],
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Vec<u8>, VaultError> {
        let payload = Payload {
            msg: plaintext,
            aad: owner,
        };
        let cipher = self.0.first().ok_or(VaultError::MissingKey)?;
        let ciphertext = cipher
            .encrypt((&nonce).into(), payload)
            .map_err(|_| VaultError::CipherFailed)?;
        Ok([&[FORMAT_VERSION][..], &nonce, &ciphertext].concat())
    }

    /// Opens a secret that was sealed for this owner.
    ///
    /// # Errors
    ///
    /// [`VaultError::CipherFailed`], [`VaultError::UnknownFormat`].
    pub fn open_sealed(
        &self,
        owner: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let Some((&FORMAT_VERSION, rest)) = sealed.split_first() else {
            return Err(VaultError::UnknownFormat);
        };
        let (nonce, ciphertext) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(VaultError::UnknownFormat)?;
        let opened = self.0.iter().find_map(|cipher| {
            let payload = Payload {
                msg: ciphertext,
                aad: owner,
            };
            cipher.decrypt(nonce.into(), payload).ok()
        });
        opened.map(Zeroizing::new).ok_or(VaultError::CipherFailed)
    }
}

fn parse_key(key: &str) -> Result<XChaCha20Poly1305, VaultError> {
    let key = BASE64
        .decode(key.trim().as_bytes())
        .map_err(|_| VaultError::InvalidKey)?;
    // By reference: a copy on the stack would not be wiped.
    let key = Zeroizing::new(key);
    XChaCha20Poly1305::new_from_slice(&key).map_err(|_| VaultError::InvalidKey)
}

/// A nonce, or as many bytes for another secret, from the operating system's random source.
///
/// # Errors
///
/// [`VaultError::NoRandomness`].
pub fn generate_nonce() -> Result<[u8; NONCE_BYTES], VaultError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| VaultError::NoRandomness)?;
    Ok(nonce)
}

/// True where two secrets are the same. Takes a time that reveals no more of them than their lengths.
pub fn secrets_match(one: &str, other: &str) -> bool {
    subtle::ConstantTimeEq::ct_eq(one.as_bytes(), other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &[u8] = b"record 1";

    fn vault_with_key(byte: u8) -> Vault {
        Vault::new([byte; KEY_BYTES])
    }

    fn seal_for_owner(plaintext: &[u8]) -> Vec<u8> {
        vault_with_key(7)
            .seal_secret(OWNER, plaintext, [9; NONCE_BYTES])
            .unwrap()
    }

    #[test]
    fn a_sealed_secret_opens_for_its_owner_alone() {
        for plaintext in [&b""[..], b"t", b"token", &[0; 10_000]] {
            let opened = vault_with_key(7)
                .open_sealed(OWNER, &seal_for_owner(plaintext))
                .unwrap();
            assert_eq!(*opened, plaintext);
        }
        let sealed = seal_for_owner(b"token");
        assert!(!sealed.windows(5).any(|window| window == b"token"));
        for (key, owner) in [(7, &b"record 2"[..]), (7, b""), (8, OWNER)] {
            let opened = vault_with_key(key).open_sealed(owner, &sealed);
            assert_eq!(opened, Err(VaultError::CipherFailed), "{key} {owner:?}");
        }
    }

    #[test]
    fn a_changed_ciphertext_does_not_open() {
        let sealed = seal_for_owner(b"token");
        for at in 1..sealed.len() {
            for bit in 0..8 {
                let mut tampered = sealed.clone();
                tampered[at] ^= 1 << bit;
                let opened = vault_with_key(7).open_sealed(OWNER, &tampered);
                assert_eq!(opened, Err(VaultError::CipherFailed), "byte {at} bit {bit}");
            }
        }
        for length in 0..sealed.len() {
            assert!(
                vault_with_key(7)
                    .open_sealed(OWNER, &sealed[..length])
                    .is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn the_first_byte_is_the_version() {
        let mut sealed = seal_for_owner(b"token");
        assert_eq!(sealed[0], FORMAT_VERSION);
        for version in (0..=u8::MAX).filter(|version| *version != FORMAT_VERSION) {
            sealed[0] = version;
            let opened = vault_with_key(7).open_sealed(OWNER, &sealed);
            assert_eq!(opened, Err(VaultError::UnknownFormat), "{version}");
        }
        for short in [&[][..], &[FORMAT_VERSION], &[FORMAT_VERSION; NONCE_BYTES]] {
            assert_eq!(
                vault_with_key(7).open_sealed(OWNER, short),
                Err(VaultError::UnknownFormat)
            );
        }
    }

    #[test]
    fn a_ciphertext_differs_with_its_nonce_and_nonces_with_each_call() {
        let other = vault_with_key(7)
            .seal_secret(OWNER, b"token", [8; NONCE_BYTES])
            .unwrap();
        assert_ne!(
            seal_for_owner(b"token")[1 + NONCE_BYTES..],
            other[1 + NONCE_BYTES..]
        );
        assert_ne!(generate_nonce().unwrap(), generate_nonce().unwrap());
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_and_is_not_shown() {
        for bad in [
            "",
            "AAAA",
            "not base64",
            &BASE64.encode(&[7; KEY_BYTES + 1]),
        ] {
            assert_eq!(Vault::from_base64(bad).unwrap_err(), VaultError::InvalidKey);
        }
        let text = format!(" {}\n", BASE64.encode(&[7; KEY_BYTES]));
        let vault = Vault::from_base64(&text).unwrap();
        assert_eq!(
            *vault.open_sealed(OWNER, &seal_for_owner(b"token")).unwrap(),
            b"token"
        );
        assert_eq!(format!("{vault:?}"), "Vault");
    }

    #[test]
    fn secrets_of_a_replaced_key_still_open() {
        let text = |bytes: &[u8]| {
            let keys: Vec<String> = bytes.iter().map(|it| BASE64.encode(&[*it; 32])).collect();
            Vault::from_base64(&keys.join(","))
        };
        let nonce = [9; NONCE_BYTES];
        let both = text(&[8, 7]).unwrap();
        assert_eq!(
            *both.open_sealed(OWNER, &seal_for_owner(b"token")).unwrap(),
            b"token"
        );
        let anew = both.seal_secret(OWNER, b"token", nonce).unwrap();
        assert_eq!(
            *vault_with_key(8).open_sealed(OWNER, &anew).unwrap(),
            b"token"
        );
        assert_eq!(
            vault_with_key(7).open_sealed(OWNER, &anew),
            Err(VaultError::CipherFailed)
        );
        assert_eq!(
            both.open_sealed(b"record 2", &anew),
            Err(VaultError::CipherFailed)
        );
        assert!(text(&[1; MAX_KEYS]).is_ok());
        assert!(text(&[1; MAX_KEYS + 1]).is_err());
        assert!(Vault::from_base64(&format!("{},", BASE64.encode(&[7; 32]))).is_err());
    }

    #[test]
    fn secrets_match_where_every_byte_does() {
        for (one, other, same) in [
            ("", "", true),
            ("abc", "abc", true),
            ("abc", "abd", false),
            ("abc", "ab", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(secrets_match(one, other), same, "{one} {other}");
        }
    }
}
