//! A segment: some consecutive rows of one series in columns. The only file with `unsafe`.
//!
//! A segment has one writer, which adds rows behind `len` and then raises `len` with release
//! order, and any number of readers, which load `len` with acquire order and read below it. So
//! the two never touch the same row, and rows below `len` never change: slices of them are
//! sound for as long as the segment lives. That there is one writer follows from the type:
//! [`SegmentWriter`] is not `Clone`, and only making a segment makes one.
//!
//! The five columns every row needs lie in one block, 29 bytes a row, in stripes of 128 rows:
//! the places that the next rows go to are then on one or two memory pages instead of five, and
//! with thousands of series it is the pages that are far away. A reader gets a segment stripe by
//! stripe. The optional columns are allocated when the first value comes that is not zero; the
//! rows before it read as zero.

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};

use zepto_abi::Tick;
use zepto_core::limits::{SEGMENT_ROWS_MAX, SEGMENT_ROWS_MIN, STAGED_ROWS};

use crate::StoreError;
use crate::budget::Budget;
use crate::query::{Edge, Position};
use crate::row::{KIND_FLAGS, PRICE, RECEIVE_TIME, SEQUENCE, SIZE, TIME, USER};
use crate::staging::Staging;

/// A column of a stripe: how many bytes a row takes in the columns before it.
struct Column<T>(usize, PhantomData<T>);

// In order of alignment, so that with a multiple of 16 rows each begins aligned for any type.
const TIMES: Column<u64> = Column(0, PhantomData);
const PRICES: Column<i64> = Column(8, PhantomData);
const SIZES: Column<u64> = Column(16, PhantomData);
const OFFSETS: Column<u32> = Column(24, PhantomData);
const KINDS: Column<u8> = Column(28, PhantomData);
const BLOCK_ROW_BYTES: usize = 29;
const LINE_BYTES: usize = 64;
/// Rows of a stripe, but for segments that are shorter.
const STRIPE_ROWS: usize = 128;

/// What is in the optional columns of words; flags have one of bytes.
const OPTIONAL_WORDS: [usize; 3] = [RECEIVE_TIME, USER[0], USER[1]];

/// Charged for each segment besides its columns: its header with the counts of `Arc`, its place
/// in the directory (twice, as groups are half empty at worst) and in the retention queue.
const OVERHEAD_BYTES: usize = size_of::<Segment>() + 16 + 2 * 16 + 2 * 16;

const _: () = assert!(SEGMENT_ROWS_MIN.is_multiple_of(16) && SEGMENT_ROWS_MAX < 1 << 20);
const _: () = assert!(STRIPE_ROWS.is_power_of_two() && STRIPE_ROWS.is_multiple_of(STAGED_ROWS));

#[derive(Debug)]
pub(crate) struct Segment {
    /// Unique in its store.
    pub(crate) number: u64,
    /// Sequence of the first row; the others have an offset to it.
    first_sequence: u64,
    block: NonNull<u8>,
    rows_max: u32,
    len: AtomicU32,
    /// Bounds of the event times, stretched before the row that needs it is below `len`.
    min_time_ns: AtomicU64,
    max_time_ns: AtomicU64,
    /// Rows are in order of time. Cleared before the row that breaks it is below `len`.
    ordered: AtomicBool,
    flags: AtomicPtr<u8>,
    /// As in `OPTIONAL_WORDS`; null while there is none.
    words: [AtomicPtr<u64>; 3],
    budget: Arc<Budget>,
}

// SAFETY: all shared state is atomic, or is column memory, of which a row is either below `len`
// and immutable or reached by the one `SegmentWriter` alone.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// The one that may add rows. It has its own copy of what it needs for that, so that it only
/// writes to the segment and need not wait for it to come into the cache.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    block: NonNull<u8>,
    rows_max: u32,
    len: u32,
    first_sequence: u64,
    min_time_ns: u64,
    max_time_ns: u64,
    words: [*mut u64; 3],
    flags: *mut u8,
    bytes: usize,
    segment: Arc<Segment>,
}

// SAFETY: the pointers are those of the segment it holds, and the right to write there is not
// tied to a thread.
unsafe impl Send for SegmentWriter {}
// SAFETY: through a shared reference nothing is written to the columns.
unsafe impl Sync for SegmentWriter {}

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
        let layout = layout(BLOCK_ROW_BYTES * rows_max);
        let bytes = OVERHEAD_BYTES + layout.size();
        budget.take(bytes)?;
        // SAFETY: the layout's size is not zero, as `rows_max` is not.
        let block = unsafe { alloc::alloc(layout) };
        let Some(block) = NonNull::new(block) else {
            budget.give_back(bytes);
            return Err(StoreError::Full);
        };
        let rows_max = rows_max as u32;
        let (min_time_ns, max_time_ns) = (u64::MAX, 0);
        let segment = Segment {
            number,
            first_sequence,
            block,
            rows_max,
            len: AtomicU32::new(0),
            min_time_ns: AtomicU64::new(min_time_ns),
            max_time_ns: AtomicU64::new(max_time_ns),
            ordered: AtomicBool::new(true),
            flags: AtomicPtr::default(),
            words: Default::default(),
            budget: budget.clone(),
        };
        Ok(Self {
            block,
            rows_max,
            len: 0,
            first_sequence,
            min_time_ns,
            max_time_ns,
            words: [ptr::null_mut(); 3],
            flags: ptr::null_mut(),
            bytes,
            segment: Arc::new(segment),
        })
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Bytes charged for the segment.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds as many of the staged rows `from..` as there is room for, in their order. Returns
    /// what they were. On `Full` (a column is needed that the budget does not allow) none.
    #[inline(always)]
    pub(crate) fn push(&mut self, staging: &Staging, from: usize) -> Result<Pushed, StoreError> {
        let count = self.fitting(staging, from);
        match count {
            0 => Ok(Pushed::default()),
            // The usual case, with its length known to the compiler.
            STAGED_ROWS => self.push_rows::<true>(staging, 0..STAGED_ROWS),
            _ => self.push_rows::<false>(staging, from..from + count),
        }
    }

    /// How many of the rows have a place here and a sequence that the offset can hold.
    #[inline(always)]
    fn fitting(&self, staging: &Staging, from: usize) -> usize {
        let room = (self.rows_max - self.len) as usize;
        let in_stripe = STRIPE_ROWS - self.len as usize % STRIPE_ROWS;
        let mut count = room.min(in_stripe).min(STAGED_ROWS - from);
        let far = |row| staging.word(row, SEQUENCE) - self.first_sequence > u64::from(u32::MAX);
        while count > 0 && far(from + count - 1) {
            count -= 1;
        }
        count
    }

    /// `ALL`: the rows are all staged ones.
    #[inline(always)]
    fn push_rows<const ALL: bool>(
        &mut self,
        staging: &Staging,
        rows: Range<usize>,
    ) -> Result<Pushed, StoreError> {
        let pushed = Pushed::of(staging, rows.clone());
        if pushed.optional {
            self.ensure_columns(staging, rows.clone())?;
        }
        let first_sequence = self.first_sequence;
        let word = |word: usize| move |row| staging.word(row, word);
        let price = |row| staging.word(row, PRICE) as i64;
        let offset = |row| (staging.word(row, SEQUENCE) - first_sequence) as u32;
        let kind = |row| staging.word(row, KIND_FLAGS) as u8;
        let flags = |row| (staging.word(row, KIND_FLAGS) >> 8) as u8;
        write::<_, ALL>(self.spare(&TIMES), rows.clone(), word(TIME));
        write::<_, ALL>(self.spare(&PRICES), rows.clone(), price);
        write::<_, ALL>(self.spare(&SIZES), rows.clone(), word(SIZE));
        write::<_, ALL>(self.spare(&OFFSETS), rows.clone(), offset);
        write::<_, ALL>(self.spare(&KINDS), rows.clone(), kind);
        for (column, optional) in OPTIONAL_WORDS.into_iter().enumerate() {
            let start = self.words[column];
            write::<_, ALL>(self.spare_optional(start), rows.clone(), word(optional));
        }
        write::<_, ALL>(self.spare_optional(self.flags), rows, flags);
        self.note_times(&pushed);
        self.len += pushed.count as u32;
        self.segment.len.store(self.len, Release);
        Ok(pushed)
    }

    /// Allocates the columns for which these rows have the first value that is not zero.
    #[inline(never)]
    fn ensure_columns(&mut self, staging: &Staging, rows: Range<usize>) -> Result<(), StoreError> {
        for (column, word) in OPTIONAL_WORDS.into_iter().enumerate() {
            let mut rows = rows.clone();
            if self.words[column].is_null() && rows.any(|row| staging.word(row, word) != 0) {
                self.words[column] = self.add_column(&self.segment.words[column])?;
                self.bytes += size_of::<u64>() * self.rows_max as usize;
            }
        }
        let mut rows = rows;
        if self.flags.is_null() && rows.any(|row| staging.word(row, KIND_FLAGS) >> 8 != 0) {
            self.flags = self.add_column(&self.segment.flags)?;
            self.bytes += self.rows_max as usize;
        }
        Ok(())
    }

    /// Allocates a column of zeros and shows it to readers.
    #[cold]
    #[inline(never)]
    fn add_column<T>(&self, column: &AtomicPtr<T>) -> Result<*mut T, StoreError> {
        let layout = layout(size_of::<T>() * self.rows_max as usize);
        self.segment.budget.take(layout.size())?;
        // SAFETY: the layout's size is not zero, as `rows_max` is not.
        let cells: *mut T = unsafe { alloc::alloc_zeroed(layout) }.cast();
        if cells.is_null() {
            self.segment.budget.give_back(layout.size());
            return Err(StoreError::Full);
        }
        column.store(cells, Release);
        Ok(cells)
    }

    #[inline(always)]
    fn note_times(&mut self, pushed: &Pushed) {
        if !pushed.ordered || pushed.min_time_ns < self.max_time_ns {
            self.segment.ordered.store(false, Relaxed);
        }
        self.min_time_ns = self.min_time_ns.min(pushed.min_time_ns);
        self.max_time_ns = self.max_time_ns.max(pushed.max_time_ns);
        self.segment.min_time_ns.store(self.min_time_ns, Relaxed);
        self.segment.max_time_ns.store(self.max_time_ns, Relaxed);
    }

    /// The rows of a column, up to the end of the stripe, that nobody reads yet.
    #[inline(always)]
    fn spare<T>(&mut self, column: &Column<T>) -> &mut [MaybeUninit<T>] {
        let (rows_max, len) = (self.rows_max as usize, self.len as usize);
        let start = column.cell(self.block, self.rows_max, len);
        self.spare_from(start, (STRIPE_ROWS - len % STRIPE_ROWS).min(rows_max - len))
    }

    /// The same of a column that may not be there; then there are none.
    #[inline(always)]
    fn spare_optional<T>(&mut self, start: *mut T) -> &mut [MaybeUninit<T>] {
        if start.is_null() {
            return &mut [];
        }
        let len = self.len as usize;
        self.spare_from(start.wrapping_add(len), self.rows_max as usize - len)
    }

    /// `start` is the cell of row `len` of one of this segment's columns, and `count` cells from
    /// there on are next to each other in its allocation.
    #[inline(always)]
    fn spare_from<T>(&mut self, start: *mut T, count: usize) -> &mut [MaybeUninit<T>] {
        // SAFETY: the range is inside an allocation that lives as long as the segment, which
        // `self` holds. Readers reach only cells below `len`; other writers there are none, and
        // this one is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(start.cast(), count) }
    }

    /// Fetches into the cache what the next `push` will write.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        if self.len == self.rows_max {
            return;
        }
        let (block, rows_max, len) = (self.block, self.rows_max, self.len as usize);
        prefetch(TIMES.cell(block, rows_max, len));
        prefetch(PRICES.cell(block, rows_max, len));
        prefetch(SIZES.cell(block, rows_max, len));
        prefetch(OFFSETS.cell(block, rows_max, len));
        prefetch(KINDS.cell(block, rows_max, len));
        prefetch(&raw const self.segment.len);
        for start in self.words {
            if !start.is_null() {
                prefetch(start.wrapping_add(len));
            }
        }
    }
}

/// What some staged rows were that found room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pushed {
    pub(crate) count: usize,
    pub(crate) min_time_ns: u64,
    pub(crate) max_time_ns: u64,
    /// In order of time.
    pub(crate) ordered: bool,
    /// Some value is not zero that is kept in an optional column.
    optional: bool,
}

impl Pushed {
    #[inline(always)]
    fn of(staging: &Staging, rows: Range<usize>) -> Self {
        let first = staging.word(rows.start, TIME);
        let (mut min, mut max, mut previous) = (first, first, first);
        let (mut disordered, mut bits) = (false, 0);
        for row in rows.clone() {
            let time_ns = staging.word(row, TIME);
            disordered |= time_ns < previous;
            previous = time_ns;
            min = min.min(time_ns);
            max = max.max(time_ns);
            bits |= staging.word(row, RECEIVE_TIME) | staging.word(row, KIND_FLAGS) >> 8;
            bits |= staging.word(row, USER[0]) | staging.word(row, USER[1]);
        }
        Self {
            count: rows.len(),
            min_time_ns: min,
            max_time_ns: max,
            ordered: !disordered,
            optional: bits != 0,
        }
    }
}

impl Segment {
    /// The rows whose sequence is below `below`, of those that are published, stripe by stripe.
    /// Whether they are in order of time is told by the segment, unless the caller knows that
    /// these are: the segment speaks for all it has.
    pub(crate) fn rows(
        &self,
        below: u64,
        known_ordered: bool,
    ) -> impl DoubleEndedIterator<Item = Rows<'_>> {
        let len = self.len_below(below);
        let ordered = known_ordered || self.ordered.load(Relaxed);
        (0..len.div_ceil(STRIPE_ROWS)).map(move |stripe| {
            let from = stripe * STRIPE_ROWS;
            let to = len.min(from + STRIPE_ROWS);
            Rows {
                segment: self,
                from,
                ordered,
                times: self.filled(&TIMES, from, to),
                prices: self.filled(&PRICES, from, to),
                sizes: self.filled(&SIZES, from, to),
                offsets: self.filled(&OFFSETS, from, to),
                kinds: self.filled(&KINDS, from, to),
            }
        })
    }

    /// How many published rows have a sequence below `below`.
    fn len_below(&self, below: u64) -> usize {
        let len = self.len();
        if len == 0 || self.sequence(len - 1) < below {
            return len;
        }
        let (mut low, mut high) = (0, len - 1);
        while low < high {
            let middle = low.midpoint(high);
            if self.sequence(middle) < below { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The sequence of a published row.
    fn sequence(&self, row: usize) -> u64 {
        self.first_sequence + u64::from(self.filled(&OFFSETS, row, row + 1)[0])
    }

    /// Bytes charged for it. Only optional columns add to them, so only while it is filled.
    pub(crate) fn bytes(&self) -> usize {
        let rows_max = self.rows_max as usize;
        let words = self.words.iter().filter(|column| !column.load(Relaxed).is_null()).count();
        let flags = usize::from(!self.flags.load(Relaxed).is_null());
        OVERHEAD_BYTES + (BLOCK_ROW_BYTES + size_of::<u64>() * words + flags) * rows_max
    }

    /// Published rows.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Acquire) as usize
    }

    /// Earliest and latest event time, or wider, as the writer may be adding. The wrong way
    /// round when the segment is empty.
    pub(crate) fn time_bounds(&self) -> (u64, u64) {
        (self.min_time_ns.load(Relaxed), self.max_time_ns.load(Relaxed))
    }

    /// The sequence after that of the last published row.
    pub(crate) fn end_sequence(&self) -> u64 {
        match self.len() {
            0 => self.first_sequence,
            len => self.sequence(len - 1) + 1,
        }
    }

    /// Published rows `from..to` of a column, not empty and of one stripe.
    ///
    /// # Panics
    /// If they are not.
    fn filled<T>(&self, column: &Column<T>, from: usize, to: usize) -> &[T] {
        assert!(from < to && to <= self.len() && from / STRIPE_ROWS == (to - 1) / STRIPE_ROWS);
        let start = column.cell(self.block, self.rows_max, from);
        // SAFETY: rows of one stripe of a column are next to each other, and these are in the
        // block, as `len` is at most `rows_max`; it lives as long as `self`. The acquire load of
        // `len` makes the cells below it visible as written; they are not written again.
        unsafe { slice::from_raw_parts(start, to - from) }
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
        let bytes = self.bytes();
        let rows_max = self.rows_max as usize;
        // SAFETY: allocated in `create` with this layout, and freed only here.
        unsafe { alloc::dealloc(self.block.as_ptr(), layout(BLOCK_ROW_BYTES * rows_max)) };
        self.words.iter_mut().for_each(|column| free_column(column, rows_max));
        free_column(&mut self.flags, rows_max);
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

    /// Bounds of the event times, or wider.
    pub(crate) fn time_bounds(&self) -> (u64, u64) {
        match self.times {
            [first, .., last] if self.ordered => (*first, *last),
            _ => self.segment.time_bounds(),
        }
    }

    /// The whole row as a tick.
    pub(crate) fn tick(&self, row: usize, table: u16, symbol: u32) -> Tick {
        let segment = self.segment;
        let index = self.from + row;
        let word = |column: usize| {
            segment.optional(&segment.words[column]).map_or(0, |cells| cells[index])
        };
        Tick {
            sequence: self.sequence(row),
            event_time_ns: self.times[row],
            receive_time_ns: word(0),
            symbol,
            table,
            kind: self.kinds[row],
            flags: segment.optional(&segment.flags).map_or(0, |cells| cells[index]),
            price: self.prices[row],
            size: self.sizes[row],
            user: [word(1), word(2)],
        }
    }
}

impl<T> Column<T> {
    /// Where the cell of a row is in a block; inside it, if `row` is below `rows_max`.
    #[inline(always)]
    fn cell(&self, block: NonNull<u8>, rows_max: u32, row: usize) -> *mut T {
        // A segment shorter than a stripe has one, as short as it.
        let stripe_rows = STRIPE_ROWS.min(rows_max as usize);
        let stripe_start = row / STRIPE_ROWS * STRIPE_ROWS * BLOCK_ROW_BYTES;
        let column_start = block.as_ptr().wrapping_add(stripe_start + self.0 * stripe_rows);
        column_start.cast::<T>().wrapping_add(row % STRIPE_ROWS)
    }
}

/// Writes the values of `ALL` staged rows, or of some, to the first cells. Without cells (of a
/// column that is not there) nothing.
#[inline(always)]
fn write<T, const ALL: bool>(
    cells: &mut [MaybeUninit<T>],
    rows: Range<usize>,
    value: impl Fn(usize) -> T,
) {
    if ALL {
        if let Some(cells) = cells.first_chunk_mut::<STAGED_ROWS>() {
            *cells = std::array::from_fn(|row| MaybeUninit::new(value(row)));
        }
        return;
    }
    for (cell, row) in cells.iter_mut().zip(rows) {
        cell.write(value(row));
    }
}

/// Frees a column that may not be there.
fn free_column<T>(column: &mut AtomicPtr<T>, rows_max: usize) {
    let cells = std::mem::replace(column.get_mut(), ptr::null_mut());
    if !cells.is_null() {
        // SAFETY: allocated in `add_column` with this layout; the pointer is gone from here on.
        unsafe { alloc::dealloc(cells.cast(), layout(size_of::<T>() * rows_max)) };
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, LINE_BYTES).expect("less than 2^20 rows of 29 bytes")
}

/// Fetches a line into the cache that is about to be written.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(address.cast());
    }
}
