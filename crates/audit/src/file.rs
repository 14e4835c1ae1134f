//! The audit file: JSON lines, in segments, whole whatever happens.
//!
//! `audit.jsonl` is the segment being written; closed ones are named `audit-NNNNNNNN-YYYYMMDD.jsonl`
//! by a number that only grows and the day they were closed. Whatever fails, each line of a
//! segment is one JSON object: a line that a failed write left unfinished is cut off and written
//! again, one that a crash left unfinished is kept as `{"unfinished":"…"}`.
//!
//! The chain of hashes will be closed here: [`Segments::append`] is the one place every record
//! passes on its way to the disk, in its final order.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use model::Timestamp;

use crate::json::{date, push_string};
use crate::recorder::Rotation;

/// Why the audit file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot make the audit directory {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot lock {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("another process records into {}", path.display())]
    InUse { path: PathBuf },
    #[error("cannot open the audit segment {}", path.display())]
    Segment {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// The segments of one directory, and the one that is open.
#[derive(Debug)]
pub(crate) struct Segments {
    directory: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
    /// Why the last try to close a segment failed.
    stuck: Option<io::Error>,
    /// Held for as long as this process records here.
    _lock: File,
}

/// The segment being written.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// The UTC day of its first line.
    day: u64,
    /// A part of a line that stands at its end and could not be cut off yet.
    torn: u64,
    is_dirty: bool,
}

impl Segments {
    /// Opens the directory and the segment, and closes off a line that a crash left unfinished.
    pub(crate) fn open(
        directory: &Path,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let own = |cause| OpenError::Directory { path: directory.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(own)?;
        let lock = lock(directory)?;
        let mut segments = Self {
            directory: directory.to_owned(),
            rotation,
            open: None,
            stuck: None,
            _lock: lock,
        };
        let path = segments.current();
        segments.ensure_open(now).map_err(|cause| OpenError::Segment { path, cause })?;
        Ok(segments)
    }

    /// Appends whole lines: all of them, or an error and none of those it did not count. Returns
    /// the bytes written; after an error the caller gives the rest again.
    pub(crate) fn append(&mut self, lines: &[u8], now: Timestamp) -> (usize, io::Result<()>) {
        // A segment that cannot be closed grows on: better a large file than a closed gate.
        self.stuck = self.rotate_if_due(lines.len() as u64, now).err();
        match self.ensure_open(now) {
            Ok(open) => open.append(lines),
            Err(error) => (0, Err(error)),
        }
    }

    /// Why a segment that is due could not be closed, or an old one not deleted.
    pub(crate) const fn take_stuck(&mut self) -> Option<io::Error> {
        self.stuck.take()
    }

    /// Forces what was written to the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) if open.is_dirty => {
                open.file.sync_data()?;
                open.is_dirty = false;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether something written is not forced to the disk yet.
    pub(crate) fn is_dirty(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_dirty)
    }

    /// Lets go of the segment and opens what stands at its name now.
    pub(crate) fn reopen(&mut self, now: Timestamp) -> io::Result<()> {
        self.sync()?;
        self.open = None;
        self.ensure_open(now).map(|_| ())
    }

    fn current(&self) -> PathBuf {
        self.directory.join(CURRENT)
    }

    fn ensure_open(&mut self, now: Timestamp) -> io::Result<&mut Open> {
        if self.open.is_none() {
            self.open = Some(Open::at(&self.current(), day(now))?);
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("the segment is not open"))
    }

    fn rotate_if_due(&mut self, coming: u64, now: Timestamp) -> io::Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let is_full = open.bytes + coming > self.rotation.bytes_max;
        // A clock that steps back does not close a segment.
        let is_another_day = day(now) > open.day;
        if open.bytes == 0 || open.torn > 0 || !(is_full || is_another_day) {
            return Ok(());
        }
        self.sync()?;
        self.open = None;
        let closed = self.closed()?;
        let number = closed.last().map_or(1, |(number, _)| number + 1);
        let (year, month, day) = date(now);
        let name = format!("audit-{number:08}-{year:04}{month:02}{day:02}.jsonl");
        fs::rename(self.current(), self.directory.join(name))?;
        sync_directory(&self.directory)?;
        self.prune(now)
    }

    /// Deletes closed segments that are too many or too old.
    fn prune(&self, now: Timestamp) -> io::Result<()> {
        let closed = self.closed()?;
        let too_many = closed.len().saturating_sub(self.rotation.segments_max);
        for (index, (_, path)) in closed.iter().enumerate() {
            if index < too_many || self.rotation.age_max.is_some_and(|max| is_older(path, max, now))
            {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The closed segments, oldest first.
    fn closed(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(number) = name.and_then(number_of) {
                found.push((number, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Open {
    fn at(path: &Path, today: u64) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        close_off(&mut file)?;
        let found = file.metadata()?;
        let modified = u64::try_from(found.mtime()).unwrap_or(0) / SECONDS_A_DAY;
        let day = if found.len() == 0 { today } else { modified };
        Ok(Self { file, bytes: found.len(), day, torn: 0, is_dirty: false })
    }

    fn append(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if let Err(error) = self.cut_torn() {
            return (0, Err(error));
        }
        let (written, result) = write_some(&mut self.file, lines);
        self.is_dirty |= written > 0;
        let done = lines.get(..written).unwrap_or_default();
        let whole = done.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.bytes += whole as u64;
        self.torn = (written - whole) as u64;
        // If it cannot be cut now, nothing is appended until it can.
        let cut = self.cut_torn();
        (whole, result.and(cut))
    }

    fn cut_torn(&mut self) -> io::Result<()> {
        if self.torn > 0 {
            let length = self.file.metadata()?.len();
            self.file.set_len(length.saturating_sub(self.torn))?;
            self.torn = 0;
        }
        Ok(())
    }
}

/// Writes as much as goes, and says how much that was.
pub(crate) fn write_some(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Turns a last line without its end into a line that says so, keeping what it holds.
fn close_off(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let tail_start = length.saturating_sub(LINE_BYTES_MAX);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(tail_start))?;
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let unfinished = tail.get(whole..).unwrap_or_default();
    if unfinished.is_empty() {
        return Ok(());
    }
    let mut line = b"{\"unfinished\":".to_vec();
    push_string(&mut line, &String::from_utf8_lossy(unfinished));
    line.extend_from_slice(b"}\n");
    file.set_len(tail_start + whole as u64)?;
    file.write_all(&line)?;
    file.sync_data()
}

/// One process a directory: two would cut each other's lines.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let failed = |cause| OpenError::Lock { path: path.clone(), cause };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse { path: directory.to_owned() }),
        Err(fs::TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Makes a rename last.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn number_of(name: &str) -> Option<u64> {
    let (number, day) = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.split_once('-')?;
    day.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

fn is_older(path: &Path, max: Duration, now: Timestamp) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    let age = modified.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    age.is_some_and(|at| now.since(Timestamp::from_secs(at.as_secs())) > max)
}

const fn day(at: Timestamp) -> u64 {
    at.as_secs() / SECONDS_A_DAY
}

const CURRENT: &str = "audit.jsonl";
const LOCK: &str = "audit.lock";
const SECONDS_A_DAY: u64 = 86_400;
/// Bytes at the end of a segment that are searched for an unfinished line. A record is far
/// shorter: the gate bounds each of its members.
const LINE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(20_000 * SECONDS_A_DAY + 43_200);

    fn open(directory: &Path, bytes_max: u64, segments_max: usize) -> Segments {
        let rotation = Rotation { bytes_max, segments_max, age_max: None };
        Segments::open(directory, rotation, NOON).unwrap()
    }

    fn append(segments: &mut Segments, line: &str, now: Timestamp) {
        let (written, result) = segments.append(line.as_bytes(), now);
        result.unwrap();
        assert_eq!(written, line.len());
    }

    fn current(directory: &Path) -> String {
        fs::read_to_string(directory.join(CURRENT)).unwrap()
    }

    fn closed(segments: &Segments) -> Vec<String> {
        let names = segments.closed().unwrap().into_iter();
        names.map(|(_, path)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_directory_and_the_file_are_the_owners_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("a/b");
        let _segments = open(&directory, 100, 1);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join(CURRENT)), 0o600);
    }

    #[test]
    fn one_process_records_into_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), 100, 1);
        let second = Segments::open(directory.path(), Rotation::default(), NOON);
        assert!(matches!(second, Err(OpenError::InUse { .. })));
        drop(first);
        open(directory.path(), 100, 1);
    }

    #[test]
    fn an_unfinished_last_line_is_kept_as_a_whole_one() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CURRENT), "{\"a\":1}\n{\"b\":\"x").unwrap();
        let mut segments = open(directory.path(), 1_000, 1);
        append(&mut segments, "{\"c\":3}\n", NOON);
        let expected = "{\"a\":1}\n{\"unfinished\":\"{\\\"b\\\":\\\"x\"}\n{\"c\":3}\n";
        assert_eq!(current(directory.path()), expected);
        drop(segments);
        open(directory.path(), 1_000, 1);
        assert_eq!(current(directory.path()), expected);
    }

    #[test]
    fn a_segment_closes_before_it_grows_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 16, 9);
        for _ in 0..5 {
            append(&mut segments, "{\"a\":1}\n", NOON);
        }
        assert_eq!(
            closed(&segments),
            ["audit-00000001-20241004.jsonl", "audit-00000002-20241004.jsonl"]
        );
        assert_eq!(current(directory.path()), "{\"a\":1}\n");
    }

    #[test]
    fn a_segment_closes_at_midnight_and_not_when_the_clock_steps_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 1_000, 9);
        append(&mut segments, "{\"a\":1}\n", NOON);
        append(&mut segments, "{\"a\":2}\n", Timestamp::from_secs(SECONDS_A_DAY));
        assert!(closed(&segments).is_empty());
        append(&mut segments, "{\"a\":3}\n", Timestamp::from_secs(20_001 * SECONDS_A_DAY));
        assert_eq!(closed(&segments), ["audit-00000001-20241005.jsonl"]);
    }

    #[test]
    fn the_oldest_segments_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 8, 2);
        for _ in 0..12 {
            append(&mut segments, "{\"a\":1}\n", NOON);
        }
        assert_eq!(
            closed(&segments),
            ["audit-00000010-20241004.jsonl", "audit-00000011-20241004.jsonl"]
        );
    }

    #[test]
    fn segments_older_than_the_bound_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 8, 9);
        segments.rotation.age_max = Some(Duration::from_secs(60));
        append(&mut segments, "{\"a\":1}\n", NOON);
        // The files' own times are the machine's; a rotation far in the future finds them old.
        append(&mut segments, "{\"a\":2}\n", Timestamp::from_secs(60_000 * SECONDS_A_DAY));
        assert!(closed(&segments).is_empty());
    }

    #[test]
    fn a_segment_that_cannot_be_closed_grows_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 8, 0);
        append(&mut segments, "{\"a\":1}\n", NOON);
        // A directory under a closed segment's name cannot be deleted as a file.
        fs::create_dir(directory.path().join("audit-00000001-20241004.jsonl")).unwrap();
        append(&mut segments, "{\"a\":2}\n", NOON);
        assert!(segments.take_stuck().is_some());
        append(&mut segments, "{\"a\":3}\n", NOON);
        assert_eq!(current(directory.path()), "{\"a\":3}\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 1_000, 9);
        append(&mut segments, "{\"a\":1}\n", NOON);
        fs::rename(directory.path().join(CURRENT), directory.path().join("moved")).unwrap();
        segments.reopen(NOON).unwrap();
        append(&mut segments, "{\"a\":2}\n", NOON);
        assert_eq!(current(directory.path()), "{\"a\":2}\n");
    }

    #[test]
    fn a_line_torn_by_a_failed_write_is_cut_off_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 1_000, 9);
        append(&mut segments, "{\"a\":1}\n", NOON);
        // As a full disk leaves it: half a line written, and the cut refused too.
        let open = segments.open.as_mut().unwrap();
        open.file.write_all(b"{\"a\":").unwrap();
        open.torn = 5;
        append(&mut segments, "{\"a\":2}\n", NOON);
        assert_eq!(current(directory.path()), "{\"a\":1}\n{\"a\":2}\n");
    }

    #[test]
    fn a_disk_that_is_full_takes_nothing_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = open(directory.path(), 1_000, 9);
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        segments.open.as_mut().unwrap().file = full;
        let (written, result) = segments.append(b"{\"a\":1}\n", NOON);
        assert_eq!((written, result.unwrap_err().kind()), (0, io::ErrorKind::StorageFull));
    }
}
