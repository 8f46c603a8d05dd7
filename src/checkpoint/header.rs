//! The header: names, types, shapes and positions of the tensors. A content has exactly one header,
//! so a header is checked by making it again from its content.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::error::Error;
use super::source::NewTensor;
use crate::error::Quoted;

/// The format written, and the only one read.
pub const FORMAT: &str = "1";

/// The beginning of a header, up to the digits of the checksum.
pub(super) const PREFIX: &str = "{\"__metadata__\":{\"thalweg.checksum\":\"";
/// The text between the digits and the number of the format.
const BETWEEN: &str = "\",\"thalweg.format\":\"";
/// Digits of the checksum.
pub(super) const DIGITS: usize = 32;
/// Bytes of the header's length.
pub(super) const LENGTH: usize = 8;
/// Position of the digits in the file.
pub(super) const DIGITS_AT: usize = LENGTH + PREFIX.len();
/// Bytes at the beginning of a file that identify a checkpoint.
pub(super) const START: usize = DIGITS_AT + DIGITS;
/// The body begins at a multiple of this: one cache line, enough for any SIMD load.
const ALIGN: usize = 64;
/// Length of the longest header that safetensors accepts.
const LIMIT: usize = 100_000_000;

/// Metadata keys that callers cannot use.
const RESERVED: [&str; 2] = ["thalweg.checksum", "thalweg.format"];

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedTensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape, in elements.
    pub shape: Vec<usize>,
    /// Offset of its bytes from the beginning of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: usize,
}

/// The content of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<SavedTensor>,
    pub(super) by_name: BTreeMap<String, usize>,
    pub(super) checksum: u128,
    pub(super) body: usize,
    pub(super) len: u64,
}

impl Header {
    /// The caller's metadata, without checksum and format.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[SavedTensor] {
        &self.tensors
    }

    /// Index of a tensor in [`Header::tensors`], by name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The format of the file.
    pub fn format(&self) -> &str {
        FORMAT
    }

    /// The checksum in the header.
    pub fn checksum(&self) -> u128 {
        self.checksum
    }

    /// Length of the whole file in bytes.
    pub fn file_len(&self) -> u64 {
        self.len
    }
}

/// The description of one tensor, to write or as read.
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) dtype: Dtype,
    pub(super) shape: &'a [usize],
}

impl<'a> Part<'a> {
    pub(super) fn of<S>(tensor: &'a NewTensor<S>) -> Self {
        Part { name: &tensor.name, dtype: tensor.dtype, shape: &tensor.shape }
    }

    /// Order in the file: by descending element size, which aligns every tensor, then by name.
    pub(super) fn key(&self) -> (std::cmp::Reverse<usize>, &str) {
        (std::cmp::Reverse(self.dtype.bitsize()), self.name)
    }

    /// Bytes of the tensor. `None` if the number overflows or is not whole.
    fn bytes(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim))?;
        let bits = elements.checked_mul(self.dtype.bitsize())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

/// The file up to the body, with zeros for the checksum, and the positions of the tensors. `parts`
/// are in the order of [`Part::key`].
pub(super) fn make(
    metadata: &BTreeMap<String, String>,
    parts: &[Part<'_>],
) -> Result<(Vec<u8>, Vec<SavedTensor>), Error> {
    check(metadata, parts)?;
    let (file, tensors) = render(metadata, parts)?;
    if file.len() - LENGTH > LIMIT {
        return content(format!(
            "the header of the checkpoint must have at most {LIMIT} bytes, got {}; save fewer tensors \
             or less metadata",
            file.len() - LENGTH
        ));
    }
    // Other readers of the format parse the header in this way.
    match serde_json::from_slice::<Metadata>(&file[LENGTH..]) {
        Ok(_) => Ok((file, tensors)),
        Err(error) => content(format!("safetensors rejects the header: {error}")),
    }
}

fn content<T>(why: String) -> Result<T, Error> {
    Err(Error::Content { why })
}

fn check(metadata: &BTreeMap<String, String>, parts: &[Part<'_>]) -> Result<(), Error> {
    if let Some(key) = RESERVED.into_iter().find(|key| metadata.contains_key(*key)) {
        return content(format!("the metadata key {} is reserved", Quoted(key)));
    }
    let mut names = HashSet::new();
    for part in parts {
        if part.name == "__metadata__" {
            return content("a tensor cannot be named '__metadata__' in safetensors".to_owned());
        }
        if !names.insert(part.name) {
            return content(format!("two tensors are named {}", Quoted(part.name)));
        }
    }
    Ok(())
}

/// [`make`] without its checks.
fn render(
    metadata: &BTreeMap<String, String>,
    parts: &[Part<'_>],
) -> Result<(Vec<u8>, Vec<SavedTensor>), Error> {
    let mut json = format!("{PREFIX}{:0DIGITS$}{BETWEEN}{FORMAT}\"", 0);
    for (key, value) in metadata {
        json.push(',');
        string(&mut json, key)?;
        json.push(':');
        string(&mut json, value)?;
    }
    json.push('}');
    let mut tensors = Vec::with_capacity(parts.len());
    let mut end = 0_usize;
    for part in parts {
        let sizes = part.bytes().and_then(|len| Some((len, end.checked_add(len)?)));
        let Some((len, next)) = sizes else {
            return content(format!(
                "tensor {} of dtype {} and shape {:?} has too many bytes, or a fraction of a byte",
                Quoted(part.name),
                part.dtype,
                part.shape
            ));
        };
        json.push(',');
        string(&mut json, part.name)?;
        let _ = write!(json, ":{{\"dtype\":\"{}\",\"shape\":[", part.dtype); // cannot fail
        for (i, dim) in part.shape.iter().enumerate() {
            let _ = write!(json, "{}{dim}", if i == 0 { "" } else { "," });
        }
        let _ = write!(json, "],\"data_offsets\":[{end},{next}]}}");
        tensors.push(SavedTensor {
            name: part.name.to_owned(),
            dtype: part.dtype,
            shape: part.shape.to_vec(),
            offset: end as u64,
            len,
        });
        end = next;
    }
    json.push('}');
    let body = (LENGTH + json.len()).next_multiple_of(ALIGN);
    json.extend(std::iter::repeat_n(' ', body - LENGTH - json.len()));
    let mut file = ((body - LENGTH) as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    for tensor in &mut tensors {
        // The offset saturates: a file that is too large is refused later, when the sum of all
        // sizes is known.
        tensor.offset = tensor.offset.saturating_add(body as u64);
    }
    Ok((file, tensors))
}

fn string(json: &mut String, text: &str) -> Result<(), Error> {
    match serde_json::to_string(text) {
        Ok(quoted) => json.push_str(&quoted),
        Err(error) => return content(format!("{} is not valid text: {error}", Quoted(text))),
    }
    Ok(())
}

/// The digits of a checksum in a header.
pub(super) fn digits(checksum: u128) -> String {
    format!("{checksum:0DIGITS$x}")
}

/// Length of the header of a file of `len` bytes that begins with `start`.
pub(super) fn length(path: &Path, start: &[u8], len: u64) -> Result<usize, Error> {
    let damaged = |why| Err(Error::Damaged { path: path.to_owned(), why });
    let not = |why| Err(Error::NotACheckpoint { path: path.to_owned(), why });
    if start.is_empty() {
        return damaged("it is empty".to_owned());
    }
    let json = start.get(LENGTH..).unwrap_or_default();
    let prefix = &json[..json.len().min(PREFIX.len())];
    if !PREFIX.as_bytes().starts_with(prefix) {
        return not(if json.starts_with(b"{\"") {
            "it looks like a safetensors file of another program"
        } else {
            "its first bytes are not those of a checkpoint"
        });
    }
    let Some(length) = start.first_chunk::<LENGTH>().filter(|_| start.len() == START) else {
        return damaged(format!("it has {len} bytes, too few for a header"));
    };
    let length = u64::from_le_bytes(*length);
    match usize::try_from(length) {
        Ok(short) if short > LIMIT => {
            damaged(format!("its header must have at most {LIMIT} bytes, got {length}"))
        }
        Ok(short) if length <= len - LENGTH as u64 && short >= START - LENGTH => Ok(short),
        _ => damaged(format!("it has {len} bytes, too few for its header of {length}")),
    }
}

/// Parses `json`, the header of a file of `len` bytes.
pub(super) fn parse(path: &Path, json: &mut [u8], len: u64) -> Result<Header, Error> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    version(path, json)?;
    let parsed: Metadata = serde_json::from_slice(json)
        .map_err(|error| damaged(format!("its header is not valid: {error}")))?;

    let metadata = parsed.metadata().iter().flatten();
    let metadata = metadata.filter(|(key, _)| !RESERVED.contains(&key.as_str()));
    let metadata = metadata.map(|(key, value)| (key.clone(), value.clone())).collect();
    let infos = parsed.tensors();
    let parts = infos.iter();
    let parts = parts.map(|(name, info)| Part { name, dtype: info.dtype, shape: &info.shape });
    let mut parts: Vec<_> = parts.collect();
    parts.sort_by(|a, b| a.key().cmp(&b.key()));

    let digits = take_digits(json)
        .ok_or_else(|| damaged("its checksum must be in lower-case hexadecimal".to_owned()))?;
    let (made, tensors) = render(&metadata, &parts).map_err(|error| damaged(error.to_string()))?;
    if &made[LENGTH..] != json {
        return Err(damaged(format!(
            "its header does not follow format {FORMAT}: a repeated name, another order or other spaces"
        )));
    }
    let end = (made.len() as u64).saturating_add(parsed.data_len() as u64);
    if end != len {
        return Err(damaged(format!("it must have {end} bytes by its header, got {len}")));
    }
    let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
    Ok(Header { metadata, tensors, by_name, checksum: digits, body: made.len(), len })
}

/// Refuses a later format before the rest of the header is parsed.
fn version(path: &Path, json: &[u8]) -> Result<(), Error> {
    let rest = &json[START - LENGTH..];
    let found = rest.strip_prefix(BETWEEN.as_bytes()).and_then(|rest| {
        let end = rest.iter().take(32).position(|&byte| byte == b'"')?;
        std::str::from_utf8(&rest[..end]).ok()
    });
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) => {
            Err(Error::Version { path: path.to_owned(), found: found.to_owned(), reads: FORMAT })
        }
        None => Err(Error::Damaged {
            path: path.to_owned(),
            why: "its header has no format".to_owned(),
        }),
    }
}

/// Takes the checksum out of a header and leaves zeros in its place.
fn take_digits(json: &mut [u8]) -> Option<u128> {
    let field = json.get_mut(PREFIX.len()..PREFIX.len() + DIGITS)?;
    let text = std::str::from_utf8(field).ok()?;
    let checksum = u128::from_str_radix(text, 16).ok()?;
    let canonical = digits(checksum) == text;
    field.fill(b'0');
    canonical.then_some(checksum)
}

/// Refuses a machine with another byte order than the file.
pub(super) fn check_machine() -> Result<(), Error> {
    if cfg!(target_endian = "big") { Err(Error::ByteOrder) } else { Ok(()) }
}
