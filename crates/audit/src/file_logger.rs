//! Files that routes ask for: `file-logger`, written by a thread of their own, so that a disk or
//! a pipe that hangs holds up nothing else.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

use crate::file::write_some;
use crate::metrics::{Metrics, Sink};

/// The writer's end. Never blocks: what the thread is too far behind to take is dropped and
/// counted.
#[derive(Debug)]
pub(crate) struct RouteFiles {
    sender: SyncSender<Message>,
    /// Bytes handed over and not written yet.
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// Lines for one file.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) path: Arc<str>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u64,
}

#[derive(Debug)]
enum Message {
    Lines(Lines),
    Reopen,
    /// Answered when every line before it is written and on the disk.
    Flush(oneshot::Sender<()>),
}

impl RouteFiles {
    pub(crate) fn start(metrics: Metrics) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            waiting: Arc::clone(&waiting),
            metrics: metrics.clone(),
            open: HashMap::new(),
            failing: HashSet::new(),
            turn: 0,
        };
        std::thread::Builder::new()
            .name("file-logger".to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Self { sender, waiting, metrics })
    }

    pub(crate) fn write(&self, lines: Lines) {
        let (bytes, records) = (lines.bytes.len(), lines.records);
        let fits = self.waiting.load(Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        if fits {
            self.waiting.fetch_add(bytes, Ordering::Relaxed);
            if self.sender.try_send(Message::Lines(lines)).is_ok() {
                return;
            }
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.metrics.gave_up(Sink::file, records);
    }

    /// Opens every file anew with its next line.
    pub(crate) fn reopen(&self) {
        // A thread that is too far behind to be told holds its files no longer than its queue.
        let _full = self.sender.try_send(Message::Reopen);
    }

    /// Answered when everything handed over is on the disk; `None` when the thread is too far
    /// behind to be asked.
    pub(crate) fn flush(&self) -> Option<oneshot::Receiver<()>> {
        let (done, wait) = oneshot::channel();
        self.sender.try_send(Message::Flush(done)).ok().map(|()| wait)
    }
}

struct Worker {
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
    open: HashMap<Arc<str>, Open>,
    /// Files whose last write failed, so that it is logged once; forgotten beyond
    /// [`FAILING_MAX`].
    failing: HashSet<Arc<str>>,
    turn: u64,
}

struct Open {
    file: File,
    last_used: u64,
}

impl Worker {
    fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Lines(lines) => {
                    self.waiting.fetch_sub(lines.bytes.len(), Ordering::Relaxed);
                    self.write(lines);
                }
                Message::Reopen => self.open.clear(),
                Message::Flush(done) => {
                    self.sync();
                    let _nobody_waits = done.send(());
                }
            }
        }
    }

    fn write(&mut self, lines: Lines) {
        let Lines { path, bytes, records } = lines;
        let result = self.file(&path).and_then(|file| append(file, &bytes));
        match result {
            Ok(()) => {
                self.metrics.wrote(Sink::file, records, bytes.len());
                if self.failing.remove(&path) {
                    tracing::info!(%path, "records are written to the route's file again");
                }
            }
            Err(error) => {
                self.open.remove(&path);
                self.metrics.failed(Sink::file);
                self.metrics.gave_up(Sink::file, records);
                if self.failing.len() >= FAILING_MAX {
                    self.failing.clear();
                }
                if self.failing.insert(Arc::clone(&path)) {
                    tracing::error!(%path, %error, "cannot write records to the route's file");
                }
            }
        }
    }

    fn file(&mut self, path: &Arc<str>) -> io::Result<&mut File> {
        self.turn += 1;
        if !self.open.contains_key(path) {
            let file = open(Path::new(&**path))?;
            self.make_room();
            self.open.insert(Arc::clone(path), Open { file, last_used: self.turn });
        }
        let open = self.open.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        open.last_used = self.turn;
        Ok(&mut open.file)
    }

    fn make_room(&mut self) {
        if self.open.len() < OPEN_MAX {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.last_used);
        if let Some(path) = oldest.map(|(path, _)| Arc::clone(path)) {
            self.open.remove(&path);
        }
    }

    fn sync(&mut self) {
        for (path, open) in &self.open {
            let is_regular = open.file.metadata().is_ok_and(|found| found.is_file());
            if is_regular && let Err(error) = open.file.sync_data() {
                self.metrics.failed(Sink::file);
                tracing::error!(%path, %error, "cannot force the route's file to the disk");
            }
        }
    }
}

/// Opens a file to append to. A named pipe is refused: opening one waits for its reader, and
/// every other file of the node would wait too.
fn open(path: &Path) -> io::Result<File> {
    let is_pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    if is_pipe && !path.starts_with("/dev") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "is a named pipe"));
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Writes all lines, or cuts off what an error left of them.
fn append(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let (written, result) = write_some(file, lines);
    let Err(error) = result else { return Ok(()) };
    let found = file.metadata()?;
    if written > 0 && found.is_file() {
        file.set_len(found.len().saturating_sub(written as u64))?;
    }
    Err(error)
}

/// Files open at once; beyond it the one idle longest is closed, and opened again when needed.
const OPEN_MAX: usize = 64;
/// Batches of lines that may wait for the thread; the next is dropped and counted.
const BATCHES_MAX: usize = 1_024;
/// Bytes that may wait for the thread; what would exceed them is dropped and counted.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Failing files remembered.
const FAILING_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::To;

    fn write(files: &RouteFiles, path: &Path, line: &str) {
        let path = Arc::from(path.to_str().unwrap());
        files.write(Lines { path, bytes: line.as_bytes().to_vec(), records: 1 });
    }

    fn flush(files: &RouteFiles) {
        files.flush().unwrap().blocking_recv().unwrap();
    }

    fn dropped(metrics: &Metrics) -> u64 {
        metrics.dropped.get_or_create(&To { sink: Sink::file }).get()
    }

    #[test]
    fn lines_are_appended_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "0\n").unwrap();
        let files = RouteFiles::start(Metrics::default()).unwrap();
        write(&files, &path, "1\n");
        write(&files, &path, "2\n");
        flush(&files);
        assert_eq!(fs::read_to_string(path).unwrap(), "0\n1\n2\n");
    }

    #[test]
    fn more_files_than_may_be_open_are_all_written() {
        let directory = tempfile::tempdir().unwrap();
        let files = RouteFiles::start(Metrics::default()).unwrap();
        let path = |n: usize| directory.path().join(n.to_string());
        for round in ["1\n", "2\n"] {
            (0..OPEN_MAX + 10).for_each(|n| write(&files, &path(n), round));
        }
        flush(&files);
        for n in 0..OPEN_MAX + 10 {
            assert_eq!(fs::read_to_string(path(n)).unwrap(), "1\n2\n");
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let files = RouteFiles::start(Metrics::default()).unwrap();
        write(&files, &path, "1\n");
        flush(&files);
        fs::rename(&path, directory.path().join("b")).unwrap();
        files.reopen();
        write(&files, &path, "2\n");
        flush(&files);
        assert_eq!(fs::read_to_string(path).unwrap(), "2\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_its_own_records_and_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let metrics = Metrics::default();
        let files = RouteFiles::start(metrics.clone()).unwrap();
        let path = directory.path().join("absent/a");
        write(&files, &path, "1\n");
        write(&files, Path::new("/dev/full"), "1\n");
        flush(&files);
        assert_eq!(dropped(&metrics), 2);
        fs::create_dir(directory.path().join("absent")).unwrap();
        write(&files, &path, "2\n");
        flush(&files);
        assert_eq!(fs::read_to_string(path).unwrap(), "2\n");
    }
}
