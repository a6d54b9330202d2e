//! A segment: some consecutive rows of one series in columns. The only file with `unsafe`.
//!
//! A segment has one writer, which adds rows behind `len` and then raises `len` with release
//! order, and any number of readers, which load `len` with acquire order and read below it. So
//! the two never touch the same row, and rows below `len` never change: slices of them are
//! sound for as long as the segment lives. That there is one writer follows from the type:
//! [`SegmentWriter`] is not `Clone`, and only making a segment makes one.
//!
//! The five columns every row needs lie in one block, 29 bytes a row. The others are allocated
//! when the first value comes that is not zero; the rows before it read as zero.

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};

use zepto_abi::Tick;
use zepto_core::limits::{SEGMENT_ROWS_MAX, SEGMENT_ROWS_MIN};

use crate::StoreError;
use crate::budget::Budget;
use crate::query::{Edge, Position};

/// A column of the block: how many bytes a row takes in the columns before it.
struct Column<T>(usize, PhantomData<T>);

// In order of alignment, so that with a multiple of 16 rows each begins on a cache line.
const TIMES: Column<u64> = Column(0, PhantomData);
const PRICES: Column<i64> = Column(8, PhantomData);
const SIZES: Column<u64> = Column(16, PhantomData);
const OFFSETS: Column<u32> = Column(24, PhantomData);
const KINDS: Column<u8> = Column(28, PhantomData);
const BLOCK_ROW_BYTES: usize = 29;
const LINE_BYTES: usize = 64;

/// Charged for each segment besides its columns: its header with the counts of `Arc`, its place
/// in the directory (twice, as groups are half empty at worst) and in the retention queue.
const OVERHEAD_BYTES: usize = size_of::<Segment>() + 16 + 2 * 16 + 2 * 16;

const _: () = assert!(SEGMENT_ROWS_MIN.is_multiple_of(16) && SEGMENT_ROWS_MAX < 1 << 20);

#[derive(Debug)]
pub(crate) struct Segment {
    /// Unique in its store.
    pub(crate) number: u64,
    /// Sequence of the first row; the others have an offset to it.
    first_sequence: u64,
    block: NonNull<u8>,
    rows_max: u32,
    len: AtomicU32,
    /// Rows are in order of time. Cleared before the row that breaks it is below `len`.
    ordered: AtomicBool,
    /// Bounds of the event times, also stretched before the row is below `len`.
    min_time_ns: AtomicU64,
    max_time_ns: AtomicU64,
    receive_times: AtomicPtr<u64>,
    flags: AtomicPtr<u8>,
    user: [AtomicPtr<u64>; 2],
    budget: Arc<Budget>,
}

// SAFETY: all shared state is atomic, or is column memory, of which a row is either below `len`
// and immutable or reached by the one `SegmentWriter` alone.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// The one that may add rows.
#[derive(Debug)]
pub(crate) struct SegmentWriter(Arc<Segment>);

impl SegmentWriter {
    /// An empty segment for `rows_max` rows, a power of two within the limits, whose first row
    /// has `first_sequence`. `Full` if the budget or the allocator does not allow it.
    pub(crate) fn create(
        budget: &Arc<Budget>,
        number: u64,
        rows_max: usize,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        assert!((SEGMENT_ROWS_MIN..=SEGMENT_ROWS_MAX).contains(&rows_max));
        assert!(rows_max.is_power_of_two());
        budget.take(OVERHEAD_BYTES + BLOCK_ROW_BYTES * rows_max)?;
        // SAFETY: the layout's size is not zero, as `rows_max` is not.
        let block = unsafe { alloc::alloc(block_layout(rows_max)) };
        let Some(block) = NonNull::new(block) else {
            budget.give_back(OVERHEAD_BYTES + BLOCK_ROW_BYTES * rows_max);
            return Err(StoreError::Full);
        };
        Ok(Self(Arc::new(Segment {
            number,
            first_sequence,
            block,
            rows_max: rows_max as u32,
            len: AtomicU32::new(0),
            ordered: AtomicBool::new(true),
            min_time_ns: AtomicU64::new(u64::MAX),
            max_time_ns: AtomicU64::new(0),
            receive_times: AtomicPtr::new(ptr::null_mut()),
            flags: AtomicPtr::new(ptr::null_mut()),
            user: [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())],
            budget: budget.clone(),
        })))
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.0
    }

    /// Adds as many of the rows as there is room for, from the first; their sequences grow.
    /// Returns how many. On `Full` (a column is needed that the budget does not allow) none.
    pub(crate) fn push(&mut self, rows: &[Tick]) -> Result<usize, StoreError> {
        let rows = &rows[..self.fitting(rows)];
        self.ensure_columns(rows)?;
        match <&[Tick; 8]>::try_from(rows) {
            // The usual case, with its length known to the compiler.
            Ok(rows) => self.fill(rows),
            Err(_) => self.fill(rows),
        }
        Ok(rows.len())
    }

    /// How many of the rows have a place here and a sequence that the offset can hold.
    fn fitting(&self, rows: &[Tick]) -> usize {
        let room = self.0.rows_max as usize - self.0.len.load(Relaxed) as usize;
        let rows = &rows[..rows.len().min(room)];
        let first = self.0.first_sequence;
        let near = |row: &&Tick| row.sequence - first <= u64::from(u32::MAX);
        if rows.last().as_ref().is_none_or(near) {
            rows.len()
        } else {
            rows.iter().take_while(near).count()
        }
    }

    /// Allocates the columns for which these rows have the first value that is not zero.
    fn ensure_columns(&mut self, rows: &[Tick]) -> Result<(), StoreError> {
        let (mut receive_time, mut flags, mut user) = (0, 0, [0; 2]);
        for row in rows {
            receive_time |= row.receive_time_ns;
            flags |= row.flags;
            user[0] |= row.user[0];
            user[1] |= row.user[1];
        }
        let segment = &*self.0;
        ensure_column(segment, &segment.receive_times, receive_time != 0)?;
        ensure_column(segment, &segment.flags, flags != 0)?;
        ensure_column(segment, &segment.user[0], user[0] != 0)?;
        ensure_column(segment, &segment.user[1], user[1] != 0)
    }

    #[inline(always)]
    fn fill(&mut self, rows: &[Tick]) {
        let first_sequence = self.0.first_sequence;
        write(self.spare(&TIMES), rows, |row| row.event_time_ns);
        write(self.spare(&PRICES), rows, |row| row.price);
        write(self.spare(&SIZES), rows, |row| row.size);
        write(self.spare(&OFFSETS), rows, |row| (row.sequence - first_sequence) as u32);
        write(self.spare(&KINDS), rows, |row| row.kind);
        write(self.spare_optional(|segment| &segment.receive_times), rows, |r| r.receive_time_ns);
        write(self.spare_optional(|segment| &segment.flags), rows, |row| row.flags);
        write(self.spare_optional(|segment| &segment.user[0]), rows, |row| row.user[0]);
        write(self.spare_optional(|segment| &segment.user[1]), rows, |row| row.user[1]);
        self.0.note_times(rows);
        self.0.len.store(self.0.len.load(Relaxed) + rows.len() as u32, Release);
    }

    /// The rows of a column that nobody reads yet.
    #[inline(always)]
    fn spare<T>(&mut self, column: &Column<T>) -> &mut [MaybeUninit<T>] {
        self.spare_from(self.0.column(column))
    }

    /// The same of a column that may not be there; then there are none.
    #[inline(always)]
    fn spare_optional<T>(
        &mut self,
        column: impl Fn(&Segment) -> &AtomicPtr<T>,
    ) -> &mut [MaybeUninit<T>] {
        let start = column(&self.0).load(Relaxed);
        if start.is_null() { &mut [] } else { self.spare_from(start) }
    }

    /// `start` is the start of one of this segment's columns.
    #[inline(always)]
    fn spare_from<T>(&mut self, start: *mut T) -> &mut [MaybeUninit<T>] {
        let len = self.0.len.load(Relaxed) as usize;
        let room = self.0.rows_max as usize - len;
        let spare = start.wrapping_add(len).cast();
        // SAFETY: the column has `rows_max` cells, so the range is inside its allocation, which
        // lives as long as the segment that `self` holds. Readers reach only cells below `len`;
        // other writers there are none, and this one is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(spare, room) }
    }
}

impl Segment {
    /// The rows whose sequence is below `below`, of those that are published. Whether they are in
    /// order of time is told by the segment, unless the caller knows that these are: the
    /// segment speaks for all it has.
    pub(crate) fn rows(&self, below: u64, known_ordered: bool) -> Rows<'_> {
        let offsets = self.filled(&OFFSETS);
        let first = self.first_sequence;
        let visible = |offset: &u32| first + u64::from(*offset) < below;
        let len = match offsets.last() {
            Some(last) if visible(last) => offsets.len(),
            _ => offsets.partition_point(visible),
        };
        Rows {
            segment: self,
            from: 0,
            ordered: known_ordered || self.ordered.load(Relaxed),
            times: &self.filled(&TIMES)[..len],
            prices: &self.filled(&PRICES)[..len],
            sizes: &self.filled(&SIZES)[..len],
            offsets: &offsets[..len],
            kinds: &self.filled(&KINDS)[..len],
        }
    }

    /// Bytes charged for it. Only optional columns add to them, so only while it is filled.
    pub(crate) fn bytes(&self) -> usize {
        let rows_max = self.rows_max as usize;
        let words = [&self.receive_times, &self.user[0], &self.user[1]];
        let words = words.iter().filter(|column| !column.load(Relaxed).is_null()).count();
        let flags = usize::from(!self.flags.load(Relaxed).is_null());
        OVERHEAD_BYTES + (BLOCK_ROW_BYTES + 8 * words + flags) * rows_max
    }

    /// Published rows.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Acquire) as usize
    }

    /// Earliest and latest event time, or wider, as the writer may be adding. Not in order when
    /// the segment is empty.
    pub(crate) fn time_bounds(&self) -> (u64, u64) {
        (self.min_time_ns.load(Relaxed), self.max_time_ns.load(Relaxed))
    }

    /// The sequence after that of the last published row.
    pub(crate) fn end_sequence(&self) -> u64 {
        match self.filled(&OFFSETS).last() {
            Some(offset) => self.first_sequence + u64::from(*offset) + 1,
            None => self.first_sequence,
        }
    }

    fn note_times(&self, rows: &[Tick]) {
        let latest = self.max_time_ns.load(Relaxed);
        let (mut min, mut max, mut previous) = (self.min_time_ns.load(Relaxed), latest, latest);
        let mut ordered = true;
        for row in rows {
            let time = row.event_time_ns;
            ordered &= previous <= time;
            previous = time;
            min = min.min(time);
            max = max.max(time);
        }
        self.min_time_ns.store(min, Relaxed);
        self.max_time_ns.store(max, Relaxed);
        if !ordered {
            self.ordered.store(false, Relaxed);
        }
    }

    #[inline(always)]
    fn column<T>(&self, column: &Column<T>) -> *mut T {
        self.block.as_ptr().wrapping_add(column.0 * self.rows_max as usize).cast()
    }

    fn filled<T>(&self, column: &Column<T>) -> &[T] {
        let len = self.len.load(Acquire) as usize;
        // SAFETY: `len` is at most `rows_max`, so the range is inside the block, which lives as
        // long as `self`. The acquire load above makes the cells below `len` visible as written;
        // they are not written again.
        unsafe { slice::from_raw_parts(self.column(column), len) }
    }

    fn optional<T>(&self, column: &AtomicPtr<T>) -> Option<&[T]> {
        // First the length: when the column is seen missing after it, the rows below it are zero.
        let len = self.len.load(Acquire) as usize;
        let start = column.load(Acquire);
        // SAFETY: a column that is there has `rows_max` cells, at least `len`, all of them
        // initialised with zeros before its address was published, and lives as long as `self`.
        // Those below `len` are not written again.
        (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start, len) })
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let rows_max = self.rows_max as usize;
        let bytes = self.bytes();
        // SAFETY: allocated in `create` with this layout, and freed only here.
        unsafe { alloc::dealloc(self.block.as_ptr(), block_layout(rows_max)) };
        free_column(&mut self.receive_times, rows_max);
        free_column(&mut self.flags, rows_max);
        self.user.iter_mut().for_each(|column| free_column(column, rows_max));
        self.budget.give_back(bytes);
    }
}

/// Rows of one segment, next to each other, as a reader sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    segment: &'a Segment,
    /// Index of the first row in its segment.
    from: usize,
    /// In order of time, and thus of (time, sequence).
    pub(crate) ordered: bool,
    pub(crate) times: &'a [u64],
    pub(crate) prices: &'a [i64],
    pub(crate) sizes: &'a [u64],
    offsets: &'a [u32],
    pub(crate) kinds: &'a [u8],
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Rows `from..to` of these.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            from: self.from + from,
            times: &self.times[from..to],
            prices: &self.prices[from..to],
            sizes: &self.sizes[from..to],
            offsets: &self.offsets[from..to],
            kinds: &self.kinds[from..to],
            ..*self
        }
    }

    pub(crate) fn sequence(&self, row: usize) -> u64 {
        self.segment.first_sequence + u64::from(self.offsets[row])
    }

    pub(crate) fn position(&self, row: usize) -> Position {
        Position { time_ns: self.times[row], sequence: self.sequence(row) }
    }

    pub(crate) fn edge(&self, row: usize) -> Edge {
        Edge { time_ns: self.times[row], sequence: self.sequence(row), price: self.prices[row] }
    }

    /// Bounds of the segment's event times, not only of these rows'.
    pub(crate) fn min_time_ns(&self) -> u64 {
        self.segment.time_bounds().0
    }

    /// The same, the other end.
    pub(crate) fn max_time_ns(&self) -> u64 {
        self.segment.time_bounds().1
    }

    /// The whole row as a tick.
    pub(crate) fn tick(&self, row: usize, table: u16, symbol: u32) -> Tick {
        let segment = self.segment;
        let index = self.from + row;
        let word = |column| segment.optional(column).map_or(0, |cells: &[u64]| cells[index]);
        Tick {
            sequence: self.sequence(row),
            event_time_ns: self.times[row],
            receive_time_ns: word(&segment.receive_times),
            symbol,
            table,
            kind: self.kinds[row],
            flags: segment.optional(&segment.flags).map_or(0, |cells| cells[index]),
            price: self.prices[row],
            size: self.sizes[row],
            user: [word(&segment.user[0]), word(&segment.user[1])],
        }
    }
}

#[inline(always)]
fn write<T>(cells: &mut [MaybeUninit<T>], rows: &[Tick], value: impl Fn(&Tick) -> T) {
    for (cell, row) in cells.iter_mut().zip(rows) {
        cell.write(value(row));
    }
}

fn ensure_column<T>(
    segment: &Segment,
    column: &AtomicPtr<T>,
    needed: bool,
) -> Result<(), StoreError> {
    if !needed || !column.load(Relaxed).is_null() {
        return Ok(());
    }
    let layout = column_layout::<T>(segment.rows_max as usize);
    segment.budget.take(layout.size())?;
    // SAFETY: the layout's size is not zero, as `rows_max` is not.
    let cells = unsafe { alloc::alloc_zeroed(layout) };
    if cells.is_null() {
        segment.budget.give_back(layout.size());
        return Err(StoreError::Full);
    }
    column.store(cells.cast(), Release);
    Ok(())
}

fn free_column<T>(column: &mut AtomicPtr<T>, rows_max: usize) {
    let cells = std::mem::replace(column.get_mut(), ptr::null_mut());
    if !cells.is_null() {
        // SAFETY: allocated in `ensure_column` with this layout; the pointer is gone from here on.
        unsafe { alloc::dealloc(cells.cast(), column_layout::<T>(rows_max)) };
    }
}

fn block_layout(rows_max: usize) -> Layout {
    layout(BLOCK_ROW_BYTES * rows_max)
}

fn column_layout<T>(rows_max: usize) -> Layout {
    layout(size_of::<T>() * rows_max)
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, LINE_BYTES).expect("less than 2^20 rows of 29 bytes")
}

#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(address.cast());
    }
}
