//! Where the services keep what they hold.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Semaphore;

/// Name of the file that is locked while the folder is in use.
const LOCK_FILE: &str = "lock";

/// Why the services could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorOpenError {
    /// Another process serves from the folder.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The folder cannot be made or written to.
    #[error("{} cannot be written to", .0.display())]
    NotWritable(PathBuf, #[source] io::Error),
    /// Another program has a database locked.
    #[error("{0} is locked by another program")]
    Busy(String),
    /// A database is not one of ours, or is damaged.
    #[error("{database} could not be opened")]
    Damaged {
        /// Its path, or `:memory:`.
        database: String,
        /// What SQLite or the layer over it said.
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

/// A folder of our own, or memory.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Memory,
    /// The file is locked until it is closed, and the system closes it when the process dies.
    Folder(
        PathBuf,
        #[expect(dead_code, reason = "held for its lock")] Arc<File>,
        /// Threads that work in it.
        Arc<Semaphore>,
    ),
}

/// Threads that work in a folder at once. Each database is behind one lock: more threads would wait for it (94 did
/// while ten thousand records were linked).
const MAX_BLOCKING_THREADS: usize = 4;

impl Storage {
    /// Takes a folder.
    pub(crate) fn claim_folder(folder: &Path) -> Result<Self, EmulatorOpenError> {
        let not_writable = |error| EmulatorOpenError::NotWritable(folder.to_owned(), error);
        fs::create_dir_all(folder).map_err(not_writable)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(LOCK_FILE))
            .map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self::Folder(
                folder.to_owned(),
                Arc::new(file),
                Arc::new(Semaphore::new(MAX_BLOCKING_THREADS)),
            )),
            Err(TryLockError::WouldBlock) => Err(EmulatorOpenError::Locked(folder.to_owned())),
            Err(TryLockError::Error(error)) => Err(not_writable(error)),
        }
    }

    /// The path of a database, as SQLite wants it.
    pub(crate) fn database_path(&self, name: &str) -> String {
        match self {
            Self::Memory => ":memory:".to_owned(),
            Self::Folder(folder, ..) => folder.join(name).to_string_lossy().into_owned(),
        }
    }

    /// Does work that may touch the disk: in memory at once, otherwise where it blocks nobody.
    pub(crate) async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self {
            Self::Memory => work(),
            Self::Folder(_, _, at_work) => {
                // It is never closed. Work that was begun keeps its place, though nobody waits for it any more.
                let place = Arc::clone(at_work).acquire_owned().await;
                let placed = move || {
                    let done = work();
                    drop(place);
                    done
                };
                match tokio::task::spawn_blocking(placed).await {
                    Ok(done) => done,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // The runtime is shutting down: nobody is going to see an answer.
                        Err(_) => std::future::pending().await,
                    },
                }
            }
        }
    }
}
