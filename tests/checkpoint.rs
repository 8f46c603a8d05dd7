//! Checkpoints: saved tensors are read back, and damaged files are refused.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed setup fails the test

mod folder;

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use folder::Folder;
use proptest::prelude::*;
use thalweg::checkpoint::{Checkpoint, Dtype, Error, Header, Interrupted, NewTensor, Source, save};
use twox_hash::XxHash3_128;

/// Position of the checksum's digits in a file.
const DIGITS: std::ops::Range<usize> = 45..77;

fn on() -> Result<(), Interrupted> {
    Ok(())
}

fn open(path: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(path, &mut on)
}

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn tensor<S>(name: &str, dtype: Dtype, shape: &[usize], source: S) -> NewTensor<S> {
    NewTensor { name: name.to_owned(), dtype, shape: shape.to_vec(), source }
}

fn bytes(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let index = checkpoint.index(name).unwrap();
    let mut take = |at, piece: &[u8]| {
        assert_eq!(at, bytes.len());
        bytes.extend_from_slice(piece);
    };
    checkpoint.read(index, &mut take).unwrap();
    let mut into = vec![7; bytes.len()];
    checkpoint.read_into(index, &mut into).unwrap();
    assert!(into == bytes);
    into.push(7);
    let result = checkpoint.read_into(index, &mut into);
    assert!(matches!(result, Err(Error::Length { .. })), "{result:?}");
    bytes
}

const fn shared_by_threads<T: Send + Sync>() {}
const _: () = shared_by_threads::<Checkpoint>();

/// Bytes without a pattern.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Overwrites the checksum of a file with that of its other bytes.
fn seal(file: &mut [u8]) {
    if file.len() >= DIGITS.end {
        file[DIGITS].fill(b'0');
        let checksum = XxHash3_128::oneshot(file);
        file[DIGITS].copy_from_slice(format!("{checksum:032x}").as_bytes());
    }
}

/// A sealed file whose header continues with `rest` after the checksum, padded, and followed by
/// `body` bytes.
fn forged(rest: &str, body: usize) -> Vec<u8> {
    let zeros = "0".repeat(32);
    let mut json = format!("{{\"__metadata__\":{{\"thalweg.checksum\":\"{zeros}{rest}");
    while (8 + json.len()) % 64 > 0 {
        json.push(' ');
    }
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    file.extend(std::iter::repeat_n(7, body));
    seal(&mut file);
    file
}

const DTYPES: [Dtype; 22] = [
    Dtype::BOOL,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::U8,
    Dtype::I8,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::I16,
    Dtype::U16,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I32,
    Dtype::U32,
    Dtype::F32,
    Dtype::C64,
    Dtype::F64,
    Dtype::I64,
    Dtype::U64,
];

#[test]
fn tensors_of_all_kinds_come_back_here_and_in_safetensors() {
    let folder = Folder::new();
    let mut contents = Vec::new();
    for (i, dtype) in DTYPES.into_iter().enumerate() {
        for (j, shape) in [&[3, 4][..], &[], &[0, 5], &[8, 1, 33]].into_iter().enumerate() {
            let bits = shape.iter().product::<usize>() * dtype.bitsize();
            if bits % 8 == 0 {
                let name = format!("{dtype}.{j}");
                contents.push(tensor(&name, dtype, shape, noise(bits / 8, (4 * i + j) as u32)));
            }
        }
    }
    let tensors = contents.iter().map(|t| tensor(&t.name, t.dtype, &t.shape, &t.source[..]));
    let metadata = metadata(&[("b", "2"), ("a", "\"1\"\n")]);
    save(&folder.file(), &metadata, tensors.collect(), &mut on).unwrap();

    let checkpoint = open(&folder.file()).unwrap();
    assert_eq!(checkpoint.metadata(), &metadata);
    assert_eq!(checkpoint.tensors().len(), contents.len());
    let file = fs::read(folder.file()).unwrap();
    let peer = safetensors::SafeTensors::deserialize(&file).unwrap();
    for content in &contents {
        let stored = &checkpoint.tensors()[checkpoint.index(&content.name).unwrap()];
        assert_eq!((stored.dtype, &stored.shape), (content.dtype, &content.shape));
        assert_eq!(bytes(&checkpoint, &content.name), content.source, "{}", content.name);
        assert_eq!(&file[stored.offset as usize..][..stored.len], content.source);
        assert_eq!(peer.tensor(&content.name).unwrap().data(), content.source);
    }
    let aligned = |i: usize| {
        let stored = &checkpoint.tensors()[i];
        (stored.offset * 8).is_multiple_of(stored.dtype.bitsize() as u64)
    };
    let whole = |i: &usize| checkpoint.tensors()[*i].dtype.bitsize() >= 8;
    assert!((0..contents.len()).filter(whole).all(aligned));
    assert!(checkpoint.tensors()[0].offset.is_multiple_of(64));
}

#[test]
fn small_tensors_by_the_thousand_and_a_large_one_come_back() {
    let folder = Folder::new();
    let lens = (0..3000).map(|i| 500 + i % 7).chain([(1 << 21) + 77, 0, 1 << 20]);
    let contents: Vec<_> = lens.enumerate().map(|(i, len)| noise(len, i as u32)).collect();
    let name = |i: usize| format!("t{i}");
    let tensors = contents.iter().enumerate();
    let tensors = tensors.map(|(i, bytes)| tensor(&name(i), Dtype::U8, &[bytes.len()], &bytes[..]));
    save(&folder.file(), &metadata(&[]), tensors.collect(), &mut on).unwrap();
    let checkpoint = open(&folder.file()).unwrap();
    for (i, content) in contents.iter().enumerate() {
        assert!(bytes(&checkpoint, &name(i)) == *content, "tensor {i}");
    }
}

#[test]
fn slices_of_numbers_are_saved_little_endian_and_a_file_may_have_no_tensors() {
    let folder = Folder::new();
    let (single, double) = ([1.5_f32, -0.0, f32::NAN].repeat(3000), [0.1_f64].repeat(5000));
    let tensors: Vec<NewTensor<Box<dyn Source>>> = vec![
        tensor("single", Dtype::F32, &[9000], Box::new(&single[..])),
        tensor("double", Dtype::F64, &[5000], Box::new(&double[..])),
    ];
    save(&folder.file(), &metadata(&[]), tensors, &mut on).unwrap();
    let checkpoint = open(&folder.file()).unwrap();
    let expected: Vec<_> = single.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(bytes(&checkpoint, "single") == expected);
    let expected: Vec<_> = double.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(bytes(&checkpoint, "double") == expected);

    save(&folder.file(), &metadata(&[]), Vec::<NewTensor<&[u8]>>::new(), &mut on).unwrap();
    let checkpoint = open(&folder.file()).unwrap();
    assert!(checkpoint.tensors().is_empty() && checkpoint.metadata().is_empty());
}

const GOLDEN_METADATA: [(&str, &str); 2] =
    [("thalweg.x", ""), ("a\"\\/", "é\n\u{1}\u{7f}\u{2028}😀")];

/// As Python writes it, with `json.dumps(text, ensure_ascii=False)` and `xxhash.xxh3_128`.
const GOLDEN: &str = concat!(
    "{\"__metadata__\":{\"thalweg.checksum\":\"fafe42bc01c752e6ee1f3b4afb8547b3\",",
    "\"thalweg.format\":\"1\",\"a\\\"\\\\/\":\"é\\n\\u0001\u{7f}\u{2028}😀\",\"thalweg.x\":\"\"},",
    "\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},",
    "\"n\":{\"dtype\":\"I64\",\"shape\":[0,3],\"data_offsets\":[8,8]},",
    "\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},",
    "\"é\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]}}"
);

fn golden() -> Vec<u8> {
    let mut file = 376_u64.to_le_bytes().to_vec();
    file.extend_from_slice(GOLDEN.as_bytes());
    file.resize(8 + 376, b' ');
    file.extend(1.5_f64.to_le_bytes());
    file.extend([-2.0_f32, 0.25].map(f32::to_le_bytes).concat());
    file.extend([1, 2, 255]);
    file
}

/// Saves the content of the golden file, with its tensors rotated by `turn`.
fn save_golden(path: &Path, turn: usize) {
    let (single, double) = ([-2.0_f32, 0.25], [1.5_f64]);
    let mut tensors: Vec<NewTensor<Box<dyn Source>>> = vec![
        tensor("é", Dtype::U8, &[3], Box::new(&[1_u8, 2, 255][..])),
        tensor("n", Dtype::I64, &[0, 3], Box::new(&[0_u8; 0][..])),
        tensor("a", Dtype::F32, &[1, 2], Box::new(&single[..])),
        tensor("b", Dtype::F64, &[], Box::new(&double[..])),
    ];
    tensors.rotate_left(turn);
    save(path, &metadata(&GOLDEN_METADATA), tensors, &mut on).unwrap();
}

#[test]
fn the_same_content_has_the_same_bytes_for_ever() {
    let folder = Folder::new();
    for turn in 0..4 {
        save_golden(&folder.file(), turn);
        let file = fs::read(folder.file()).unwrap();
        assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&golden()));
        assert!(file == golden());
    }
    fs::write(folder.file(), golden()).unwrap();
    let checkpoint = open(&folder.file()).unwrap();
    assert_eq!(checkpoint.metadata(), &metadata(&GOLDEN_METADATA));
    assert_eq!(bytes(&checkpoint, "é"), [1, 2, 255]);
    let header = Checkpoint::open_header(&folder.file()).unwrap();
    assert_eq!(&header, checkpoint.header());
    assert_eq!((header.format(), header.file_len()), ("1", 8 + 376 + 19));
    assert_eq!(header.checksum(), 0xfafe_42bc_01c7_52e6_ee1f_3b4a_fb85_47b3);
}

fn refused(path: &Path, file: &[u8]) -> String {
    fs::write(path, file).unwrap();
    let error = match open(path) {
        Err(
            error @ (Error::Damaged { .. } | Error::NotACheckpoint { .. } | Error::Version { .. }),
        ) => error,
        other => panic!("{other:?}"),
    };
    let message = error.to_string();
    assert!(message.starts_with(&format!("'{}'", path.display())), "{message}");
    message
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let folder = Folder::new();
    let mut file = golden();
    for bit in 0..8 * file.len() {
        file[bit / 8] ^= 1 << (bit % 8);
        refused(&folder.file(), &file);
        file[bit / 8] ^= 1 << (bit % 8);
    }
    fs::write(folder.file(), file).unwrap();
    open(&folder.file()).unwrap();
}

#[test]
fn a_file_that_is_too_short_or_too_long_is_damaged() {
    let folder = Folder::new();
    let file = golden();
    for len in 0..file.len() {
        let message = refused(&folder.file(), &file[..len]);
        assert!(message.contains(" is damaged: it "), "{message}");
        assert!(Checkpoint::open_header(&folder.file()).is_err());
    }
    for more in [1, 19, 64, 5000] {
        let longer = [&file[..], &vec![0; more]].concat();
        let message = refused(&folder.file(), &longer);
        let said = format!("it must have 403 bytes by its header, got {}", 403 + more);
        assert!(message.ends_with(&said), "{message}");
    }
}

#[test]
fn a_header_that_is_not_as_this_format_writes_it_is_damaged() {
    let folder = Folder::new();
    const ONE: &str = "\",\"thalweg.format\":\"1\"";
    let u8s = |name: &str, shape: &str, from: usize, to: usize| {
        format!(
            "\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{shape}],\"data_offsets\":[{from},{to}]}}"
        )
    };
    let tensors = |rest: &[String]| format!("{ONE}}},{}}}", rest.join(","));
    let right = tensors(&[u8s("a", "2", 0, 2), u8s("b", "2,1", 2, 4)]);
    fs::write(folder.file(), forged(&right, 4)).unwrap();
    open(&folder.file()).unwrap();

    let form = "its header does not follow format 1";
    let (invalid, huge) = ("its header is not valid", "4294967296,4294967296,4294967296");
    for (rest, why) in [
        (tensors(&[u8s("a", "2", 0, 2), u8s("b", "2,1", 2, 5)]), invalid), // another size
        (tensors(&[u8s("a", "2", 0, 2), u8s("b", "1", 3, 4)]), invalid),   // a gap
        (tensors(&[u8s("a", "2", 0, 2), u8s("b", "2", 1, 3)]), invalid),   // an overlap
        (tensors(&[u8s("a", "2", 2, 0), u8s("b", "4", 0, 4)]), invalid),
        (tensors(&[u8s("a", huge, 0, 4)]), invalid),
        (tensors(&[u8s("a", "18446744073709551616", 0, 4)]), invalid),
        (tensors(&[u8s("a", "-4", 0, 4)]), invalid),
        (tensors(&[u8s("a", "4", 0, 4).replace("U8", "U9")]), invalid),
        (tensors(&[u8s("b", "2", 0, 2), u8s("a", "2", 2, 4)]), form), // another order
        (tensors(&[u8s("a", "0", 0, 0), u8s("a", "4", 0, 4)]), form), // a name twice
        (right.replace("[2,1]", "[2, 1]"), form),
        (right.replace("2,1", "1,2,1").replace("\"a\"", "\"\\u0061\""), form),
        (right.replace(ONE, &format!("{ONE},\"k\":\"1\",\"k\":\"1\"")), form),
        (right.replace(ONE, &format!("{ONE},\"k\":\"1\",\"j\":\"1\"")), form),
        (right.replace(ONE, &format!("{ONE},\"k\":1")), invalid),
        (right.replace("\"1\"", "1"), "its header has no format"),
        (right.replace("}}", "}"), invalid),
        (format!("{right}x"), invalid),
        (tensors(&[u8s("a", "2", 0, 2)]), "bytes by its header"), // bytes too many
        (tensors(&[u8s("a", "8", 0, 8)]), "bytes by its header"),
    ] {
        let message = refused(&folder.file(), &forged(&rest, 4));
        assert!(message.contains(why), "{message}\n{rest}");
    }

    let mut large = golden();
    large[..8].copy_from_slice(&100_000_056_u64.to_le_bytes());
    fs::write(folder.file(), large).unwrap();
    fs::OpenOptions::new().write(true).open(folder.file()).unwrap().set_len(100_000_100).unwrap();
    let message = open(&folder.file()).unwrap_err().to_string();
    assert!(message.contains("at most 100000000 bytes, got 100000056"), "{message}");

    let mut upper = forged(&right, 4);
    upper[DIGITS].make_ascii_uppercase();
    assert!(refused(&folder.file(), &upper).contains("lower-case hex"));
    for length in [0, 1, 68, 337, 100_000_000, 100_000_001, u64::MAX - 7, u64::MAX] {
        let mut file = golden();
        file[..8].copy_from_slice(&length.to_le_bytes());
        seal(&mut file);
        let message = refused(&folder.file(), &file);
        assert!(message.contains("header"), "{message}");
    }
}

#[test]
fn files_of_others_and_of_the_future_are_told_from_damaged_ones() {
    let folder = Folder::new();
    let view = safetensors::tensor::TensorView::new(Dtype::U8, vec![1], &[1]).unwrap();
    let other = safetensors::serialize([("a", view)], None).unwrap();
    let message = refused(&folder.file(), &other);
    assert!(message.contains("a safetensors file of another program"), "{message}");
    for other in ["PK\u{3}\u{4}", "some text that is longer than the prefix of a header is"] {
        let message = refused(&folder.file(), &[other.as_bytes(), &[0; 100]].concat());
        assert!(message.contains("its first bytes are not those of a checkpoint"), "{message}");
    }
    let future = forged("\",\"thalweg.format\":\"2\",\"whatever\":[]}", 4);
    fs::write(folder.file(), &future).unwrap();
    let error = open(&folder.file()).unwrap_err();
    assert!(matches!(&error, Error::Version { found, .. } if found == "2"), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("must have format '1', which this version of thalweg reads, got '2'")
    );
}

#[test]
fn a_file_that_changes_after_it_was_opened_never_gives_other_bytes() {
    let folder = Folder::new();
    let content = noise((1 << 20) + 10, 1);
    let tensors = || vec![tensor("t", Dtype::U8, &[content.len()], &content[..])];
    save(&folder.file(), &metadata(&[]), tensors(), &mut on).unwrap();
    let checkpoint = open(&folder.file()).unwrap();
    save(&folder.file(), &metadata(&[("new", "")]), tensors(), &mut on).unwrap();
    assert!(bytes(&checkpoint, "t") == content); // the open file is unaffected

    let checkpoint = open(&folder.file()).unwrap();
    let whole = fs::read(folder.file()).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (now, pieces) in [(&changed[..], 1), (&whole[..whole.len() - 1], 1), (&whole[..100], 0)] {
        fs::write(folder.file(), now).unwrap();
        let mut got = 0;
        let result = checkpoint.read(0, &mut |at, piece| {
            assert!(content[at..].starts_with(piece));
            got += 1;
        });
        assert!(matches!(result, Err(Error::ChangedWhileRead { .. })), "{result:?}");
        assert_eq!(got, pieces);
        let result = checkpoint.read_into(0, &mut vec![0; content.len()]);
        assert!(matches!(result, Err(Error::ChangedWhileRead { .. })), "{result:?}");
    }
    for grows in [false, true] {
        fs::write(folder.file(), &whole).unwrap();
        let result = Checkpoint::open(&folder.file(), &mut || {
            let len = if grows { whole.len() as u64 + 1 } else { 1000 };
            fs::OpenOptions::new().write(true).open(folder.file()).unwrap().set_len(len).unwrap();
            Ok(())
        });
        assert!(matches!(result, Err(Error::ChangedWhileRead { .. })), "{result:?}");
    }
}

/// A source that gives these pieces and then fails if the flag is set.
struct Told<'a>(&'a [&'a [u8]], bool);

impl Source for Told<'_> {
    fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for piece in self.0 {
            let _ = sink(piece); // a source may ignore errors
        }
        if self.1 { Err(io::Error::other("no more")) } else { Ok(()) }
    }
}

#[test]
fn what_cannot_be_saved_leaves_everything_as_it_was() {
    let folder = Folder::new();
    let path = folder.file();
    save_golden(&path, 0);
    let told = |name: &str, dtype, shape: &[usize], pieces, fails| {
        tensor(name, dtype, shape, Told(pieces, fails))
    };
    let u8s = |shape: &[usize], pieces, fails| told("t", Dtype::U8, shape, pieces, fails);
    let (none, huge) = (metadata(&[]), 1 << (usize::BITS / 2 + 8));
    let too_many = format!("'t' of dtype U8 and shape [{huge}, {huge}] has too many bytes");
    for (metadata, tensors, message) in [
        (
            &none,
            vec![u8s(&[3], &[&[1], &[2]], false)],
            "'t' must have 3 bytes by its dtype and shape, got 2",
        ),
        (
            &none,
            vec![u8s(&[3], &[&[1], &[2, 3, 4], &[5]], false)],
            "3 bytes by its dtype and shape, got 4 or more",
        ),
        (&none, vec![u8s(&[0], &[&[1]], true)], "0 bytes by its dtype and shape, got 1 or more"),
        (&none, vec![u8s(&[3], &[&[1]], true)], "cannot read a tensor for PATH: no more"),
        (
            &none,
            vec![u8s(&[0], &[], false), told("t", Dtype::F64, &[0], &[], false)],
            "two tensors are named 't'",
        ),
        (
            &none,
            vec![told("__metadata__", Dtype::F64, &[0], &[], false)],
            "cannot be named '__metadata__'",
        ),
        (&none, vec![u8s(&[huge, huge], &[], false)], &too_many),
        (
            &none,
            vec![u8s(&[usize::MAX], &[], false), told("u", Dtype::U8, &[1], &[], false)],
            "too many bytes",
        ),
        (&none, vec![told("t", Dtype::F4, &[3], &[], false)], "or a fraction of a byte"),
        (
            &metadata(&[("thalweg.format", "1")]),
            vec![],
            "the metadata key 'thalweg.format' is reserved",
        ),
        (&metadata(&[("thalweg.checksum", "1")]), vec![], "the metadata key 'thalweg.checksum'"),
        (
            &metadata(&[("k", &"x".repeat(100_000_000))]),
            vec![],
            "must have at most 100000000 bytes",
        ),
    ] {
        let error = save(&path, metadata, tensors, &mut on).unwrap_err().to_string();
        assert!(
            error.contains(&message.replace("PATH", &format!("'{}'", path.display()))),
            "{error}"
        );
        assert!(fs::read(&path).unwrap() == golden());
        assert_eq!(folder.names(), ["c.safetensors"]);
    }
}

#[test]
fn an_interrupt_at_any_time_leaves_everything_as_it_was() {
    let folder = Folder::new();
    save_golden(&folder.file(), 0);
    let content = noise(3 << 20, 5);
    let tensors = || vec![tensor("t", Dtype::U8, &[content.len()], &content[..])];
    let until = |last: usize, calls: &mut usize| {
        *calls += 1;
        if *calls > last { Err(Interrupted) } else { Ok(()) }
    };
    for last in 0.. {
        let mut calls = 0;
        match save(&folder.file(), &metadata(&[]), tensors(), &mut || until(last, &mut calls)) {
            Err(Error::Interrupted) => assert!(fs::read(folder.file()).unwrap() == golden()),
            result => {
                result.unwrap();
                assert!(calls >= 4);
                break;
            }
        }
        assert_eq!(folder.names(), ["c.safetensors"]);
    }
    for last in 0.. {
        let mut calls = 0;
        match Checkpoint::open(&folder.file(), &mut || until(last, &mut calls)) {
            Err(Error::Interrupted) => {}
            result => {
                result.unwrap();
                assert!(calls >= 3);
                break;
            }
        }
    }
}

#[test]
fn threads_that_save_to_one_file_take_turns_or_are_told() {
    let folder = Folder::new();
    let path = folder.file();
    save_golden(&path, 0);
    let contents = [noise(100_000, 1), noise(100_000, 2)];
    let saves = |content: &[u8]| {
        let mut locked = 0;
        for _ in 0..30 {
            let tensors = vec![tensor("t", Dtype::U8, &[content.len()], content)];
            match save(&path, &metadata(&[]), tensors, &mut on) {
                Err(Error::Locked { owner, .. }) => {
                    assert_eq!(owner, Some(std::process::id()));
                    locked += 1;
                }
                result => result.unwrap(),
            }
        }
        locked
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            contents.iter().map(|content| scope.spawn(|| saves(content))).collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            open(&path).unwrap();
        }
        let locked: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        assert!(locked.iter().any(|&n| n < 30), "{locked:?}");
    });
    let checkpoint = open(&path).unwrap();
    assert!(contents.contains(&bytes(&checkpoint, "t")));
    assert_eq!(folder.names(), ["c.safetensors"]);
}

fn read_all(path: &Path) -> Result<Header, Error> {
    let checkpoint = open(path)?;
    for index in 0..checkpoint.tensors().len() {
        checkpoint.read(index, &mut |_, _| ())?;
    }
    Ok(checkpoint.header().clone())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(file in proptest::collection::vec(any::<u8>(), 0..400), sealed: bool) {
        let folder = Folder::new();
        let mut file = file;
        if sealed {
            file = [&golden()[..45], &file].concat();
            seal(&mut file);
        }
        fs::write(folder.file(), file).unwrap();
        prop_assert!(read_all(&folder.file()).is_err());
    }

    /// A valid checksum does not make a file valid: every other fault must be found.
    #[test]
    fn a_changed_file_with_the_right_checksum_does_no_harm(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), mutation()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let folder = Folder::new();
        let mut file = golden();
        for (at, (with, inserts)) in changes {
            let at = at.index(file.len());
            let end = if inserts { at } else { (at + with.len()).min(file.len()) };
            file.splice(at..end, with);
        }
        file.truncate(cut.map_or(file.len(), |cut| cut.index(file.len())));
        seal(&mut file);
        fs::write(folder.file(), &file).unwrap();
        if let Ok(header) = read_all(&folder.file()) {
            prop_assert_eq!(header.file_len(), file.len() as u64);
            let peer = safetensors::SafeTensors::deserialize(&file).unwrap();
            prop_assert_eq!(peer.len(), header.tensors().len());
        }
    }
}

/// A replacement of a part of a header or of any bytes, and whether it is inserted or overwrites.
fn mutation() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let pieces =
        ["0", "9", "-1", "1e9", "\"", "{", "}", "[", "]", ",", ":", "\\u0000", "F32", "F64"];
    let piece = prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec());
    (prop_oneof![piece, proptest::collection::vec(any::<u8>(), 1..9)], any::<bool>())
}

/// For manual runs: `cargo test --release --test checkpoint -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn speed_against_a_plain_file() {
    use std::io::{Read as _, Write as _};
    use std::time::Instant;
    const LEN: usize = 1 << 26;
    let folder = Folder::new();
    let (path, plain) = (folder.file(), folder.0.join("plain"));
    let contents: Vec<_> = (0..4).map(|i| noise(LEN, i)).collect();
    let mut arrays = vec![vec![0; LEN]; 4];
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..7 {
        let mut time = |which: usize, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            times[which].push(start.elapsed().as_secs_f64());
        };
        time(0, &mut || {
            let mut file = fs::File::create(&plain).unwrap();
            contents.iter().for_each(|content| file.write_all(content).unwrap());
            file.sync_all().unwrap();
        });
        time(1, &mut || {
            let tensors = contents.iter().enumerate();
            let tensors = tensors
                .map(|(i, content)| tensor(&format!("t{i}"), Dtype::U8, &[LEN], &content[..]));
            save(&path, &metadata(&[]), tensors.collect(), &mut on).unwrap();
        });
        time(2, &mut || {
            let mut file = fs::File::open(&plain).unwrap();
            arrays.iter_mut().for_each(|array| file.read_exact(array).unwrap());
        });
        time(3, &mut || {
            let checkpoint = open(&path).unwrap();
            for (i, array) in arrays.iter_mut().enumerate() {
                let mut take =
                    |at, piece: &[u8]| array[at..at + piece.len()].copy_from_slice(piece);
                checkpoint.read(i, &mut take).unwrap();
            }
        });
        assert!(arrays == contents);
        fs::remove_file(&plain).unwrap();
        fs::remove_file(&path).unwrap();
    }
    let best = times.map(|times| times.into_iter().fold(f64::INFINITY, f64::min));
    let [written, saved, read, opened] = best;
    println!("write + fsync {written:.3} s, save {saved:.3} s: {:.2} x", saved / written);
    println!("read {read:.3} s, open + read {opened:.3} s: {:.2} x", opened / read);
}
