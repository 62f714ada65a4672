//! The vault's keys of the local process: `vault.key` in the data folder has 32 random bytes for each, first the key that
//! seals, then those that it replaced.
//!
//! The rule: a folder that holds sealed data is opened with the key that sealed it, or not at all. With another key
//! everything would seem to work, and every consent would fail.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, bail};
use data_encoding::BASE64;
use okra_store::Store;
use okra_vault::{KEY_BYTES, MAX_KEYS, Vault, generate_nonce};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::GlobalOptions,
    keys::{fill_random, write_private_file},
    minute::MINUTE_CLOCK_STATE,
    output::print_line,
};

const KEY_FILE: &str = "vault.key";

/// The state that holds a text which the vault sealed, so that another key is noticed.
const VAULT_CHECK_STATE: &str = "vault-check";

/// What the sealed text is bound to, and says.
const CHECK_OWNER: &[u8] = b"vault-check";

/// The vault of a data folder. A folder that holds nothing yet gets a key.
pub(crate) async fn open_vault(folder: &Path, store: &Store) -> anyhow::Result<Vault> {
    let path = folder.join(KEY_FILE);
    let check = store.find_system_state(VAULT_CHECK_STATE).await?;
    let Some(keys) = read_keys(&path)? else {
        // A release that did not store the check left the state of its minute clock.
        if check.is_some() || store.find_system_state(MINUTE_CLOCK_STATE).await?.is_some() {
            bail!(
                "{} is missing, and the data was sealed with it: restore the file, or choose another folder with --data",
                path.display()
            );
        }
        let keys = create_key(&path)?;
        return store_check(Vault::from_keys(&keys)?, store).await;
    };
    let vault = Vault::from_keys(&keys)?;
    let Some(check) = check else {
        return store_check(vault, store).await;
    };
    let sealed = check["sealed"].as_str().unwrap_or_default();
    let sealed = BASE64.decode(sealed.as_bytes()).unwrap_or_default();
    if vault.open_sealed(CHECK_OWNER, &sealed).is_err() {
        bail!(
            "{} is not the key that the data was sealed with: restore the file that belongs to this folder",
            path.display()
        );
    }
    Ok(vault)
}

/// Adds a key, which seals from the next start on. What earlier keys sealed can still be opened.
pub(crate) fn run_vault_key_command(options: &GlobalOptions) -> anyhow::Result<()> {
    let path = options.data.join(KEY_FILE);
    let Some(mut keys) = read_keys(&path)? else {
        bail!("{} does not exist", path.display());
    };
    if keys.len() == MAX_KEYS {
        bail!("{} has {MAX_KEYS} keys, which is the limit", path.display());
    }
    keys.insert(0, *draw_key()?);
    write_keys(&path, &keys)?;
    print_line(&format!(
        "{} has {} keys. The new one seals from the next start on. Make a copy of the file.",
        path.display(),
        keys.len()
    ));
    Ok(())
}

async fn store_check(vault: Vault, store: &Store) -> anyhow::Result<Vault> {
    let sealed = vault.seal_secret(CHECK_OWNER, CHECK_OWNER, generate_nonce()?)?;
    let state = json!({ "sealed": BASE64.encode(&sealed) });
    store.put_system_state(VAULT_CHECK_STATE, &state).await?;
    Ok(vault)
}

type Keys = Zeroizing<Vec<[u8; KEY_BYTES]>>;

/// The keys of the file; `None` where there is no file.
fn read_keys(path: &Path) -> anyhow::Result<Option<Keys>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let (keys, rest) = bytes.as_chunks::<KEY_BYTES>();
    if keys.is_empty() || keys.len() > MAX_KEYS || !rest.is_empty() {
        bail!(
            "{} must hold 1 to {MAX_KEYS} keys of {KEY_BYTES} bytes",
            path.display()
        );
    }
    Ok(Some(Zeroizing::new(keys.to_vec())))
}

fn draw_key() -> anyhow::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    fill_random(&mut *key)?;
    Ok(key)
}

fn create_key(path: &Path) -> anyhow::Result<Keys> {
    let keys = Zeroizing::new(vec![*draw_key()?]);
    write_keys(path, &keys)?;
    Ok(keys)
}

fn write_keys(path: &Path, keys: &Keys) -> anyhow::Result<()> {
    let bytes = Zeroizing::new(keys.concat());
    write_private_file(path, &bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use okra_aws::{AwsConfig, Clock};
    use okra_emulator::Emulator;

    use super::*;

    async fn new_store() -> Store {
        let emulator = Emulator::in_memory(Clock::system()).unwrap();
        let aws = AwsConfig::with_http_client(emulator.http_client());
        let store = Store::new(aws.dynamodb_client(), "okra");
        store.create_table().await.unwrap();
        store
    }

    fn seal(vault: &Vault) -> Vec<u8> {
        vault
            .seal_secret(b"record", b"token", generate_nonce().unwrap())
            .unwrap()
    }

    #[tokio::test]
    async fn a_new_folder_gets_a_key_that_only_its_owner_can_read() {
        let (folder, store) = (tempfile::tempdir().unwrap(), new_store().await);
        let sealed = seal(&open_vault(folder.path(), &store).await.unwrap());
        let again = open_vault(folder.path(), &store).await.unwrap();
        assert_eq!(*again.open_sealed(b"record", &sealed).unwrap(), b"token");
        let metadata = fs::metadata(folder.path().join(KEY_FILE)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_folder_with_sealed_data_does_not_open_without_its_key() {
        let (folder, store) = (tempfile::tempdir().unwrap(), new_store().await);
        open_vault(folder.path(), &store).await.unwrap();
        let key = folder.path().join(KEY_FILE);
        fs::remove_file(&key).unwrap();
        let error = open_vault(folder.path(), &store).await.unwrap_err();
        assert!(error.to_string().contains("is missing"), "{error}");
        assert!(!key.exists(), "no other key takes its place");

        fs::write(&key, [7; KEY_BYTES]).unwrap();
        let error = open_vault(folder.path(), &store).await.unwrap_err();
        assert!(error.to_string().contains("is not the key"), "{error}");
        fs::write(&key, b"short").unwrap();
        assert!(open_vault(folder.path(), &store).await.is_err());
    }

    #[tokio::test]
    async fn a_folder_of_an_earlier_release_does_not_open_without_its_key() {
        let (folder, store) = (tempfile::tempdir().unwrap(), new_store().await);
        let state = json!({ "minute": 1 });
        store
            .put_system_state(MINUTE_CLOCK_STATE, &state)
            .await
            .unwrap();
        assert!(open_vault(folder.path(), &store).await.is_err());
        // With its key it does, and the key is known from then on.
        fs::write(folder.path().join(KEY_FILE), [1; KEY_BYTES]).unwrap();
        open_vault(folder.path(), &store).await.unwrap();
        fs::write(folder.path().join(KEY_FILE), [2; KEY_BYTES]).unwrap();
        assert!(open_vault(folder.path(), &store).await.is_err());
    }

    #[tokio::test]
    async fn a_key_that_was_replaced_still_opens_what_it_sealed() {
        let (folder, store) = (tempfile::tempdir().unwrap(), new_store().await);
        let before = open_vault(folder.path(), &store).await.unwrap();
        let path = folder.path().join(KEY_FILE);
        let mut keys = read_keys(&path).unwrap().unwrap();
        keys.insert(0, [9; KEY_BYTES]);
        write_keys(&path, &keys).unwrap();
        let after = open_vault(folder.path(), &store).await.unwrap();
        assert!(after.open_sealed(b"record", &seal(&before)).is_ok());
        assert!(before.open_sealed(b"record", &seal(&after)).is_err());
    }
}
