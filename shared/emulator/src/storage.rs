//! Where the services store their data: [`Storage`], a locked folder or memory.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Semaphore;

/// The mode of files that hold data: their owner reads and writes them.
const PRIVATE_MODE: u32 = 0o600;

/// Name of the file that is locked while the folder is in use.
const LOCK_FILE: &str = "lock";

/// Why the services could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorOpenError {
    /// Another process uses the folder.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The folder cannot be created or written to.
    #[error("{} cannot be written to", .0.display())]
    NotWritable(PathBuf, #[source] io::Error),
    /// Another program has a database locked.
    #[error("{0} is locked by another program")]
    Busy(String),
    /// A database belongs to something else, or is damaged.
    #[error("{database} could not be opened")]
    Damaged {
        /// Its path, or `:memory:`.
        database: String,
        /// The error of SQLite or the layer over it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EmulatorOpenError {
    pub(crate) fn damaged_database(
        database: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Damaged {
            database: database.into(),
            source: source.into(),
        }
    }
}

/// A locked folder, or memory.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Memory,
    /// The lock file stays locked until it is closed, and the system closes it when the process dies.
    Folder(
        PathBuf,
        #[expect(dead_code, reason = "held for its lock")] Arc<File>,
        /// Permits of threads that work in it.
        Arc<Semaphore>,
    ),
}

/// Most threads that work in a folder at once. Each database is behind one lock: more threads would only wait for it
/// (94 did while ten thousand records were linked).
const MAX_BLOCKING_THREADS: usize = 4;

impl Storage {
    /// Claims a folder for this process.
    pub(crate) fn claim_folder(folder: &Path) -> Result<Self, EmulatorOpenError> {
        fs::create_dir_all(folder).map_err(|error| not_writable(folder, error))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(LOCK_FILE))
            .map_err(|error| not_writable(folder, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self::Folder(
                folder.to_owned(),
                Arc::new(file),
                Arc::new(Semaphore::new(MAX_BLOCKING_THREADS)),
            )),
            Err(TryLockError::WouldBlock) => Err(EmulatorOpenError::Locked(folder.to_owned())),
            Err(TryLockError::Error(error)) => Err(not_writable(folder, error)),
        }
    }

    /// The path of a database, as SQLite wants it.
    pub(crate) fn database_path(&self, name: &str) -> String {
        match self {
            Self::Memory => ":memory:".to_owned(),
            Self::Folder(folder, ..) => folder.join(name).to_string_lossy().into_owned(),
        }
    }

    /// Creates the file of a database where there is none, and takes it away from everybody but its owner. SQLite gives
    /// the files beside it the same mode.
    ///
    /// # Errors
    ///
    /// [`EmulatorOpenError::NotWritable`].
    pub(crate) fn make_database_private(&self, name: &str) -> Result<(), EmulatorOpenError> {
        let Self::Folder(folder, ..) = self else {
            return Ok(());
        };
        let path = folder.join(name);
        let mut options = File::options();
        options.create(true).append(true).mode(PRIVATE_MODE);
        options
            .open(&path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(PRIVATE_MODE)))
            .map_err(|error| not_writable(folder, error))
    }

    /// Runs work that may touch the disk: for memory at once, for a folder on a thread that may block.
    pub(crate) async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self {
            Self::Memory => work(),
            Self::Folder(_, _, threads) => {
                // The semaphore is never closed. Work that has begun keeps its permit to the end, also where its
                // caller has gone.
                let permit = Arc::clone(threads).acquire_owned().await;
                let task = tokio::task::spawn_blocking(move || {
                    let result = work();
                    drop(permit);
                    result
                });
                match task.await {
                    Ok(result) => result,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // The runtime is shutting down: no caller will see a result.
                        Err(_) => std::future::pending().await,
                    },
                }
            }
        }
    }
}

fn not_writable(folder: &Path, error: io::Error) -> EmulatorOpenError {
    EmulatorOpenError::NotWritable(folder.to_owned(), error)
}
