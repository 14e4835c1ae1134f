//! The ledger's file: what a clean stop leaves for the next start.
//!
//! `buckets.jsonl` holds a version line and one bucket a line. `open` stands beside it while a
//! node runs: if it is there at a start, the last stop was not clean and the file says nothing.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Bucket, LimitId, Timestamp};
use rules::plan::{BucketKey, Scope, Subject};
use serde::{Deserialize, Serialize};

/// Why the ledger's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot read line {line} of {}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        #[source]
        cause: serde_json::Error,
    },
    #[error("{} is of version {found}; this node reads version {VERSION}", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("cannot {what} the journal of the budgets, {}", path.display())]
    Journal {
        what: &'static str,
        path: PathBuf,
        #[source]
        cause: Box<redb::Error>,
    },
    #[error("the journal of the budgets, {}, is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
}

/// A bucket as it was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) key: BucketKey,
    pub(crate) bucket: Bucket,
    pub(crate) used: u64,
    pub(crate) at: Timestamp,
}

/// What a start finds.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) saved: Vec<Saved>,
    /// The last stop was not clean: what was taken before is not known.
    pub(crate) unclean: bool,
}

/// Takes the saved buckets and marks the directory as in use. What was saved counts once.
pub(crate) fn open(directory: &Path) -> Result<Opened, Error> {
    make(directory)?;
    let (mark, file) = (directory.join("open"), directory.join("buckets.jsonl"));
    let unclean = mark.exists();
    let saved = if unclean { Vec::new() } else { read(&file)? };
    File::create(&mark).and_then(|mark| mark.sync_all()).map_err(io_error("create", &mark))?;
    if file.exists() {
        fs::remove_file(&file).map_err(io_error("remove", &file))?;
    }
    sync_directory(directory)?;
    Ok(Opened { saved, unclean })
}

/// Makes the ledger's directory, for its owner alone.
pub(crate) fn make(directory: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(io_error("create", directory))
}

/// Writes the buckets and takes the mark away, in this order, each durable.
pub(crate) fn save(directory: &Path, saved: &[Saved]) -> Result<(), Error> {
    let (draft, file) = (directory.join("buckets.draft"), directory.join("buckets.jsonl"));
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(&draft)?);
        writeln!(out, "{}", serde_json::to_string(&Head { version: VERSION })?)?;
        for bucket in saved {
            writeln!(out, "{}", serde_json::to_string(&Row::from(bucket))?)?;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    };
    write().map_err(io_error("write", &draft))?;
    fs::rename(&draft, &file).map_err(io_error("rename", &draft))?;
    sync_directory(directory)?;
    let mark = directory.join("open");
    fs::remove_file(&mark).map_err(io_error("remove", &mark))?;
    sync_directory(directory)
}

fn read(path: &Path) -> Result<Vec<Saved>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(io_error("open", path)(cause)),
    };
    let mut saved = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(io_error("read", path))?;
        let bad = |cause| Error::Line { path: path.to_owned(), line: index + 1, cause };
        if index == 0 {
            let head: Head = serde_json::from_str(&line).map_err(bad)?;
            if head.version != VERSION {
                return Err(Error::Version { path: path.to_owned(), found: head.version });
            }
            continue;
        }
        let row: Row = serde_json::from_str(&line).map_err(bad)?;
        // A bucket that this version would not make is forgotten with its limit.
        saved.extend(row.bucket());
    }
    Ok(saved)
}

pub(crate) fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(io_error("sync", directory))
}

pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Io { what, path, cause }
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Row {
    scope: (String, String),
    subject: (String, String, String),
    /// Refill a microsecond, units of a token, capacity.
    bucket: (u64, u64, u64),
    used: u64,
    at: u64,
}

impl From<&Saved> for Row {
    fn from(saved: &Saved) -> Self {
        let Saved { key, bucket, used, at } = saved;
        let scope = match &key.scope {
            Scope::Limit(id) => ("limit", id.as_str()),
            Scope::LimitReq(place) => ("limit-req", &**place),
            Scope::Failures => ("failures", ""),
        };
        Self {
            scope: (scope.0.to_owned(), scope.1.to_owned()),
            subject: subject_parts(&key.subject),
            bucket: (bucket.refill(), bucket.unit(), bucket.capacity()),
            used: *used,
            at: at.as_micros(),
        }
    }
}

impl Row {
    fn bucket(&self) -> Option<Saved> {
        let subject = subject_of(&self.subject)?;
        let (kind, name) = &self.scope;
        let scope = match kind.as_str() {
            "limit" => Scope::Limit(LimitId::new(name)),
            "limit-req" => Scope::LimitReq(Arc::from(name.as_str())),
            "failures" => Scope::Failures,
            _ => return None,
        };
        let (refill, unit, capacity) = self.bucket;
        let bucket = Bucket::from_parts(refill, unit, capacity)?;
        Some(Saved {
            key: BucketKey { scope, subject },
            bucket,
            used: self.used,
            at: Timestamp::from_micros(self.at),
        })
    }
}

/// A subject as files hold it: its kind, and up to two texts.
pub(crate) type SubjectParts = (String, String, String);

pub(crate) fn subject_parts(subject: &Subject) -> SubjectParts {
    let (kind, first, second) = match subject {
        Subject::Address(address) => ("address", address.to_string(), String::new()),
        Subject::Text(text) => ("text", text.to_string(), String::new()),
        Subject::Run(agent, run) => ("run", agent.to_string(), run.to_string()),
    };
    (kind.to_owned(), first, second)
}

/// `None` for a kind that this version does not know.
pub(crate) fn subject_of((kind, first, second): &SubjectParts) -> Option<Subject> {
    match kind.as_str() {
        "address" => Some(Subject::Address(first.parse().ok()?)),
        "text" => Some(Subject::Text(Arc::from(first.as_str()))),
        "run" => Some(Subject::Run(Arc::from(first.as_str()), Arc::from(second.as_str()))),
        _ => None,
    }
}

/// The version of the file.
const VERSION: u32 = 1;
