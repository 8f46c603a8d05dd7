//! Places for checkpoints: links, devices, permissions, locks of other processes, and remains of a
//! kill.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failed setup fails the test

mod folder;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use folder::Folder;
use thalweg::checkpoint::{Checkpoint, Draft, Dtype, Error, Lock, NewTensor, save, sync_directory};

fn put(path: &Path, number: f32) -> Result<(), Error> {
    let numbers = [number];
    let source = &numbers[..];
    let tensor = NewTensor { name: "x".to_owned(), dtype: Dtype::F32, shape: vec![], source };
    save(path, &BTreeMap::new(), vec![tensor], &mut || Ok(()))
}

fn got(path: &Path) -> f32 {
    let checkpoint = Checkpoint::open(path, &mut || Ok(())).unwrap();
    let mut number = None;
    checkpoint.read(0, &mut |_, piece| number = piece.try_into().ok()).unwrap();
    f32::from_le_bytes(number.unwrap())
}

#[test]
fn a_link_is_followed_and_stays() {
    let folder = Folder::new();
    fs::create_dir(folder.at("elsewhere")).unwrap();
    symlink("elsewhere/c", folder.at("relative")).unwrap(); // the target does not exist yet
    symlink(folder.at("relative"), folder.at("twice")).unwrap();
    for (i, name) in ["relative", "twice", "elsewhere/c"].into_iter().enumerate() {
        put(&folder.at(name), i as f32).unwrap();
        assert_eq!(got(&folder.at("elsewhere/c")), i as f32);
        assert_eq!(folder.names(), ["elsewhere", "relative", "twice"]);
        assert!(folder.at("relative").is_symlink() && folder.at("twice").is_symlink());
    }
}

#[test]
fn what_is_no_regular_file_is_neither_replaced_nor_read() {
    let folder = Folder::new();
    fs::create_dir(folder.at("directory")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.at("pipe")).status().unwrap().success());
    symlink("pipe", folder.at("link")).unwrap();
    let device = PathBuf::from("/dev/null");
    for (path, what) in [
        (folder.at("directory"), "a directory"),
        (folder.at("pipe"), "a device, a pipe or a socket"),
        (folder.at("link"), "a device, a pipe or a socket"),
        (device, "a device, a pipe or a socket"),
    ] {
        let opened = Checkpoint::open(&path, &mut || Ok(())).map(|_| ());
        for error in [put(&path, 1.0), opened].map(Result::unwrap_err) {
            let message = format!("'{}' is {what}; a checkpoint is a regular file", path.display());
            assert_eq!(error.to_string(), message);
        }
    }
    for path in ["new/", "..", "/", ""]
        .map(|name| if name == "new/" { folder.at(name) } else { name.into() })
    {
        assert!(matches!(put(&path, 1.0), Err(Error::NotAFile { .. })), "{path:?}");
    }
    assert_eq!(folder.names(), ["directory", "link", "pipe"]);
}

#[test]
fn what_the_system_refuses_is_named_with_the_path() {
    let folder = Folder::new();
    let path = folder.at("missing/c");
    match put(&path, 1.0).unwrap_err() {
        Error::Io { path, source, .. } => {
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
            assert_eq!(path, folder.at("missing"));
        }
        other => panic!("{other:?}"),
    }
    let error = Checkpoint::open(&path, &mut || Ok(())).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot open '{}': ", path.display())), "{error}");
    symlink("loop", folder.at("loop")).unwrap();
    assert!(matches!(put(&folder.at("loop"), 1.0), Err(Error::Io { .. })));
}

#[test]
fn a_sibling_that_is_a_link_or_a_pipe_is_not_written_to() {
    let folder = Folder::new();
    fs::write(folder.at("precious"), "precious").unwrap();
    symlink("precious", folder.at("c.partial")).unwrap();
    assert!(matches!(put(&folder.at("c"), 1.0), Err(Error::Io { .. })));
    assert!(Command::new("mkfifo").arg(folder.at("d.partial")).status().unwrap().success());
    assert!(put(&folder.at("d"), 1.0).is_err());
    fs::create_dir(folder.at("e.partial")).unwrap();
    assert!(put(&folder.at("e"), 1.0).is_err());
    assert_eq!(fs::read(folder.at("precious")).unwrap(), b"precious");
    assert_eq!(folder.names(), ["c.partial", "d.partial", "e.partial", "precious"]);
}

#[test]
fn the_new_file_has_the_old_ones_permissions() {
    let folder = Folder::new();
    let path = folder.at("c");
    fs::write(folder.at("usual"), "").unwrap();
    let mode = |name| fs::metadata(folder.at(name)).unwrap().permissions().mode();
    put(&path, 0.0).unwrap();
    assert_eq!(mode("c"), mode("usual"));
    for bits in [0o600, 0o640, 0o444, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        put(&path, bits as f32).unwrap();
        assert_eq!(mode("c") & 0o7777, bits);
        assert_eq!(got(&path), bits as f32);
    }
    // While a private file is replaced, other users cannot read the new content either.
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    fs::write(folder.at("c.partial"), "left by a kill").unwrap();
    let none = Vec::<NewTensor<&[u8]>>::new();
    save(&path, &BTreeMap::new(), none, &mut || {
        assert_eq!(mode("c.partial") & 0o077, 0);
        Ok(())
    })
    .unwrap();
    assert_eq!(mode("c") & 0o7777, 0o400);
}

#[test]
fn a_longer_sibling_that_a_kill_has_left_is_used_again() {
    let folder = Folder::new();
    fs::write(folder.at("c.partial"), vec![9; 100_000]).unwrap();
    put(&folder.at("c"), 2.5).unwrap();
    assert_eq!(got(&folder.at("c")), 2.5);
    assert_eq!(folder.names(), ["c"]);
}

/// The work of another process, selected by two environment variables. Does nothing in a normal
/// test run.
#[test]
fn another_process() {
    let Ok(path) = std::env::var("THALWEG_TEST_PATH").map(PathBuf::from) else { return };
    let wait = || {
        println!("\nready");
        let _ = std::io::stdin().read(&mut [0]);
    };
    match std::env::var("THALWEG_TEST_WORK").unwrap().as_str() {
        "lock" => {
            let _lock = Lock::file(&path).unwrap();
            wait();
        }
        "try" => match Lock::file(&path) {
            Err(Error::Locked { owner, .. }) => println!("\nlocked by {}", owner.unwrap()),
            result => println!("\n{:?}", result.map(|_| "free")),
        },
        _ => {
            let numbers = vec![1.0_f32; 1 << 20];
            let (shape, source) = (vec![1 << 20], &numbers[..]);
            let tensor = NewTensor { name: "x".to_owned(), dtype: Dtype::F32, shape, source };
            let mut pauses = 0;
            let result = save(&path, &BTreeMap::new(), vec![tensor], &mut || {
                pauses += 1;
                if pauses == 3 {
                    wait();
                }
                Ok(())
            });
            println!("\n{result:?}");
        }
    }
}

fn start(work: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process", "--nocapture"])
        .envs([("THALWEG_TEST_WORK", work.as_ref()), ("THALWEG_TEST_PATH", path.as_os_str())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The first line of a process's output that starts with `begin`.
fn line(child: &mut Child, begin: &str) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    lines.map(Result::unwrap).find(|line| line.starts_with(begin)).unwrap()
}

#[test]
fn a_lock_is_had_by_one_process_until_it_ends() {
    let folder = Folder::new();
    let path = folder.at(".lock");
    let mut child = start("lock", &path);
    line(&mut child, "ready");
    match Lock::file(&path).unwrap_err() {
        error @ Error::Locked { .. } => {
            let begin = format!("'{}' is locked by process {};", path.display(), child.id());
            assert!(error.to_string().starts_with(&begin), "{error}");
        }
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let lock = Lock::file(&path).unwrap();
    for _ in 0..2 {
        // A refused attempt in this process, under any name of the file, must not lose the lock.
        let mut child = start("try", &path);
        assert_eq!(line(&mut child, "locked"), format!("locked by {}", std::process::id()));
        child.wait().unwrap();
        let other = folder.at("hard link");
        let _ = fs::hard_link(&path, &other);
        assert!(Lock::file(&other).is_err());
    }
    drop(lock);
    let mut child = start("try", &path);
    assert_eq!(line(&mut child, "Ok"), "Ok(\"free\")");
    child.wait().unwrap();
}

#[test]
fn a_directory_is_locked_whatever_its_path() {
    let folder = Folder::new();
    let (one, other) = (folder.at("one"), folder.at("other"));
    fs::create_dir(&one).unwrap();
    let lock = Lock::directory(&one, ".lock").unwrap();
    let pid = std::process::id();
    assert_eq!(fs::read_to_string(one.join(".lock")).unwrap(), format!("{pid}\n"));
    // Reading dropped the record lock; `is_held` takes it again.
    assert!(lock.is_held() && lock.unlocked().is_none());
    let mut child = start("try", &one.join(".lock"));
    assert_eq!(line(&mut child, "locked"), format!("locked by {pid}"));
    child.wait().unwrap();

    fs::rename(&one, &other).unwrap();
    assert!(!lock.is_held());
    match Lock::directory(&other, ".lock").unwrap_err() {
        Error::Locked { path, owner } => assert_eq!((path, owner), (other.clone(), Some(pid))),
        error => panic!("{error:?}"),
    }
    assert_eq!(Lock::held_here(&other.join(".lock")), Some(false));
    drop(lock);
    assert_eq!(Lock::held_here(&other.join(".lock")), None);
    Lock::directory(&other, ".lock").unwrap();
}

#[test]
fn a_draft_that_is_not_saved_leaves_nothing() {
    let folder = Folder::new();
    let path = folder.at("c");
    put(&path, 1.5).unwrap();
    let draft = Draft::open(&path).unwrap();
    assert!(draft.unlocked().is_none());
    assert!(matches!(put(&path, 2.5), Err(Error::Locked { .. })));
    drop(draft);
    assert_eq!(folder.names(), ["c"]);
    assert_eq!(got(&path), 1.5);
}

#[test]
fn a_directory_is_flushed_or_named() {
    let folder = Folder::new();
    sync_directory(&folder.at("")).unwrap();
    match sync_directory(&folder.at("missing")).unwrap_err() {
        Error::Io { path, .. } => assert_eq!(path, folder.at("missing")),
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_kill_in_the_middle_of_a_save_leaves_the_old_file() {
    let folder = Folder::new();
    let path = folder.at("c");
    put(&path, 1.5).unwrap();
    let mut child = start("save", &path);
    line(&mut child, "ready");
    assert_eq!(got(&path), 1.5);
    match put(&path, 2.5).unwrap_err() {
        Error::Locked { owner, path } => {
            assert_eq!((owner, path), (Some(child.id()), folder.at("c.partial")));
        }
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(folder.names(), ["c", "c.partial"]);
    assert!(fs::metadata(folder.at("c.partial")).unwrap().len() > 1 << 20);
    assert_eq!(got(&path), 1.5);
    put(&path, 2.5).unwrap();
    assert_eq!(got(&path), 2.5);
    assert_eq!(folder.names(), ["c"]);
}
