//! Buckets and objects in a directory.
//!
//! An object is one file, named by the hash of its key, so that a key may be as long and as odd as S3 allows. The
//! file ends with the key and what else belongs to it. What there is, is kept in memory, in order, and read from
//! the files once, at the start. A file appears whole or not at all; it is not synced: objects outlive the daemon,
//! and this machine's power is not what a lab is about.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tempfile::NamedTempFile;

/// Bytes at the very end of a file: the length of what is before them and after the content.
const LENGTH: u64 = 8;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no such bucket")]
    NoSuchBucket,
    #[error("the bucket exists")]
    BucketExists,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("there is no such key")]
    NoSuchKey,
    #[error("there is no such upload")]
    NoSuchUpload,
    #[error("a part is missing or is another")]
    InvalidPart,
    #[error("the parts are not in order")]
    InvalidPartOrder,
    #[error("there is no room")]
    Full,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An object, or a part of one to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) size: u64,
    /// MD5 of the content in hex; of parts, that of their MD5s, and their number.
    pub(super) etag: String,
    /// Milliseconds since 1970.
    pub(super) modified: i64,
}

/// What follows the content in a file.
#[derive(Serialize, Deserialize)]
struct Trailer {
    key: String,
    etag: String,
    modified: i64,
}

/// A page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Object)>,
    pub(super) prefixes: Vec<String>,
    /// The last item, if there is more behind it.
    pub(super) next: Option<String>,
}

/// What is asked of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: &'a str,
    /// The item, object or prefix, that the page begins behind.
    pub(super) after: &'a str,
    pub(super) most: usize,
}

#[derive(Debug, Default)]
struct Bucket {
    created: i64,
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
}

#[derive(Debug)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, Object>,
}

type Buckets = BTreeMap<String, Bucket>;

/// All buckets.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    buckets: Mutex<Buckets>,
}

/// Content that is being written. It is nothing until it is put somewhere.
#[derive(Debug)]
pub(super) struct Incoming {
    file: NamedTempFile,
    md5: Md5,
    size: u64,
}

impl Incoming {
    /// Takes more of the content.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

impl Store {
    /// The store in a directory, made if it is not there. What a killed writer left is removed.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let open = || -> Result<Buckets> {
            let incoming = root.join("incoming");
            match fs::remove_dir_all(&incoming) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => fs::create_dir_all(&incoming)?,
            }
            fs::create_dir_all(root.join("buckets"))?;
            let mut buckets = Buckets::new();
            for (name, path) in entries(&root.join("buckets"))? {
                buckets.insert(name, load(&path)?);
            }
            Ok(buckets)
        };
        let buckets = open().with_context(|| format!("cannot read the buckets in {}", root.display()))?;
        Ok(Self { root: root.to_owned(), buckets: Mutex::new(buckets) })
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket_path(&self, bucket: &str) -> PathBuf {
        self.root.join("buckets").join(bucket)
    }

    fn object_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.bucket_path(bucket).join("objects").join(hex(&Sha256::digest(key)))
    }

    fn upload_path(&self, bucket: &str, upload: &str) -> PathBuf {
        self.bucket_path(bucket).join("uploads").join(upload)
    }

    /// The buckets and when they were made.
    pub(super) fn buckets(&self) -> Vec<(String, i64)> {
        self.lock().iter().map(|(name, bucket)| (name.clone(), bucket.created)).collect()
    }

    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.lock().contains_key(bucket)
    }

    /// `bucket` must be a valid name of one: it becomes a directory's.
    pub(super) fn create_bucket(&self, bucket: &str) -> Result<(), Refusal> {
        let mut buckets = self.lock();
        if buckets.contains_key(bucket) {
            return Err(Refusal::BucketExists);
        }
        let path = self.bucket_path(bucket);
        fs::create_dir_all(path.join("objects"))?;
        fs::create_dir_all(path.join("uploads"))?;
        buckets.insert(bucket.to_owned(), Bucket { created: now(), ..Bucket::default() });
        Ok(())
    }

    /// Deletes a bucket without objects. Uploads that are not complete go with it.
    pub(super) fn delete_bucket(&self, bucket: &str) -> Result<(), Refusal> {
        let mut buckets = self.lock();
        if !of(&mut buckets, bucket)?.objects.is_empty() {
            return Err(Refusal::BucketNotEmpty);
        }
        fs::remove_dir_all(self.bucket_path(bucket))?;
        buckets.remove(bucket);
        Ok(())
    }

    /// Begins to take content.
    pub(super) fn incoming(&self) -> io::Result<Incoming> {
        let file = NamedTempFile::new_in(self.root.join("incoming"))?;
        Ok(Incoming { file, md5: Md5::new(), size: 0 })
    }

    /// Makes an object of what came, if no more than `limit` is stored afterwards.
    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        incoming: Incoming,
        limit: Option<u64>,
    ) -> Result<Object, Refusal> {
        let etag = hex(&incoming.md5.clone().finalize());
        self.place(bucket, key, incoming, etag, limit, None)
    }

    /// Puts an object in its place, and takes away the upload that it was made of.
    fn place(
        &self,
        bucket: &str,
        key: &str,
        incoming: Incoming,
        etag: String,
        limit: Option<u64>,
        upload: Option<&str>,
    ) -> Result<Object, Refusal> {
        let object = Object { size: incoming.size, etag, modified: now() };
        let file = finish(incoming.file, key, &object)?;
        let mut buckets = self.lock();
        let used = used(&buckets);
        let entry = of(&mut buckets, bucket)?;
        let parts = match upload.map(|id| entry.uploads.get(id).ok_or(Refusal::NoSuchUpload)) {
            Some(upload) => upload?.parts.values().map(|part| part.size).sum(),
            None => 0,
        };
        let replaced = entry.objects.get(key).map_or(0, |old| old.size);
        if limit.is_some_and(|limit| used + object.size > limit + replaced + parts) {
            return Err(Refusal::Full);
        }
        file.persist(self.object_path(bucket, key)).map_err(|error| error.error)?;
        entry.objects.insert(key.to_owned(), object.clone());
        if let Some(id) = upload {
            entry.uploads.remove(id);
            fs::remove_dir_all(self.upload_path(bucket, id))?;
        }
        Ok(object)
    }

    /// An object and its file, whose first `size` bytes are the content.
    pub(super) fn get(&self, bucket: &str, key: &str) -> Result<(Object, File), Refusal> {
        let mut buckets = self.lock();
        let object = of(&mut buckets, bucket)?.objects.get(key).ok_or(Refusal::NoSuchKey)?.clone();
        Ok((object, File::open(self.object_path(bucket, key))?))
    }

    pub(super) fn head(&self, bucket: &str, key: &str) -> Result<Object, Refusal> {
        of(&mut self.lock(), bucket)?.objects.get(key).cloned().ok_or(Refusal::NoSuchKey)
    }

    /// Deletes an object. One that is not there counts as deleted.
    pub(super) fn delete(&self, bucket: &str, key: &str) -> Result<(), Refusal> {
        let mut buckets = self.lock();
        let entry = of(&mut buckets, bucket)?;
        if entry.objects.contains_key(key) {
            fs::remove_file(self.object_path(bucket, key))?;
            entry.objects.remove(key);
        }
        Ok(())
    }

    pub(super) fn list(&self, bucket: &str, query: Query<'_>) -> Result<Page, Refusal> {
        let mut buckets = self.lock();
        Ok(page(&of(&mut buckets, bucket)?.objects, query))
    }

    /// Bytes that all buckets hold, parts included.
    pub(super) fn used(&self) -> u64 {
        used(&self.lock())
    }

    /// Begins an upload in parts and returns its name.
    pub(super) fn begin_upload(&self, bucket: &str, key: &str) -> Result<String, Refusal> {
        let mut buckets = self.lock();
        let entry = of(&mut buckets, bucket)?;
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let id = hex(&random);
        let path = self.upload_path(bucket, &id);
        fs::create_dir(&path)?;
        fs::write(path.join("key"), key)?;
        entry.uploads.insert(id.clone(), Upload { key: key.to_owned(), parts: BTreeMap::new() });
        Ok(id)
    }

    /// Makes a part of what came, in the place of an earlier one of this number.
    pub(super) fn put_part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        number: u32,
        incoming: Incoming,
        limit: Option<u64>,
    ) -> Result<Object, Refusal> {
        let etag = hex(&incoming.md5.clone().finalize());
        let part = Object { size: incoming.size, etag, modified: now() };
        let file = finish(incoming.file, key, &part)?;
        let mut buckets = self.lock();
        let used = used(&buckets);
        let parts = &mut upload_of(&mut buckets, bucket, key, upload)?.parts;
        let replaced = parts.get(&number).map_or(0, |old| old.size);
        if limit.is_some_and(|limit| used + part.size > limit + replaced) {
            return Err(Refusal::Full);
        }
        file.persist(self.upload_path(bucket, upload).join(number.to_string()))
            .map_err(|error| error.error)?;
        parts.insert(number, part.clone());
        Ok(part)
    }

    /// Makes an object of an upload's parts: those that are named, by number and MD5, in this order.
    pub(super) fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        wanted: &[(u32, String)],
        limit: Option<u64>,
    ) -> Result<Object, Refusal> {
        let parts = upload_of(&mut self.lock(), bucket, key, upload)?.parts.clone();
        if wanted.is_empty() {
            return Err(Refusal::InvalidPart);
        }
        if !wanted.is_sorted_by(|one, next| one.0 < next.0) {
            return Err(Refusal::InvalidPartOrder);
        }
        let mut incoming = self.incoming()?;
        let mut md5s = Md5::new();
        for (number, etag) in wanted {
            let part = parts.get(number).filter(|part| part.etag == *etag).ok_or(Refusal::InvalidPart)?;
            let file = File::open(self.upload_path(bucket, upload).join(number.to_string()))?;
            incoming.size += io::copy(&mut file.take(part.size), &mut incoming.file)?;
            md5s.update(unhex(&part.etag));
        }
        let etag = format!("{}-{}", hex(&md5s.finalize()), wanted.len());
        self.place(bucket, key, incoming, etag, limit, Some(upload))
    }

    pub(super) fn abort_upload(&self, bucket: &str, key: &str, upload: &str) -> Result<(), Refusal> {
        let mut buckets = self.lock();
        upload_of(&mut buckets, bucket, key, upload)?;
        fs::remove_dir_all(self.upload_path(bucket, upload))?;
        of(&mut buckets, bucket)?.uploads.remove(upload);
        Ok(())
    }
}

fn of<'a>(buckets: &'a mut Buckets, bucket: &str) -> Result<&'a mut Bucket, Refusal> {
    buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)
}

fn upload_of<'a>(
    buckets: &'a mut Buckets,
    bucket: &str,
    key: &str,
    upload: &str,
) -> Result<&'a mut Upload, Refusal> {
    let uploads = &mut of(buckets, bucket)?.uploads;
    uploads.get_mut(upload).filter(|upload| upload.key == key).ok_or(Refusal::NoSuchUpload)
}

fn used(buckets: &Buckets) -> u64 {
    let of = |bucket: &Bucket| -> u64 {
        let parts = bucket.uploads.values().flat_map(|upload| upload.parts.values());
        bucket.objects.values().chain(parts).map(|object| object.size).sum()
    };
    buckets.values().map(of).sum()
}

/// Objects in the order of their keys, those with a delimiter behind the prefix rolled up.
fn page(objects: &BTreeMap<String, Object>, query: Query<'_>) -> Page {
    let Query { prefix, delimiter, after, most } = query;
    let mut page = Page::default();
    if most == 0 {
        return page;
    }
    let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let matching =
        objects.range::<str, _>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
    let mut last: Option<String> = None;
    for (key, object) in matching {
        let rest = &key[prefix.len()..];
        let end = if delimiter.is_empty() { None } else { rest.find(delimiter) };
        let item = match end {
            Some(at) => &key[..prefix.len() + at + delimiter.len()],
            None => key.as_str(),
        };
        // Another one of a prefix that has been told, on this page or the one before.
        if end.is_some() && (item == after || last.as_deref() == Some(item)) {
            continue;
        }
        if page.objects.len() + page.prefixes.len() == most {
            page.next = last;
            break;
        }
        match end {
            Some(_) => page.prefixes.push(item.to_owned()),
            None => page.objects.push((key.clone(), object.clone())),
        }
        last = Some(item.to_owned());
    }
    page
}

/// Writes what follows the content.
fn finish(mut file: NamedTempFile, key: &str, object: &Object) -> Result<NamedTempFile, Refusal> {
    let trailer = Trailer { key: key.to_owned(), etag: object.etag.clone(), modified: object.modified };
    let bytes = serde_json::to_vec(&trailer).map_err(io::Error::other)?;
    file.write_all(&bytes)?;
    file.write_all(&(bytes.len() as u64).to_le_bytes())?;
    Ok(file)
}

fn load(path: &Path) -> Result<Bucket> {
    let modified = fs::metadata(path)?.modified()?;
    let created = Timestamp::try_from(modified)?.as_millisecond();
    let mut bucket = Bucket { created, ..Bucket::default() };
    for (_, file) in entries(&path.join("objects"))? {
        let (key, object) = read(&file)?;
        bucket.objects.insert(key, object);
    }
    for (id, directory) in entries(&path.join("uploads"))? {
        let mut upload = Upload { key: String::new(), parts: BTreeMap::new() };
        for (name, file) in entries(&directory)? {
            match name.parse() {
                Ok(number) => _ = upload.parts.insert(number, read(&file)?.1),
                Err(_) => upload.key = fs::read_to_string(&file)?,
            }
        }
        bucket.uploads.insert(id, upload);
    }
    Ok(bucket)
}

/// The key and the object in a file.
fn read(path: &Path) -> Result<(String, Object)> {
    let read = || -> Result<(String, Object)> {
        let mut file = File::open(path)?;
        let whole = file.metadata()?.len();
        let mut length = [0_u8; 8];
        file.seek(SeekFrom::Start(whole.checked_sub(LENGTH).context("it is too short")?))?;
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let size = whole.checked_sub(LENGTH).and_then(|rest| rest.checked_sub(length));
        let size = size.context("its end is not what was written")?;
        file.seek(SeekFrom::Start(size))?;
        let trailer: Trailer = serde_json::from_reader(file.take(length))?;
        Ok((trailer.key, Object { size, etag: trailer.etag, modified: trailer.modified }))
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// The names and paths in a directory.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let names = crate::home::list(directory)?;
    Ok(names.into_iter().map(|name| (name.clone(), directory.join(name))).collect())
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of an even number of hexadecimal digits.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).filter_map(digit).collect()
}
