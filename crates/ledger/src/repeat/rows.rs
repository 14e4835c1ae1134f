//! What a node remembers of repeats, on disk: a row a request, and sealed answers beside.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition,
};
use rules::repeat::{Kept, Slot};

/// What is remembered of a request, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) slot: Slot,
    /// In microseconds since 1970; 0 for a row that is not on disk.
    pub(super) expires: u64,
    /// Where its answer stands among those that go first.
    pub(super) answer_at: u64,
}

/// A row as it shall be from now on.
pub(super) struct Change<'a> {
    pub(super) id: [u8; 32],
    pub(super) row: &'a mut Row,
    pub(super) expires: u64,
    /// Its new answer.
    pub(super) answer: Option<&'a [u8]>,
}

/// The file, or as much in memory.
pub(super) struct File {
    database: Database,
    answer_bytes_max: u64,
}

/// A request's rows move by age.
type Age = (u64, [u8; 32]);

const SLOTS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("slots");
const AGES: TableDefinition<'_, Age, ()> = TableDefinition::new("ages");
const ANSWERS: TableDefinition<'_, Age, &[u8]> = TableDefinition::new("answers");
const TOTAL: TableDefinition<'_, (), u64> = TableDefinition::new("answer bytes");

impl File {
    /// The file of a start, which makes it if it is the first.
    pub(super) fn open(path: &Path) -> Result<Self, redb::Error> {
        Self::over(backend(path, true)?)
    }

    /// The same file once more. Never makes it: one that has gone while the node runs held what
    /// was sent.
    pub(super) fn reopen(path: &Path) -> Result<Self, redb::Error> {
        Self::over(backend(path, false)?)
    }

    pub(super) fn in_memory() -> Result<Self, redb::Error> {
        Self::over(InMemoryBackend::new())
    }

    pub(super) fn over(backend: impl StorageBackend) -> Result<Self, redb::Error> {
        let mut builder = Builder::new();
        let database = builder.set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
        let begun = database.begin_write()?;
        begun.open_table(SLOTS)?;
        begun.open_table(AGES)?;
        begun.open_table(ANSWERS)?;
        begun.open_table(TOTAL)?;
        begun.commit()?;
        Ok(Self { database, answer_bytes_max: ANSWER_BYTES_MAX })
    }

    /// The row of a request, unless it has expired.
    pub(super) fn row(&self, id: &[u8; 32], now: u64) -> Result<Option<Row>, redb::Error> {
        let table = self.database.begin_read()?.open_table(SLOTS)?;
        let found = table.get(id)?;
        let Some(found) = found else { return Ok(None) };
        let row = read(found.value())
            .ok_or_else(|| redb::Error::Corrupted(String::from("a row of repeats")))?;
        Ok(Some(row).filter(|row| row.expires > now))
    }

    pub(super) fn answer(&self, at: u64, id: &[u8; 32]) -> Result<Option<Vec<u8>>, redb::Error> {
        let table = self.database.begin_read()?.open_table(ANSWERS)?;
        let found = table.get((at, *id))?;
        Ok(found.map(|found| found.value().to_vec()))
    }

    /// Whether another request finds room.
    pub(super) fn has_room(&self) -> Result<bool, redb::Error> {
        use redb::ReadableTableMetadata as _;
        Ok(self.database.begin_read()?.open_table(SLOTS)?.len()? < SLOTS_MAX)
    }

    /// Makes changes durable, forgets what has expired, and the oldest answers where there are too
    /// many. Says whose answers those were. `is_held` tells the rows that must not go. Where it
    /// fails the rows say what they said before, and the file is to be opened again.
    pub(super) fn write(
        &self,
        changes: &mut [Change<'_>],
        now: u64,
        is_held: &dyn Fn(&[u8; 32]) -> bool,
    ) -> Result<Vec<[u8; 32]>, redb::Error> {
        let begun = self.database.begin_write()?;
        let (mut forgotten, mut places) = (Vec::new(), Vec::new());
        {
            let (mut slots, mut ages) = (begun.open_table(SLOTS)?, begun.open_table(AGES)?);
            let (mut answers, mut total) = (begun.open_table(ANSWERS)?, begun.open_table(TOTAL)?);
            let mut bytes = total.get(())?.map_or(0, |total| total.value());
            let remove = |answers: &mut redb::Table<'_, Age, &[u8]>, age: Age, bytes: &mut u64| {
                let removed = answers.remove(age)?.map_or(0, |answer| answer.value().len() as u64);
                *bytes = bytes.saturating_sub(removed);
                Ok::<_, redb::Error>(())
            };
            for Change { id, row, expires, answer } in &*changes {
                let mut new = (**row).clone();
                // What stands there, and not what was to: a write that failed may have been done.
                let old = slots.get(*id)?.and_then(|row| read(row.value()));
                if let Some(old) = &old {
                    ages.remove((old.expires, *id))?;
                }
                new.expires = *expires;
                ages.insert((new.expires, *id), ())?;
                if let Some(answer) = answer {
                    let at = old.map_or(row.answer_at, |old| old.answer_at);
                    remove(&mut answers, (at, *id), &mut bytes)?;
                    new.answer_at = *expires;
                    answers.insert((new.answer_at, *id), *answer)?;
                    bytes += answer.len() as u64;
                }
                slots.insert(*id, written(&new).as_slice())?;
                places.push((new.expires, new.answer_at));
            }
            for _ in 0..SWEPT_MAX {
                let first = ages.first()?.map(|(age, _)| age.value());
                let Some((expires, id)) = first.filter(|(expires, _)| *expires <= now) else {
                    break;
                };
                if is_held(&id) {
                    break;
                }
                ages.remove((expires, id))?;
                let old = slots.remove(id)?.and_then(|row| read(row.value()));
                if let Some(old) = old {
                    remove(&mut answers, (old.answer_at, id), &mut bytes)?;
                }
            }
            while bytes > self.answer_bytes_max {
                let Some(age) = answers.first()?.map(|(age, _)| age.value()) else { break };
                remove(&mut answers, age, &mut bytes)?;
                let row = slots.get(age.1)?.and_then(|row| read(row.value()));
                if let Some(mut row) = row {
                    row.slot.forget_answer();
                    slots.insert(age.1, written(&row).as_slice())?;
                }
                forgotten.push(age.1);
            }
            total.insert((), bytes)?;
        }
        begun.commit()?;
        for (Change { row, .. }, place) in changes.iter_mut().zip(places) {
            (row.expires, row.answer_at) = place;
        }
        Ok(forgotten)
    }
}

fn backend(path: &Path, creates: bool) -> Result<FileBackend, redb::Error> {
    let mut ours = OpenOptions::new();
    ours.read(true).write(true).create(creates).truncate(false).mode(0o600);
    let file = ours.open(path)?;
    if !creates && file.metadata()?.len() == 0 {
        // An empty file would become a new one.
        return Err(redb::Error::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(FileBackend::new(file)?)
}

fn written(row: &Row) -> Vec<u8> {
    let (fingerprint, (spare, unknown), answer) = row.slot.parts();
    let (flag, status) =
        answer.map_or((0, 0), |kept| (if kept.whole { 2 } else { 1 }, kept.status));
    let mut bytes = vec![VERSION, flag];
    bytes.extend(status.to_le_bytes());
    bytes.extend(spare.to_le_bytes());
    bytes.extend(unknown.to_le_bytes());
    bytes.extend(row.expires.to_le_bytes());
    bytes.extend(row.answer_at.to_le_bytes());
    bytes.extend(fingerprint);
    bytes
}

fn read(bytes: &[u8]) -> Option<Row> {
    let ([VERSION, flag], rest) = bytes.split_first_chunk::<2>()? else { return None };
    let (status, rest) = rest.split_first_chunk()?;
    let (spare, rest) = rest.split_first_chunk()?;
    let (unknown, rest) = rest.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (answer_at, fingerprint) = rest.split_first_chunk()?;
    let whole = *flag == 2;
    let kept = (*flag > 0).then(|| Kept { status: u16::from_le_bytes(*status), whole });
    let counts = (u32::from_le_bytes(*spare), u32::from_le_bytes(*unknown));
    Some(Row {
        slot: Slot::restored(fingerprint.try_into().ok()?, counts, kept),
        expires: u64::from_le_bytes(*expires),
        answer_at: u64::from_le_bytes(*answer_at),
    })
}

/// The version of a row.
const VERSION: u8 = 1;

/// Requests remembered, some 150 bytes each. When there are as many, another is refused until one
/// expires: forgetting one early could let it be repeated.
const SLOTS_MAX: u64 = 1_000_000;

/// Bytes of answers kept. When there are more, the oldest go, and a repeat is told the status.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// Expired rows forgotten with one write: more than it adds.
const SWEPT_MAX: usize = 1_024;

/// Memory that the file's pages may take.
const CACHE_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::{Change, File, Kept, Row, Slot};

    fn row(byte: u8) -> Row {
        let answer = Some(Kept { status: 201, whole: true });
        Row { slot: Slot::restored([byte; 32], (1, 2), answer), expires: 0, answer_at: 0 }
    }

    #[test]
    fn a_row_is_read_as_it_was_written_until_it_expires() {
        let file = File::in_memory().unwrap();
        let mut row = row(7);
        let change = Change { id: [1; 32], row: &mut row, expires: 10, answer: Some(b"answer") };
        assert!(file.write(&mut [change], 0, &|_| false).unwrap().is_empty());
        assert_eq!(file.row(&[1; 32], 9).unwrap().unwrap(), row);
        assert_eq!(file.answer(10, &[1; 32]).unwrap().unwrap(), b"answer");
        assert_eq!(file.row(&[1; 32], 10).unwrap(), None);
        assert!(file.write(&mut [], 10, &|_| true).unwrap().is_empty());
        assert!(file.answer(10, &[1; 32]).unwrap().is_some());
        assert!(file.write(&mut [], 10, &|_| false).unwrap().is_empty());
        assert_eq!(file.answer(10, &[1; 32]).unwrap(), None);
    }

    #[test]
    fn the_oldest_answers_go_where_there_are_too_many_and_their_rows_stay() {
        let file = File { answer_bytes_max: 8_192, ..File::in_memory().unwrap() };
        for byte in 0..9 {
            let (mut row, answer) = (row(byte), vec![byte; 1_024]);
            let expires = 100 + u64::from(byte);
            let change = Change { id: [byte; 32], row: &mut row, expires, answer: Some(&answer) };
            let forgotten = file.write(&mut [change], 0, &|_| false).unwrap();
            assert_eq!(forgotten, if byte == 8 { vec![[0; 32]] } else { vec![] });
        }
        let left = |byte: u8| file.row(&[byte; 32], 0).unwrap().unwrap().slot.parts().2.unwrap();
        assert_eq!((left(0).whole, left(0).status, left(1).whole), (false, 201, true));
    }
}
