//! Structs of the caller, which begin with their size: a program and a library of different versions
//! understand each other, or the call is refused.

use crate::refusal::Refusal;

/// The most bytes that a struct may have.
const MOST: usize = 4_096;

/// A struct of the header.
///
/// # Safety
///
/// It is `repr(C)`, its first field is its size as `usize`, and any bytes are one.
pub unsafe trait Versioned: Copy {
    /// Its name in the header.
    const NAME: &'static str;
}

/// The size that a struct says it has.
///
/// # Safety
///
/// `address` is null, or that of such a struct.
unsafe fn size_of_given<T: Versioned>(address: *const T) -> Result<usize, Refusal> {
    if address.is_null() {
        return Err(Refusal::invalid(format!("{} must not be NULL", T::NAME)));
    }
    if !address.is_aligned() {
        return Err(Refusal::invalid(format!("{} must be aligned", T::NAME)));
    }
    // SAFETY: the caller's promise.
    let given = unsafe { address.cast::<usize>().read() };
    let least = size_of::<T>();
    if given < least || given > MOST || !given.is_multiple_of(align_of::<T>()) {
        return Err(Refusal::invalid(format!(
            "the size of {0} must be sizeof({0}), which is {least} here, got {given}",
            T::NAME
        )));
    }
    Ok(given)
}

/// One struct.
///
/// # Safety
///
/// `address` is null, or that of such a struct, which nothing changes for `'a`.
#[inline]
pub unsafe fn read<'a, T: Versioned + 'a>(address: *const T) -> Result<&'a T, Refusal> {
    // SAFETY: the caller's promise.
    let given = unsafe { size_of_given(address)? };
    // SAFETY: the struct has the size that it says.
    let beyond = unsafe {
        let start = address.cast::<u8>().add(size_of::<T>());
        std::slice::from_raw_parts(start, given - size_of::<T>())
    };
    if beyond.iter().any(|byte| *byte != 0) {
        return Err(Refusal::invalid(format!(
            "{} has a field that this version of the library does not know",
            T::NAME
        )));
    }
    // SAFETY: the caller's promise; any bytes are a `T`, and it is aligned.
    Ok(unsafe { &*address })
}

/// Some structs of one size, one after the other.
///
/// # Safety
///
/// `address` is null, or that of `count` such structs, which nothing changes for `'a`.
#[inline]
pub unsafe fn read_all<'a, T: Versioned + 'a>(
    address: *const T,
    count: usize,
) -> Result<impl Iterator<Item = Result<&'a T, Refusal>>, Refusal> {
    // SAFETY: the caller's promise.
    let stride = if count == 0 { 0 } else { unsafe { size_of_given(address)? } };
    Ok((0..count).map(move |at| {
        let place = address.wrapping_byte_add(at * stride);
        // SAFETY: the caller's promise.
        let (one, size) = unsafe { (read(place)?, size_of_given(place)?) };
        match size == stride {
            true => Ok(one),
            false => Err(Refusal::invalid(format!(
                "all {} of a call must have one size, got {stride} and {size}",
                T::NAME
            ))),
        }
    }))
}
