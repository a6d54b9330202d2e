//! Ticks as Arrow columns, over the C data interface
//! (<https://arrow.apache.org/docs/format/CDataInterface.html>): pyarrow, polars and DuckDB take
//! the columns as they are, without another copy.

use crate::error::Failure;
use crate::handle::{call, get};
use crate::status::*;
use crate::tick::zepto_tick;
use crate::ticks::zepto_ticks;
use core::ffi::{c_char, c_void};

/// A type, as Arrow's C data interface has it.
#[repr(C)]
pub struct ArrowSchema {
    /// What it is.
    pub format: *const c_char,
    /// Its name.
    pub name: *const c_char,
    /// NULL.
    pub metadata: *const c_char,
    /// 0: nothing is ever missing.
    pub flags: i64,
    /// Columns.
    pub n_children: i64,
    /// The columns.
    pub children: *mut *mut ArrowSchema,
    /// NULL.
    pub dictionary: *mut ArrowSchema,
    /// Frees it; NULL when it is free.
    pub release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    /// The library's.
    pub private_data: *mut c_void,
}

/// Values, as Arrow's C data interface has them.
#[repr(C)]
pub struct ArrowArray {
    /// Rows.
    pub length: i64,
    /// 0.
    pub null_count: i64,
    /// 0.
    pub offset: i64,
    /// Buffers of this array: of a column two, validity, which is NULL, and values.
    pub n_buffers: i64,
    /// Columns.
    pub n_children: i64,
    /// The buffers.
    pub buffers: *mut *const c_void,
    /// The columns.
    pub children: *mut *mut ArrowArray,
    /// NULL.
    pub dictionary: *mut ArrowArray,
    /// Frees it; NULL when it is free.
    pub release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    /// The library's.
    pub private_data: *mut c_void,
}

/// Bytes of a column, aligned as every reader wants them.
struct Values(Vec<u64>);

impl Values {
    fn of<const N: usize>(ticks: &[zepto_tick], value: impl Fn(&zepto_tick) -> [u8; N]) -> Self {
        let mut words = vec![0u64; (ticks.len() * N).div_ceil(8)];
        let per_word = 8 / N;
        for (place, tick) in ticks.iter().enumerate() {
            let mut bytes = [0; 8];
            bytes[..N].copy_from_slice(&value(tick));
            words[place / per_word] |= u64::from_le_bytes(bytes) << (place % per_word * N * 8);
        }
        Self(words)
    }
}

/// Name and format of each column, zero-terminated.
const COLUMNS: [(&str, &str); 11] = [
    ("sequence\0", "L\0"),
    ("event_time\0", "tsn:UTC\0"),
    ("receive_time\0", "tsn:UTC\0"),
    ("symbol\0", "I\0"),
    ("table\0", "S\0"),
    ("kind\0", "C\0"),
    ("flags\0", "C\0"),
    ("price\0", "l\0"),
    ("size\0", "L\0"),
    ("user0\0", "L\0"),
    ("user1\0", "L\0"),
];

fn columns(ticks: &[zepto_tick]) -> [Values; COLUMNS.len()] {
    [
        Values::of(ticks, |tick| tick.sequence.to_le_bytes()),
        Values::of(ticks, |tick| tick.event_time_ns.to_le_bytes()),
        Values::of(ticks, |tick| tick.receive_time_ns.to_le_bytes()),
        Values::of(ticks, |tick| tick.symbol.to_le_bytes()),
        Values::of(ticks, |tick| tick.table.to_le_bytes()),
        Values::of(ticks, |tick| [tick.kind]),
        Values::of(ticks, |tick| [tick.flags]),
        Values::of(ticks, |tick| tick.price.to_le_bytes()),
        Values::of(ticks, |tick| tick.size.to_le_bytes()),
        Values::of(ticks, |tick| tick.user[0].to_le_bytes()),
        Values::of(ticks, |tick| tick.user[1].to_le_bytes()),
    ]
}

/// Gives ticks as Arrow columns: sequence, event_time and receive_time (timestamps, ns, UTC),
/// symbol, table, kind, flags, price and size (in units of 1e-9), user0, user1. Whoever takes them
/// calls their `release`, as Arrow says; the ticks themselves may be freed before. [any thread]
/// [callback-safe]
///
/// # Safety
/// `ticks` must be of this library, `schema` and `array` writable; what was in them is not
/// released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ticks_to_arrow(
    ticks: *const zepto_ticks,
    schema: *mut ArrowSchema,
    array: *mut ArrowArray,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        let ticks = unsafe { get(ticks, "ticks") }?;
        if schema.is_null() || array.is_null() {
            return Err(Failure::null("schema or array"));
        }
        let columns = columns(ticks.rows()).map(|values| leaf(values, ticks.rows().len()));
        // SAFETY: the caller's promise.
        unsafe { array.write(parent(columns.into(), ticks.rows().len())) };
        let types = COLUMNS.map(|(name, format)| schema_of(name, format, Vec::new()));
        // SAFETY: the caller's promise.
        unsafe { schema.write(schema_of("ticks\0", "+s\0", types.into())) };
        Ok(())
    };
    // SAFETY: no error is wanted.
    unsafe { call(None, core::ptr::null_mut(), body) }
}

/// What an array keeps alive.
struct Kept {
    buffers: Vec<*const c_void>,
    children: Vec<*mut ArrowArray>,
    _values: Option<Values>,
}

fn array_of(kept: Kept, length: usize) -> ArrowArray {
    let mut kept = Box::new(kept);
    ArrowArray {
        length: length as i64,
        null_count: 0,
        offset: 0,
        n_buffers: kept.buffers.len() as i64,
        n_children: kept.children.len() as i64,
        buffers: kept.buffers.as_mut_ptr(),
        children: kept.children.as_mut_ptr(),
        dictionary: core::ptr::null_mut(),
        release: Some(release_array),
        private_data: Box::into_raw(kept).cast(),
    }
}

fn leaf(values: Values, length: usize) -> ArrowArray {
    let buffers = vec![core::ptr::null(), values.0.as_ptr().cast()];
    array_of(Kept { buffers, children: Vec::new(), _values: Some(values) }, length)
}

fn parent(children: Vec<ArrowArray>, length: usize) -> ArrowArray {
    let children = children.into_iter().map(|child| Box::into_raw(Box::new(child))).collect();
    array_of(Kept { buffers: vec![core::ptr::null()], children, _values: None }, length)
}

/// What a schema keeps alive.
struct Names {
    children: Vec<*mut ArrowSchema>,
}

fn schema_of(name: &'static str, format: &'static str, types: Vec<ArrowSchema>) -> ArrowSchema {
    let children = types.into_iter().map(|child| Box::into_raw(Box::new(child))).collect();
    let mut names = Box::new(Names { children });
    ArrowSchema {
        format: format.as_ptr().cast(),
        name: name.as_ptr().cast(),
        metadata: core::ptr::null(),
        flags: 0,
        n_children: names.children.len() as i64,
        children: names.children.as_mut_ptr(),
        dictionary: core::ptr::null_mut(),
        release: Some(release_schema),
        private_data: Box::into_raw(names).cast(),
    }
}

/// Releases an array, and those of its columns that nobody has moved away.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: Arrow's rule: it is one that this library gave out, and not released.
    let Some(array) = (unsafe { array.as_mut() }) else { return };
    // SAFETY: as above; it was made by `Box::into_raw`.
    let kept = unsafe { Box::from_raw(array.private_data.cast::<Kept>()) };
    for child in kept.children {
        // SAFETY: it was made by `Box::into_raw`, and belongs to its parent.
        let mut child = unsafe { Box::from_raw(child) };
        if let Some(release) = child.release {
            // SAFETY: Arrow's rule: what has a release is not released.
            unsafe { release(&raw mut *child) };
        }
    }
    array.release = None;
}

/// The same for a schema.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: as for an array.
    let Some(schema) = (unsafe { schema.as_mut() }) else { return };
    // SAFETY: as above; it was made by `Box::into_raw`.
    let names = unsafe { Box::from_raw(schema.private_data.cast::<Names>()) };
    for child in names.children {
        // SAFETY: it was made by `Box::into_raw`, and belongs to its parent.
        let mut child = unsafe { Box::from_raw(child) };
        if let Some(release) = child.release {
            // SAFETY: Arrow's rule: what has a release is not released.
            unsafe { release(&raw mut *child) };
        }
    }
    schema.release = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_width_stand_in_order() {
        let tick =
            |i: u8| zepto_tick { kind: i, table: 256 + u16::from(i), ..zepto_tick::default() };
        let ticks: Vec<zepto_tick> = (1..=9).map(tick).collect();
        let bytes = |values: &Values| -> Vec<u8> {
            values.0.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let [_, _, _, _, tables, kinds, ..] = columns(&ticks);
        assert_eq!(bytes(&kinds)[..9], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(bytes(&tables)[..6], [1, 1, 2, 1, 3, 1]);
    }
}
