//! What must hold of the store, whatever is done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use proptest::prelude::*;
use tempfile::TempDir;

use super::store::{Page, Query, Refusal, Store};

const BUCKET: &str = "demo";

/// A store in a directory of its own, with one bucket.
fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.create_bucket(BUCKET).unwrap();
    (directory, store)
}

fn put(store: &Store, key: &str, content: &[u8]) -> Result<String, Refusal> {
    put_within(store, key, content, None)
}

fn put_within(store: &Store, key: &str, content: &[u8], limit: Option<u64>) -> Result<String, Refusal> {
    let mut incoming = store.incoming()?;
    for chunk in content.chunks(3) {
        incoming.write(chunk)?;
    }
    store.put(BUCKET, key, incoming, limit).map(|object| object.etag)
}

fn get(store: &Store, key: &str) -> Option<Vec<u8>> {
    let (object, file) = store.get(BUCKET, key).ok()?;
    let mut content = Vec::new();
    file.take(object.size).read_to_end(&mut content).unwrap();
    Some(content)
}

/// All pages of a list, one after the other.
fn list(store: &Store, prefix: &str, delimiter: &str, most: usize) -> Page {
    let (mut whole, mut after) = (Page::default(), String::new());
    loop {
        let page = store.list(BUCKET, Query { prefix, delimiter, after: &after, most }).unwrap();
        assert!(page.objects.len() + page.prefixes.len() <= most);
        whole.objects.extend(page.objects);
        whole.prefixes.extend(page.prefixes);
        match page.next {
            Some(next) => after = next,
            None => return whole,
        }
    }
}

/// What a list has to have, by the definition.
fn wanted(keys: &BTreeMap<String, Vec<u8>>, prefix: &str, delimiter: &str) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), BTreeSet::new());
    for key in keys.keys() {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        match rest.split_once(delimiter).filter(|_| !delimiter.is_empty()) {
            Some((head, _)) => _ = prefixes.insert(format!("{prefix}{head}{delimiter}")),
            None => objects.push(key.clone()),
        }
    }
    (objects, prefixes.into_iter().collect())
}

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    Put(String, Vec<u8>),
    Delete(String),
    Reopen,
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab/]{1,5}",
        1 => "[ab/.%é\u{10ffff}]{1,6}",
        1 => "x{250,1024}",
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (keys(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(key, content)| Step::Put(key, content)),
        2 => keys().prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_put_is_there_and_listed(
        steps in steps(), prefix in "[ab/]{0,2}", delimiter in prop_oneof!["", "/", "b/"], most in 1_usize..5,
    ) {
        let (directory, mut store) = store();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(key, content) => {
                    put(&store, &key, &content).unwrap();
                    model.insert(key, content);
                }
                Step::Delete(key) => {
                    store.delete(BUCKET, &key).unwrap();
                    model.remove(&key);
                }
                Step::Reopen => store = Store::open(directory.path()).unwrap(),
            }
        }
        for (key, content) in &model {
            prop_assert_eq!(&get(&store, key).unwrap(), content);
            prop_assert_eq!(store.head(BUCKET, key).unwrap().size, content.len() as u64);
        }
        prop_assert_eq!(store.used(), model.values().map(|content| content.len() as u64).sum::<u64>());
        let page = list(&store, &prefix, &delimiter, most);
        let keys: Vec<String> = page.objects.into_iter().map(|(key, _)| key).collect();
        prop_assert_eq!((keys, page.prefixes), wanted(&model, &prefix, &delimiter));
    }
}

#[test]
fn a_key_is_no_path() {
    let (directory, store) = store();
    for key in ["../../etc/passwd", "/", "a", "a/", "a/b", "a//b", ".", "\0", "key"] {
        put(&store, key, key.as_bytes()).unwrap();
    }
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(list(&store, "", "", 1000).objects.len(), 9);
    assert_eq!(get(&store, "a").unwrap(), b"a");
    assert_eq!(get(&store, "a/").unwrap(), b"a/");
    let outside: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(outside.len(), 2, "{outside:?}");
}

#[test]
fn an_upload_in_parts_is_nothing_until_it_is_complete() {
    let (directory, store) = store();
    let part = |store: &Store, upload: &str, number, content: &[u8]| {
        let mut incoming = store.incoming().unwrap();
        incoming.write(content).unwrap();
        store.put_part(BUCKET, "k", upload, number, incoming, None).map(|part| part.etag)
    };
    let upload = store.begin_upload(BUCKET, "k").unwrap();
    let two = part(&store, &upload, 2, b"world").unwrap();
    part(&store, &upload, 1, b"wrong").unwrap();
    assert!(get(&store, "k").is_none());
    assert_eq!(list(&store, "", "", 10), Page::default());

    let store = Store::open(directory.path()).unwrap();
    let one = part(&store, &upload, 1, b"hello ").unwrap();
    assert_eq!(store.used(), 11, "a part takes the place of an earlier one");
    let complete = |key: &str, parts: &[(u32, &str)]| {
        let parts: Vec<_> = parts.iter().map(|(number, etag)| (*number, (*etag).to_owned())).collect();
        store.complete_upload(BUCKET, key, &upload, &parts, Some(11))
    };
    assert!(matches!(complete("k", &[]), Err(Refusal::InvalidPart)));
    assert!(matches!(complete("k", &[(1, &two)]), Err(Refusal::InvalidPart)));
    assert!(matches!(complete("k", &[(2, &two), (1, &one)]), Err(Refusal::InvalidPartOrder)));
    assert!(matches!(complete("other", &[(1, &one)]), Err(Refusal::NoSuchUpload)));
    let object = complete("k", &[(1, &one), (2, &two)]).unwrap();
    assert!(object.size == 11 && object.etag.ends_with("-2"), "{object:?}");
    assert_eq!(get(&store, "k").unwrap(), b"hello world");
    assert!(matches!(complete("k", &[(1, &one)]), Err(Refusal::NoSuchUpload)));

    let upload = store.begin_upload(BUCKET, "k").unwrap();
    part(&store, &upload, 1, b"more").unwrap();
    store.abort_upload(BUCKET, "k", &upload).unwrap();
    assert!(matches!(part(&store, &upload, 2, b"more"), Err(Refusal::NoSuchUpload)));
    assert_eq!(store.used(), 11);
}

#[test]
fn a_bucket_is_there_once_and_goes_when_it_is_empty() {
    let (directory, store) = store();
    assert!(matches!(store.create_bucket(BUCKET), Err(Refusal::BucketExists)));
    put(&store, "k", b"").unwrap();
    assert!(matches!(store.delete_bucket(BUCKET), Err(Refusal::BucketNotEmpty)));
    store.delete(BUCKET, "k").unwrap();
    store.begin_upload(BUCKET, "k").unwrap();
    store.delete_bucket(BUCKET).unwrap();
    assert!(matches!(store.delete_bucket(BUCKET), Err(Refusal::NoSuchBucket)));
    assert!(matches!(put(&store, "k", b""), Err(Refusal::NoSuchBucket)));
    assert!(Store::open(directory.path()).unwrap().buckets().is_empty());
}

#[test]
fn nothing_is_stored_beyond_a_limit() {
    let (_directory, store) = store();
    put_within(&store, "a", b"12345", Some(5)).unwrap();
    assert!(matches!(put_within(&store, "b", b"6", Some(5)), Err(Refusal::Full)));
    put_within(&store, "a", b"54321", Some(5)).unwrap();
    store.delete(BUCKET, "a").unwrap();
    put_within(&store, "b", b"6", Some(5)).unwrap();
}

#[test]
fn what_a_killed_writer_left_is_removed() {
    let (directory, store) = store();
    let mut incoming = store.incoming().unwrap();
    incoming.write(b"half").unwrap();
    // A killed process drops nothing.
    std::mem::forget(incoming);
    let count = || std::fs::read_dir(directory.path().join("incoming")).unwrap().count();
    assert_eq!(count(), 1);
    Store::open(directory.path()).unwrap();
    assert_eq!(count(), 0);
}
