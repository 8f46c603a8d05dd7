//! Every call to the operating system may fail: afterwards the old file or the new one is there,
//! complete, and no other file.

#![allow(clippy::unwrap_used, clippy::panic)] // an error in the set-up fails the test

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::destination::{Destination, Sibling};
use super::source::PIECE;
use super::write::{Medium, Partial, write};
use super::*;

/// A directory for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("thalweg-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A sibling whose calls fail when `fails` returns true; a failing `append` has written half of its
/// bytes.
struct Faulty<'a> {
    sibling: Sibling,
    fails: &'a mut dyn FnMut(&'static str) -> bool,
}

impl Faulty<'_> {
    fn call(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Sibling) -> io::Result<()>,
    ) -> io::Result<()> {
        if (self.fails)(name) { Err(io::Error::other(name)) } else { work(&mut self.sibling) }
    }
}

impl Medium for Faulty<'_> {
    fn empty(&mut self) -> io::Result<()> {
        self.call("empty", Medium::empty)
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sibling.append(&bytes[..bytes.len() / 2])?;
        self.call("append", |sibling| sibling.append(&bytes[bytes.len() / 2..]))
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.call("write_at", |sibling| sibling.write_at(at, bytes))
    }
    fn permit(&mut self) -> io::Result<()> {
        self.call("permit", Medium::permit)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.call("sync", Medium::sync)
    }
    fn rename(&mut self) -> io::Result<()> {
        self.call("rename", Medium::rename)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.call("sync_directory", Medium::sync_directory)
    }
    fn remove(&mut self) -> io::Result<()> {
        self.call("remove", Medium::remove)
    }
}

const LEN: usize = 2 * PIECE + 100;

fn tensors(bytes: &[u8]) -> Vec<NewTensor<&[u8]>> {
    vec![NewTensor { name: "t".to_owned(), dtype: Dtype::U8, shape: vec![LEN], source: bytes }]
}

fn save_with(
    path: &Path,
    bytes: &[u8],
    fails: &mut dyn FnMut(&'static str) -> bool,
) -> Result<(), Error> {
    let tensors = tensors(bytes);
    let parts: Vec<_> = tensors.iter().map(header::Part::of).collect();
    let (header, stored) = header::make(&BTreeMap::new(), &parts)?;
    let sibling = Sibling::open(Destination::of(path)?)?;
    let partial = Partial::new(Faulty { sibling, fails });
    write(partial, path, &header, &tensors, &stored, &mut || Ok(()))
}

#[test]
fn a_failure_of_any_call_leaves_a_whole_file_and_no_sibling() {
    let folder = Folder::new("calls");
    let path = folder.0.join("c.safetensors");
    let (old, new) = (vec![1_u8; LEN], vec![2_u8; LEN]);
    save(&path, &BTreeMap::new(), tensors(&old), &mut || Ok(())).unwrap();
    let before = fs::read(&path).unwrap();
    let mut failed = Vec::new();
    loop {
        let (mut calls, mut at) = (0, None);
        let result = save_with(&path, &new, &mut |name| {
            calls += 1;
            let fails = calls == failed.len() + 1;
            at = at.or(fails.then_some(name));
            fails
        });
        assert_eq!(folder.names(), ["c.safetensors"], "{at:?}");
        let Some(at) = at else {
            result.unwrap();
            break;
        };
        match result {
            Err(Error::Io { path: named, source, .. }) => {
                assert_eq!((named, source.to_string()), (path.clone(), at.to_owned()));
            }
            other => panic!("{at}:{other:?}"),
        }
        if at == "sync_directory" {
            Checkpoint::open(&path, &mut || Ok(())).unwrap();
            assert_ne!(fs::read(&path).unwrap(), before);
        } else {
            assert_eq!(fs::read(&path).unwrap(), before, "{at}");
        }
        failed.push(at);
    }
    let all = "empty,append,append,append,write_at,permit,sync,rename,sync_directory";
    assert_eq!(failed.join(","), all);
}

#[test]
fn a_sibling_that_cannot_be_removed_is_used_by_the_next_save() {
    let folder = Folder::new("stays");
    let path = folder.0.join("c.safetensors");
    let bytes = vec![3_u8; LEN];
    save_with(&path, &bytes, &mut |name| matches!(name, "sync" | "remove")).unwrap_err();
    assert_eq!(folder.names(), ["c.safetensors.partial"]);
    save(&path, &BTreeMap::new(), tensors(&bytes), &mut || Ok(())).unwrap();
    assert_eq!(folder.names(), ["c.safetensors"]);
    Checkpoint::open(&path, &mut || Ok(())).unwrap();
}

#[test]
fn a_sibling_that_was_replaced_is_neither_renamed_nor_removed() {
    let folder = Folder::new("replaced");
    let path = folder.0.join("c.safetensors");
    let sibling = folder.0.join("c.safetensors.partial");
    let result = save_with(&path, &vec![4_u8; LEN], &mut |name| {
        if name == "sync" {
            fs::remove_file(&sibling).unwrap();
            fs::write(&sibling, "another's").unwrap();
        }
        false
    });
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
    assert_eq!(folder.names(), ["c.safetensors.partial"]);
    assert_eq!(fs::read(&sibling).unwrap(), b"another's");
}

#[test]
fn bytes_take_the_place_of_a_file_as_a_whole() {
    let folder = Folder::new("bytes");
    let path = folder.0.join("progress");
    for content in [b"old", b"new"] {
        let draft = Draft::open(&path).unwrap();
        assert!(matches!(Draft::open(&path), Err(Error::Locked { .. })));
        draft.replace(content).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        drop(Draft::open(&path).unwrap());
        assert_eq!(folder.names(), ["progress"]);
    }
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_lock_is_had_once_whatever_the_file_is_called() {
    let folder = Folder::new("lock");
    let (path, other) = (folder.0.join(".lock"), folder.0.join("hard-link"));
    let lock = Lock::file(&path).unwrap();
    fs::hard_link(&path, &other).unwrap();
    for name in [&path, &other] {
        match Lock::file(name) {
            Err(Error::Locked { owner, path }) => {
                assert_eq!((&path, owner), (name, Some(std::process::id())));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lock.is_held() && lock.path() == path);
    drop(lock);
    assert!(Lock::file(&other).unwrap().is_held());
}
