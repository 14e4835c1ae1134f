//! The secrets that the document refers to: read on this node, kept in memory, never written.
//!
//! A compile asks for values and never waits: it gets what is known. [`Secrets::want`] gives new
//! references a bounded moment to be read first; whatever comes later, or changes, asks for
//! another compile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use config::{Keyring, Reference, VaultToken};
use model::{Clock, Secret, Uptime};
use parking_lot::{Condvar, Mutex};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::vault;

/// Reads a variable of the process's environment.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Why a value could not be read; never holds a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is not there, or can never be used: a value that was known before is dropped.
    Absent(String),
    /// Nobody could say: a value that was known before stays in use, since a vault that is away
    /// for a moment is no reason to refuse traffic.
    Away(String),
}

/// What this node knows.
pub(crate) struct Secrets {
    environment: Environment,
    clock: Arc<dyn Clock>,
    keyring: Arc<Keyring>,
    tls: Arc<rustls::ClientConfig>,
    known: Mutex<Known>,
    /// Tells [`Secrets::want`] that something was read.
    read: Condvar,
    /// Tells [`Secrets::keep`] that other references are wanted.
    wanted: watch::Sender<()>,
}

#[derive(Default)]
struct Known {
    /// Files and vaults; the environment is asked directly. Never more than
    /// [`REFERENCES_MAX`].
    entries: BTreeMap<Reference, Entry>,
    /// Moves whenever a value does.
    generation: u64,
}

struct Entry {
    /// `None` until the first try has ended.
    value: Option<Result<Secret<String>, String>>,
    /// When the last try ended.
    tried: Uptime,
    /// When to try again.
    due: Uptime,
}

impl Secrets {
    pub(crate) fn new(
        environment: Environment,
        clock: Arc<dyn Clock>,
        keyring: Arc<Keyring>,
        tls: Arc<rustls::ClientConfig>,
    ) -> Self {
        Self {
            environment,
            clock,
            keyring,
            tls,
            known: Mutex::default(),
            read: Condvar::new(),
            wanted: watch::Sender::new(()),
        }
    }

    /// What is known of a reference now.
    pub(crate) fn value(&self, reference: &Reference) -> Result<Secret<String>, String> {
        if let Reference::Env { name, json_key } = reference {
            return self.variable(name, json_key.as_deref());
        }
        match self.known.lock().entries.get(reference) {
            Some(Entry { value: Some(value), .. }) => value.clone(),
            Some(Entry { value: None, .. }) => Err("it has not been read yet".to_owned()),
            None => Err(format!("this node reads {REFERENCES_MAX} secrets and no more")),
        }
    }

    /// The number that moves whenever a value does.
    pub(crate) fn generation(&self) -> u64 {
        self.known.lock().generation
    }

    /// Reads these references too from now on, and waits up to `patience` until each has been tried
    /// once. Blocks: not for async workers.
    pub(crate) fn want(&self, references: &BTreeSet<Reference>, patience: Duration) {
        let now = self.clock.uptime();
        let mut known = self.known.lock();
        for reference in references {
            if matches!(reference, Reference::Env { .. }) {
                continue;
            }
            if let Some(entry) = known.entries.get_mut(reference) {
                // A change of the document is often one half of a change of secrets.
                if is_file(reference) && now.since(entry.tried) >= FILE_REST {
                    entry.due = now;
                }
            } else if known.entries.len() < REFERENCES_MAX {
                let entry = Entry { value: None, tried: Uptime::default(), due: now };
                known.entries.insert(reference.clone(), entry);
            }
        }
        self.wanted.send_replace(());
        let untried = |known: &mut Known| known.entries.values().any(|entry| entry.value.is_none());
        self.read.wait_while_for(&mut known, untried, patience);
    }

    /// Forgets what no document refers to any more.
    pub(crate) fn keep_only(&self, references: &BTreeSet<Reference>) {
        self.known.lock().entries.retain(|reference, _| references.contains(reference));
    }

    /// Reads what is due until told to stop, and calls `changed` whenever a value moved.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken, changed: impl Fn()) {
        let mut wanted = self.wanted.subscribe();
        let mut reads = Reads::default();
        loop {
            self.start_due(&mut reads);
            let pause = self.pause(&reads);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = wanted.changed() => {}
                Some(ended) = reads.tasks.join_next_with_id() => {
                    if self.finish(&mut reads, ended) {
                        changed();
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// `$env://NAME`, or one key of the JSON object in it.
    fn variable(&self, name: &str, json_key: Option<&str>) -> Result<Secret<String>, String> {
        let Some(text) = (self.environment)(name) else {
            return Err(format!("the variable {name} is not set"));
        };
        let text = Secret::new(text);
        let Some(key) = json_key else { return Ok(text) };
        let object: serde_json::Value = serde_json::from_str(text.expose())
            .map_err(|_| format!("the variable {name} does not hold JSON"))?;
        match object.get(key) {
            Some(serde_json::Value::String(text)) => Ok(Secret::new(text.clone())),
            _ => Err(format!("the variable {name} has no text under the key {key}")),
        }
    }

    fn start_due(self: &Arc<Self>, reads: &mut Reads) {
        let now = self.clock.uptime();
        let known = self.known.lock();
        for (reference, entry) in &known.entries {
            if reads.tasks.len() >= READS_MAX {
                return;
            }
            if entry.due > now || reads.of.values().any(|running| running == reference) {
                continue;
            }
            let (secrets, wanted) = (Arc::clone(self), reference.clone());
            let task = reads.tasks.spawn(async move { secrets.read_one(&wanted).await });
            reads.of.insert(task.id(), reference.clone());
        }
    }

    /// How long until something is due that is not being read.
    fn pause(&self, reads: &Reads) -> Duration {
        if reads.tasks.len() >= READS_MAX {
            return REST_MAX;
        }
        let now = self.clock.uptime();
        let known = self.known.lock();
        let waiting = known
            .entries
            .iter()
            .filter(|(reference, _)| !reads.of.values().any(|running| running == *reference));
        waiting.map(|(_, entry)| entry.due.since(now)).min().unwrap_or(REST_MAX).min(REST_MAX)
    }

    /// Takes in what a task read; answers whether a value moved.
    fn finish(&self, reads: &mut Reads, ended: Ended) -> bool {
        let (id, read) = match ended {
            Ok((id, read)) => (id, read),
            Err(cause) => (cause.id(), Err(Failure::Away("reading it failed".to_owned()))),
        };
        let Some(reference) = reads.of.remove(&id) else { return false };
        let now = self.clock.uptime();
        let mut known = self.known.lock();
        let Some(entry) = known.entries.get_mut(&reference) else { return false };
        let rest = rest(&reference, read.is_ok());
        entry.tried = now;
        entry.due = now.plus(rest);
        let new = match (read, &entry.value) {
            (Ok(value), _) => Ok(value),
            (Err(Failure::Away(why)), Some(Ok(_))) => {
                let reference = name(&reference);
                tracing::warn!(
                    reference,
                    why,
                    "a secret cannot be read again; the last value stays"
                );
                return false;
            }
            (Err(Failure::Absent(why) | Failure::Away(why)), _) => Err(why),
        };
        let moved = entry.value.as_ref() != Some(&new);
        if moved && let Err(why) = &new {
            tracing::warn!(reference = name(&reference), why, "a secret cannot be resolved");
        }
        entry.value = Some(new);
        known.generation += u64::from(moved);
        self.read.notify_all();
        moved
    }

    async fn read_one(&self, reference: &Reference) -> Result<Secret<String>, Failure> {
        match reference {
            Reference::Env { name, json_key } => {
                self.variable(name, json_key.as_deref()).map_err(Failure::Absent)
            }
            Reference::File { path } => read_file(path.as_ref()).await,
            Reference::Vault { uri, prefix, token, namespace, path, key } => {
                let token = &self.token(token).await?;
                let namespace = namespace.as_deref();
                vault::read(vault::Place { uri, prefix, path, key, namespace, token }, &self.tls)
                    .await
            }
        }
    }

    async fn token(&self, token: &VaultToken) -> Result<Secret<String>, Failure> {
        let named = |why| format!("the vault's token: {why}");
        match token {
            VaultToken::Sealed { place, text } => self
                .keyring
                .open(place, text)
                .map_err(|cause| Failure::Absent(named(cause.to_string()))),
            VaultToken::Reference(reference) => match &**reference {
                Reference::Env { name, json_key } => self
                    .variable(name, json_key.as_deref())
                    .map_err(|why| Failure::Absent(named(why))),
                Reference::File { path } => read_file(path.as_ref()).await,
                Reference::Vault { .. } => {
                    Err(Failure::Absent(named("cannot lie in a vault itself".to_owned())))
                }
            },
        }
    }
}

/// The tasks that read, and which reference each of them reads.
#[derive(Default)]
struct Reads {
    tasks: JoinSet<Result<Secret<String>, Failure>>,
    of: HashMap<Id, Reference>,
}

type Ended = Result<(Id, Result<Secret<String>, Failure>), tokio::task::JoinError>;

/// A file's text without the line end that editors leave.
async fn read_file(path: &std::path::Path) -> Result<Secret<String>, Failure> {
    let failed = |cause: std::io::Error| match cause.kind() {
        std::io::ErrorKind::NotFound => Failure::Absent("there is no such file".to_owned()),
        kind => Failure::Away(format!("the file cannot be read: {kind}")),
    };
    let read = async {
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).await;
        let text = Secret::new(text);
        let read = read.map_err(failed)?;
        Ok((read, text))
    };
    let (read, text) = tokio::time::timeout(FILE_DEADLINE, read)
        .await
        .map_err(|_| Failure::Away("the file system does not answer".to_owned()))??;
    if read as u64 > FILE_BYTES_MAX {
        return Err(Failure::Absent(format!("the file is over {FILE_BYTES_MAX} bytes")));
    }
    let trimmed = text.expose().strip_suffix('\n').unwrap_or(text.expose());
    let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
    Ok(Secret::new(trimmed.to_owned()))
}

/// What logs call a reference: never a token, which a vault's settings may hold sealed.
fn name(reference: &Reference) -> String {
    match reference {
        Reference::Env { name, .. } => format!("$env://{name}"),
        Reference::File { path } => format!("$secret://file{path}"),
        Reference::Vault { uri, prefix, path, key, .. } => format!("{uri} {prefix}/{path}/{key}"),
    }
}

const fn is_file(reference: &Reference) -> bool {
    matches!(reference, Reference::File { .. })
}

/// How long a value is used, or a failure believed, before it is read again.
const fn rest(reference: &Reference, read: bool) -> Duration {
    match reference {
        Reference::Env { .. } | Reference::File { .. } => FILE_EVERY,
        Reference::Vault { .. } if read => VAULT_EVERY,
        Reference::Vault { .. } => VAULT_AGAIN,
    }
}

/// How often files are read again.
const FILE_EVERY: Duration = Duration::from_secs(10);
/// A change of the document reads files again, but not more often than this.
const FILE_REST: Duration = Duration::from_secs(1);
/// How long a vault's value is used, as in APISIX.
const VAULT_EVERY: Duration = Duration::from_secs(300);
/// How long a vault's failure is believed, as in APISIX.
const VAULT_AGAIN: Duration = Duration::from_secs(60);
/// The reader looks up at least this often.
const REST_MAX: Duration = Duration::from_secs(60);
/// A longer file is refused: a secret is a few kilobytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// A file on a dead network mount counts as away after this.
const FILE_DEADLINE: Duration = Duration::from_secs(2);
/// References kept; those beyond are unresolved, and their requests refused.
const REFERENCES_MAX: usize = 4_096;
/// Reads at a time; the others wait for one to end.
const READS_MAX: usize = 16;

#[cfg(test)]
mod tests;
