//! Tensors to save, and the sources of their bytes.

use std::io;

use safetensors::Dtype;

/// Bytes hashed, written and read at a time; they fit in a second-level cache.
pub(super) const PIECE: usize = 1 << 20;

/// Bytes of a tensor, in C order, little endian.
pub trait Source {
    /// Calls `sink` with all bytes in order, in pieces of any size. An implementation returns an
    /// error of `sink` at once.
    ///
    /// # Errors
    ///
    /// The error of `sink`, or an error of the source.
    fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

impl Source for [u8] {
    fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        sink(self)
    }
}

macro_rules! source {
    ($($number:ident)*) => {
        $(impl Source for [$number] {
            fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
                const SIZE: usize = size_of::<$number>();
                let mut bytes = [0; 4096 * SIZE];
                for numbers in self.chunks(4096) {
                    let (places, _) = bytes.as_chunks_mut::<SIZE>();
                    for (place, number) in places.iter_mut().zip(numbers) {
                        *place = number.to_le_bytes();
                    }
                    sink(&bytes[..SIZE * numbers.len()])?;
                }
                Ok(())
            }
        })*
    };
}

source!(f32 f64);

impl<S: Source + ?Sized> Source for &S {
    fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        (**self).write_to(sink)
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn write_to(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        (**self).write_to(sink)
    }
}

/// A tensor to save.
#[derive(Clone, Debug)]
pub struct NewTensor<S> {
    /// Its name: any text except `__metadata__`, unique among the tensors.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape, in elements.
    pub shape: Vec<usize>,
    /// Its bytes, as many as dtype and shape require.
    pub source: S,
}
