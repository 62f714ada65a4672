//! The local process's own secrets, kept in the data folder, readable by their owner only.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, ensure};

/// The key in `folder/name`: 32 random bytes, made when the file is not there.
pub(crate) fn load_or_create_key(folder: &Path, name: &str) -> anyhow::Result<[u8; 32]> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => {
            let key = bytes.try_into().ok();
            ensure!(key.is_some(), "{} is not a key of 32 bytes", path.display());
            key.context("a key")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut key = [0; 32];
            fill_random(&mut key)?;
            // Written aside and renamed: a crash never leaves half a key.
            let aside = folder.join(format!("{name}.new"));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)
                .with_context(|| format!("cannot write {}", aside.display()))?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Fills `bytes` from the operating system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> anyhow::Result<()> {
    getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let made = load_or_create_key(folder.path(), "vault.key").unwrap();
        assert_ne!(made, [0; 32]);
        assert_eq!(
            load_or_create_key(folder.path(), "vault.key").unwrap(),
            made
        );
        let mode = fs::metadata(folder.path().join("vault.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join("vault.key"), b"short").unwrap();
        assert!(load_or_create_key(folder.path(), "vault.key").is_err());
    }
}
