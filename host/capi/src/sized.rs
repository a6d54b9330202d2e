//! Structs that grow: the first field is their size as the other side was compiled. What it does
//! not know yet is zero, and what it knows more must be.

use crate::error::Failure;
use crate::status::ZEPTO_E_UNSUPPORTED;
use core::mem::MaybeUninit;

/// A struct that crosses the boundary.
///
/// # Safety
/// `#[repr(C)]`, without padding, begins with a `u32` that is its size, and every field may have
/// any bits, zero among them.
pub(crate) unsafe trait Grows: Copy {
    /// Its name, for people.
    const NAME: &'static str;
    /// Its size in version 1.0: the caller's is no smaller.
    const FIRST_SIZE: usize;
}

/// Reads what the caller filled in.
///
/// # Safety
/// `from` must be NULL or readable for as many bytes as its first four say.
pub(crate) unsafe fn read<T: Grows>(from: *const T) -> Result<T, Failure> {
    // SAFETY: as is.
    let size = unsafe { size_of(from) }?;
    let bytes = from.cast::<u8>();
    let known = size.min(core::mem::size_of::<T>());
    for at in known..size {
        // SAFETY: below the size that the caller says it has.
        let byte = unsafe { bytes.add(at) };
        // SAFETY: as above.
        if unsafe { byte.read() } != 0 {
            let text = format!("{}: byte {at} is of a version after this library's", T::NAME);
            return Err(Failure::new(ZEPTO_E_UNSUPPORTED, text));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable there and writable here, and new memory overlaps nothing.
    unsafe { core::ptr::copy_nonoverlapping(bytes, value.as_mut_ptr().cast::<u8>(), known) };
    // SAFETY: any bits are a value of it.
    Ok(unsafe { value.assume_init() })
}

/// Fills in what the caller has room for. Its size says then how much that was.
///
/// # Safety
/// `to` must be NULL or readable and writable for as many bytes as its first four say.
pub(crate) unsafe fn write<T: Grows>(to: *mut T, value: &T) -> Result<(), Failure> {
    // SAFETY: as is.
    let size = unsafe { size_of(to.cast_const()) }?;
    let known = size.min(core::mem::size_of::<T>());
    let from = core::ptr::from_ref(value).cast::<u8>();
    // SAFETY: both sides have so many bytes, and the library's own are not the caller's.
    unsafe { core::ptr::copy_nonoverlapping(from, to.cast::<u8>(), known) };
    for at in known..size {
        // SAFETY: below the size that the caller says it has.
        let byte = unsafe { to.cast::<u8>().add(at) };
        // SAFETY: as above.
        unsafe { byte.write(0) };
    }
    // SAFETY: as above; it begins with its size.
    unsafe { to.cast::<u32>().write_unaligned(known as u32) };
    Ok(())
}

unsafe fn size_of<T: Grows>(at: *const T) -> Result<usize, Failure> {
    if at.is_null() {
        return Err(Failure::null(T::NAME));
    }
    // SAFETY: the caller's promise: it begins with its size.
    let size = unsafe { at.cast::<u32>().read_unaligned() } as usize;
    if (T::FIRST_SIZE..=4096).contains(&size) {
        return Ok(size);
    }
    let least = T::FIRST_SIZE;
    Err(Failure::invalid(format!("{}: struct_size {size}, at least {least}", T::NAME)))
}

/// Declares that a struct grows, and how large it is in version 1.0.
macro_rules! grows {
    ($name:ident = $size:literal) => {
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        // SAFETY: it consists of numbers, pointers and texts, without padding, its size first.
        unsafe impl $crate::sized::Grows for $name {
            const NAME: &'static str = stringify!($name);
            const FIRST_SIZE: usize = $size;
        }
    };
}
pub(crate) use grows;
