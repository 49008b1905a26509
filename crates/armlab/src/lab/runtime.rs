//! Where a running lab keeps its state, and the locks by which several processes agree on it.
//!
//! Each lab has a folder, and in it
//! * `start.lock`: held while a lab is being started, joined or ended, so that only one of these happens;
//! * `keeper.lock`: held by the keeper as long as it lives, which is how others know that it lives;
//! * `users.lock`: held, shared, by each runner that uses the lab; free for long enough, the lab is idle;
//! * `state`, `console.log`, `keeper.log`, `initramfs`.
//!
//! The kernel frees a lock when its holder dies, however it dies. Locks are never deleted, which would allow
//! two holders of the same name.

use crate::wire::Token;
use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of one lab.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    folder: PathBuf,
}

/// A lock, free again when dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// What one has to know to reach a running lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) keeper: i32,
    pub(crate) qemu: i32,
    pub(crate) port: u16,
    pub(crate) token: Token,
}

/// The folder that holds the folders of all labs of this user, made if missing, closed to others.
pub(crate) fn root() -> Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(folder) if Path::new(&folder).is_dir() => Path::new(&folder).join("armlab"),
        _ => PathBuf::from(format!("/tmp/armlab-{user}")),
    };
    let made = DirBuilder::new().mode(0o700).create(&folder);
    if let Err(error) = &made
        && error.kind() != ErrorKind::AlreadyExists
    {
        made.with_context(|| format!("making {}", folder.display()))?;
    }
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != user || found.permissions().mode() & 0o077 != 0 {
        bail!("{} must be a folder of your own with mode 0700; remove it", folder.display());
    }
    Ok(folder)
}

/// The folders of this user's labs, running or not.
pub(crate) fn all() -> Result<Vec<Runtime>> {
    let mut labs = Vec::new();
    for entry in fs::read_dir(root()?)? {
        labs.push(Runtime { folder: entry?.path() });
    }
    labs.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(labs)
}

impl Runtime {
    pub(crate) fn open(name: &str) -> Result<Runtime> {
        let folder = root()?.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Runtime { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Waits until this process alone may start, join or end the lab.
    pub(crate) fn lock_start(&self) -> Result<Lock> {
        Ok(Lock(self.locked("start.lock", FlockOperation::LockExclusive)?))
    }

    /// The same without waiting; `None` when another process is at it.
    pub(crate) fn try_lock_start(&self) -> Result<Option<Lock>> {
        self.try_lock("start.lock", FlockOperation::NonBlockingLockExclusive)
    }

    /// Says that the lab is in use, until the lock is dropped.
    pub(crate) fn lock_users(&self) -> Result<Lock> {
        let mut file = self.locked("users.lock", FlockOperation::LockShared)?;
        file.write_all(b".")?; // a new time stamp: runs shorter than the keeper's pace count too
        file.set_len(0)?;
        Ok(Lock(file))
    }

    /// How long ago somebody began to use the lab, or `None` while somebody uses it.
    pub(crate) fn idle(&self) -> Result<Option<Duration>> {
        let lock = self.try_lock("users.lock", FlockOperation::NonBlockingLockExclusive)?;
        let Some(Lock(file)) = lock else {
            return Ok(None);
        };
        Ok(Some(file.metadata()?.modified()?.elapsed().unwrap_or_default()))
    }

    /// What a keeper holds as long as it lives; `None` when another keeper does.
    pub(crate) fn try_lock_keeper(&self) -> Result<Option<Lock>> {
        self.try_lock("keeper.lock", FlockOperation::NonBlockingLockExclusive)
    }

    /// Waits until the keeper is gone.
    pub(crate) fn wait_for_keeper(&self) -> Result<()> {
        self.locked("keeper.lock", FlockOperation::LockShared).map(drop)
    }

    /// The state of the lab if it runs.
    pub(crate) fn state(&self) -> Result<Option<State>> {
        if self.try_lock("keeper.lock", FlockOperation::NonBlockingLockShared)?.is_some() {
            return Ok(None);
        }
        match fs::read_to_string(self.folder.join("state")) {
            Ok(text) => Ok(Some(State::parse(&text).context("the lab's state file is damaged")?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<()> {
        let fresh = self.folder.join("state.new");
        write_private(&fresh, state.to_string().as_bytes())?;
        Ok(fs::rename(&fresh, self.folder.join("state"))?)
    }

    pub(crate) fn remove_state(&self) {
        for name in ["state", "initramfs"] {
            let _ = fs::remove_file(self.folder.join(name)); // it may never have been written
        }
    }

    fn try_lock(&self, name: &str, operation: FlockOperation) -> Result<Option<Lock>> {
        match self.locked(name, operation) {
            Ok(file) => Ok(Some(Lock(file))),
            Err(error) if error.downcast_ref() == Some(&rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn locked(&self, name: &str, operation: FlockOperation) -> Result<File> {
        let path = self.folder.join(name);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        rustix::io::retry_on_intr(|| flock(&file, operation))?;
        Ok(file)
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("writing {}", path.display()))
}

impl std::fmt::Display for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {} {} ", self.keeper, self.qemu, self.port)?;
        self.token.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl State {
    fn parse(text: &str) -> Option<State> {
        let mut words = text.split_whitespace();
        let keeper = words.next()?.parse().ok()?;
        let qemu = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        let digits = words.next()?;
        let mut token = Token::default();
        for (index, byte) in token.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(State { keeper, qemu, port, token })
    }
}
