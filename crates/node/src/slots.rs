//! A value in a file whose space is allocated beforehand: a full disk does not keep it from changing.
//!
//! There are two slots of a page each. A value goes in place over the older one, with a number and a checksum, so that
//! the other is whole whenever this is cut off: what is read is the newest that is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// A page: what is written to it is on the disk, or is not, without its neighbours.
const SLOT: usize = 4096;
/// Two for the value; the third is for trying whether the file can be written.
const SLOTS: usize = 3;

/// What a slot holds: a line of JSON, blanks behind it.
#[derive(Serialize, Deserialize)]
struct Slot<'a> {
    /// Drawn when the file is made.
    file: String,
    sequence: u64,
    /// Of all that is here besides.
    checksum: String,
    /// As it is written: a build whose value has another field must not take what an older one wrote for damaged.
    #[serde(borrow)]
    value: &'a RawValue,
}

/// A value, and the number of its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version<T> {
    /// Which file this is: versions of two files cannot be compared.
    pub(super) file: String,
    pub(super) sequence: u64,
    pub(super) value: T,
}

/// A file with two slots.
pub(super) struct Slots {
    path: PathBuf,
    /// Whether it must survive a power cut.
    sync: bool,
}

impl Slots {
    pub(super) fn new(path: &str, sync: bool) -> Slots {
        Slots { path: path.into(), sync }
    }

    /// The newest version. A file with nothing but the value, as others write it, is version 0.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<Option<Version<T>>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if bytes.len() != SLOT * SLOTS {
            return Ok(Some(Version {
                file: String::new(),
                sequence: 0,
                value: serde_json::from_slice(&bytes)?,
            }));
        }
        let newest = bytes.chunks(SLOT).take(2).filter_map(whole).max_by_key(|slot| slot.sequence);
        let lost = || Error::new(ErrorKind::InvalidData, "both of its versions are damaged");
        let Slot { file, sequence, value, .. } = newest.ok_or_else(lost)?;
        // Whole, and not understood: the version before is not what was promised last.
        let value = serde_json::from_str(value.get())?;
        Ok(Some(Version { file, sequence, value }))
    }

    /// Writes the next version. When this fails, the version before still is what is read, or the new one is: both are
    /// possible, and the next attempt goes to the same place.
    pub(super) fn write<T: DeserializeOwned + Serialize>(&self, value: &T) -> Result<()> {
        // Only what is in this form has space of its own.
        let known = self.read::<T>();
        let (file, sequence) = match known {
            Ok(Some(version)) if version.sequence > 0 => (version.file, version.sequence + 1),
            Ok(_) => (draw()?, 1),
            // What cannot be understood must not be written over.
            Err(error) => return Err(error),
        };
        let slot = encode(&file, sequence, value)?;
        if sequence == 1 {
            return self.create(&slot);
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(&slot, at(sequence))?;
        if self.sync { file.sync_data() } else { Ok(()) }
    }

    /// Gives a plain value space of its own. Not beside a writer.
    pub(super) fn prepare<T: DeserializeOwned + Serialize>(&self) -> Result<()> {
        match self.read::<T>()? {
            Some(version) if version.sequence == 0 => self.write(&version.value),
            _ => Ok(()),
        }
    }

    /// Tries whether it could be written now.
    pub(super) fn check(&self) -> Result<()> {
        let file = match OpenOptions::new().write(true).open(&self.path) {
            // It is made when there is something to keep.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        if file.metadata()?.len() == (SLOT * SLOTS) as u64 {
            let mut text = jiff::Timestamp::now().to_string().into_bytes();
            text.resize(SLOT, b' ');
            file.write_all_at(&text, (SLOT * 2) as u64)?;
        }
        if self.sync { file.sync_data() } else { Ok(()) }
    }

    /// Makes the file, whole or not at all, with the first version.
    fn create(&self, slot: &[u8]) -> Result<()> {
        let directory = self.path.parent().ok_or(ErrorKind::InvalidInput)?;
        fs::create_dir_all(directory)?;
        let new = self.path.with_extension("new");
        // Written, not reserved: a reservation would be turned into space with the first write, and need some.
        let mut bytes = vec![b' '; SLOT * SLOTS];
        let begin = usize::try_from(at(1)).map_err(Error::other)?;
        bytes[begin..begin + SLOT].copy_from_slice(slot);
        let made = File::create(&new)
            .and_then(|file| {
                file.write_all_at(&bytes, 0)?;
                if self.sync { file.sync_all() } else { Ok(()) }
            })
            .and_then(|()| fs::rename(&new, &self.path));
        if made.is_err() {
            // It takes space that there is not.
            let _ = fs::remove_file(&new);
        }
        made?;
        if self.sync { File::open(directory)?.sync_all() } else { Ok(()) }
    }
}

fn at(sequence: u64) -> u64 {
    (sequence % 2) * SLOT as u64
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn draw() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::other(error.to_string()))?;
    Ok(hex(&bytes))
}

fn checksum(file: &str, sequence: u64, value: &RawValue) -> String {
    let digest = Sha256::digest(format!("{file} {sequence} {}", value.get()));
    hex(&digest[..8])
}

fn encode<T: Serialize>(file: &str, sequence: u64, value: &T) -> Result<Vec<u8>> {
    let value = &*serde_json::value::to_raw_value(value)?;
    let checksum = checksum(file, sequence, value);
    let mut bytes = serde_json::to_vec(&Slot { file: file.to_owned(), sequence, checksum, value })?;
    if bytes.len() >= SLOT {
        return Err(Error::new(ErrorKind::FileTooLarge, "the value does not fit"));
    }
    bytes.resize(SLOT - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}

/// A slot whose writing was not cut off.
fn whole(bytes: &[u8]) -> Option<Slot<'_>> {
    let slot: Slot = serde_json::from_slice(bytes).ok()?;
    (checksum(&slot.file, slot.sequence, slot.value) == slot.checksum).then_some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> (tempfile::TempDir, Slots) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept/value.json");
        (directory, Slots { path, sync: true })
    }

    fn read(slots: &Slots) -> Option<Version<Vec<u32>>> {
        slots.read().unwrap()
    }

    #[test]
    fn the_newest_is_read_and_the_file_never_grows() {
        let (_directory, slots) = slots();
        assert_eq!(read(&slots), None);
        for number in 1..=5 {
            slots.write(&vec![number]).unwrap();
            let version = read(&slots).unwrap();
            assert_eq!((version.sequence, version.value), (u64::from(number), vec![number]));
            assert_eq!(fs::metadata(&slots.path).unwrap().len(), 3 * 4096);
            slots.check().unwrap();
        }
        assert!(slots.write(&vec![0; 5000]).is_err(), "it does not fit");
        assert_eq!(read(&slots).unwrap().value, [5]);
    }

    #[test]
    fn what_was_cut_off_leaves_the_version_before() {
        let (_directory, slots) = slots();
        for cut in 0..120 {
            slots.write(&vec![1]).unwrap();
            slots.write(&vec![2]).unwrap();
            let Version { file, sequence, .. } = read(&slots).unwrap();
            let next = encode(&file, sequence + 1, &vec![3_u32]).unwrap();
            let end = next.iter().rposition(|byte| *byte == b'}').unwrap();
            let file = OpenOptions::new().write(true).open(&slots.path).unwrap();
            file.write_all_at(&next[..cut.min(end)], at(sequence + 1)).unwrap();
            let mut found = vec![0; SLOT];
            File::open(&slots.path).unwrap().read_exact_at(&mut found, at(sequence + 1)).unwrap();
            // What is left of the older one may happen to be the rest of the new.
            let expected = if found == next { 3 } else { 2 };
            assert_eq!(read(&slots).unwrap().value, [expected], "after {cut} bytes");
            // And the next write takes the broken one's place.
            slots.write(&vec![4]).unwrap();
            assert_eq!(read(&slots).unwrap().value, [4]);
        }
    }

    #[test]
    fn a_plain_value_is_read_and_taken_over() {
        let (_directory, slots) = slots();
        fs::create_dir_all(slots.path.parent().unwrap()).unwrap();
        fs::write(&slots.path, "[7]\n").unwrap();
        assert_eq!(read(&slots), Some(Version { file: String::new(), sequence: 0, value: vec![7] }));
        slots.check().unwrap();
        assert_eq!(fs::read_to_string(&slots.path).unwrap(), "[7]\n", "a check changes nothing");
        slots.write(&vec![8]).unwrap();
        assert_eq!(read(&slots).unwrap().value, [8]);
        fs::write(&slots.path, "[7]\n").unwrap();
        for _ in 0..2 {
            slots.prepare::<Vec<u32>>().unwrap();
            let version = read(&slots).unwrap();
            assert_eq!((version.sequence, version.value), (1, vec![7]));
        }
    }

    #[test]
    fn a_build_with_another_field_reads_what_an_older_one_wrote() {
        #[derive(Serialize, Deserialize)]
        struct Before {
            term: u64,
            gone: bool,
        }
        #[derive(Serialize, Deserialize, Debug, PartialEq)]
        struct After {
            #[serde(default)]
            new: Option<u64>,
            term: u64,
        }
        let (_directory, slots) = slots();
        slots.write(&Before { term: 7, gone: true }).unwrap();
        assert_eq!(slots.read::<After>().unwrap().unwrap().value, After { new: None, term: 7 });
        slots.write(&After { new: Some(1), term: 8 }).unwrap();
        assert_eq!(slots.read::<After>().unwrap().unwrap().value.term, 8);
        let Version { file, sequence, .. } = slots.read::<After>().unwrap().unwrap();
        let later = encode(&file, sequence + 1, &"of a later build").unwrap();
        let file = OpenOptions::new().write(true).open(&slots.path).unwrap();
        file.write_all_at(&later, at(sequence + 1)).unwrap();
        assert!(slots.read::<After>().is_err(), "an older version is not taken for the newest");
    }

    #[test]
    fn what_makes_no_sense_is_neither_read_nor_written_over() {
        let (_directory, slots) = slots();
        slots.write(&vec![1]).unwrap();
        for nonsense in [vec![b'x'; 3 * 4096], Vec::new(), b"{".to_vec()] {
            fs::write(&slots.path, &nonsense).unwrap();
            assert!(slots.read::<Vec<u32>>().is_err());
            assert!(slots.write(&vec![2]).is_err());
            assert_eq!(fs::read(&slots.path).unwrap(), nonsense);
        }
    }
}
