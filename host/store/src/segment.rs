//! A segment: some consecutive rows of one series in columns.
//!
//! A segment has one writer, which adds rows behind `len` and then raises `len` with release
//! order, and any number of readers, which load `len` with acquire order and read below it. So
//! the two never touch the same row, and rows below `len` never change: slices of them are
//! sound for as long as the segment lives. That there is one writer follows from the type:
//! [`SegmentWriter`] is not `Clone`, and only making a segment makes one.
//!
//! The five columns every row needs lie in one block, 29 bytes a row, which the arena rounds to 32.
//! The others are allocated when the first value comes that is not zero; the rows before it read
//! as zero.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

use zepto_core::limits::{SEGMENT_ROWS_MAX, SEGMENT_ROWS_MIN, STAGED_ROWS};

use crate::StoreError;
use crate::arena::Block;
use crate::budget::Budget;
use crate::row::{KIND_FLAGS, PRICE, RECEIVE_TIME, SEQUENCE, SIZE, TIME, USER};
use crate::rows::Rows;
use crate::staging::Staging;

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

/// What is in the optional columns of words; flags have one of bytes.
const OPTIONAL_WORDS: [usize; 3] = [RECEIVE_TIME, USER[0], USER[1]];

/// Charged for each segment besides its columns: its header with the counts of `Arc`, and its
/// place in the directory, twice, as groups are half empty at worst.
const OVERHEAD_BYTES: usize = size_of::<Segment>() + 16 + 2 * 16;

const _: () = assert!(SEGMENT_ROWS_MIN.is_multiple_of(16) && SEGMENT_ROWS_MAX < 1 << 20);

#[derive(Debug)]
pub(crate) struct Segment {
    /// Unique in its store, and larger than that of every segment begun before.
    pub(crate) number: u64,
    /// Sequence of the first row; the others have an offset to it.
    pub(crate) first_sequence: u64,
    start: NonNull<u8>,
    rows_max: u32,
    len: AtomicU32,
    /// Bounds of the event times, stretched before the row that needs it is below `len`.
    min_time_ns: AtomicU64,
    max_time_ns: AtomicU64,
    /// Rows are in order of time. Cleared before the row that breaks it is below `len`.
    ordered: AtomicBool,
    /// What `start` points to; taken out only to be given back.
    block: Option<Block>,
    flags: OnceLock<Block>,
    /// As in `OPTIONAL_WORDS`.
    words: [OnceLock<Block>; 3],
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
    start: NonNull<u8>,
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

/// Bytes of a segment for so many rows, with every column there is.
pub(crate) const fn most_bytes(rows_max: usize) -> usize {
    let words = OPTIONAL_WORDS.len() * Block::bytes_for(size_of::<u64>() * rows_max);
    let flags = Block::bytes_for(rows_max);
    OVERHEAD_BYTES + Block::bytes_for(BLOCK_ROW_BYTES * rows_max) + words + flags
}

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
        budget.take(OVERHEAD_BYTES)?;
        let block = budget
            .take_block(BLOCK_ROW_BYTES * rows_max)
            .inspect_err(|_| budget.give_back(OVERHEAD_BYTES))?;
        let (start, bytes) = (block.start(), OVERHEAD_BYTES + block.bytes());
        let rows_max = rows_max as u32;
        let (min_time_ns, max_time_ns) = (u64::MAX, 0);
        let segment = Segment {
            number,
            first_sequence,
            start,
            rows_max,
            len: AtomicU32::new(0),
            min_time_ns: AtomicU64::new(min_time_ns),
            max_time_ns: AtomicU64::new(max_time_ns),
            ordered: AtomicBool::new(true),
            block: Some(block),
            flags: OnceLock::new(),
            words: Default::default(),
            budget: budget.clone(),
        };
        Ok(Self {
            start,
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

    /// Rows that find room yet.
    pub(crate) fn room(&self) -> usize {
        (self.rows_max - self.len) as usize
    }

    /// Bytes that the segment may yet be charged for: the columns it has not got.
    pub(crate) fn bytes_to_come(&self) -> usize {
        most_bytes(self.rows_max as usize).saturating_sub(self.bytes)
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
        let mut count = room.min(STAGED_ROWS - from);
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
                let (start, bytes) = self.add_column::<u64>(&self.segment.words[column])?;
                self.words[column] = start;
                self.bytes += bytes;
            }
        }
        let mut rows = rows;
        if self.flags.is_null() && rows.any(|row| staging.word(row, KIND_FLAGS) >> 8 != 0) {
            let (start, bytes) = self.add_column::<u8>(&self.segment.flags)?;
            self.flags = start;
            self.bytes += bytes;
        }
        Ok(())
    }

    /// Makes a column of zeros and shows it to readers; where it is, and its bytes.
    #[cold]
    #[inline(never)]
    fn add_column<T>(&self, column: &OnceLock<Block>) -> Result<(*mut T, usize), StoreError> {
        let block = self.segment.budget.take_block(size_of::<T>() * self.rows_max as usize)?;
        let (start, bytes) = (block.start(), block.bytes());
        // SAFETY: the block is of so many bytes, and nobody else has it yet.
        unsafe { start.write_bytes(0, bytes) };
        let set = column.set(block);
        debug_assert!(set.is_ok(), "one writer, which had no such column");
        Ok((start.as_ptr().cast(), bytes))
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

    /// The rows of a column that nobody reads yet.
    #[inline(always)]
    fn spare<T>(&mut self, column: &Column<T>) -> &mut [MaybeUninit<T>] {
        self.spare_from(column.start(self.start, self.rows_max))
    }

    /// The same of a column that may not be there; then there are none.
    #[inline(always)]
    fn spare_optional<T>(&mut self, start: *mut T) -> &mut [MaybeUninit<T>] {
        if start.is_null() { &mut [] } else { self.spare_from(start) }
    }

    /// `start` is the start of one of this segment's columns.
    #[inline(always)]
    fn spare_from<T>(&mut self, start: *mut T) -> &mut [MaybeUninit<T>] {
        let len = self.len as usize;
        let room = self.rows_max as usize - len;
        let spare = start.wrapping_add(len).cast();
        // SAFETY: the column has `rows_max` cells, so the range is inside its allocation, which
        // lives as long as the segment that `self` holds. Readers reach only cells below `len`;
        // other writers there are none, and this one is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(spare, room) }
    }

    /// Fetches into the cache what the next `push` will write.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        if self.len == self.rows_max {
            return;
        }
        let (start, rows_max, len) = (self.start, self.rows_max, self.len as usize);
        prefetch(TIMES.start(start, rows_max).wrapping_add(len));
        prefetch(PRICES.start(start, rows_max).wrapping_add(len));
        prefetch(SIZES.start(start, rows_max).wrapping_add(len));
        prefetch(OFFSETS.start(start, rows_max).wrapping_add(len));
        prefetch(KINDS.start(start, rows_max).wrapping_add(len));
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
    /// The rows whose sequence is below `below`, of those that are published. Whether they are in
    /// order of time is told by the segment, unless the caller knows that these are: the
    /// segment speaks for all it has.
    pub(crate) fn rows(&self, below: u64, known_ordered: bool) -> Rows<'_> {
        let offsets = self.filled(&OFFSETS);
        let visible = |offset: &u32| self.first_sequence + u64::from(*offset) < below;
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
        let optional = self.words.iter().chain([&self.flags]).filter_map(OnceLock::get);
        OVERHEAD_BYTES + optional.chain(&self.block).map(Block::bytes).sum::<usize>()
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
        match self.filled(&OFFSETS).last() {
            Some(offset) => self.first_sequence + u64::from(*offset) + 1,
            None => self.first_sequence,
        }
    }

    /// The optional values of a published row.
    pub(crate) fn optional_values(&self, row: usize) -> OptionalValues {
        let word =
            |word: usize| self.optional::<u64>(&self.words[word]).map_or(0, |cells| cells[row]);
        OptionalValues {
            receive_time_ns: word(0),
            user: [word(1), word(2)],
            flags: self.optional::<u8>(&self.flags).map_or(0, |cells| cells[row]),
        }
    }

    fn filled<T>(&self, column: &Column<T>) -> &[T] {
        let len = self.len.load(Acquire) as usize;
        let start = column.start(self.start, self.rows_max);
        // SAFETY: `len` is at most `rows_max`, so the range is inside the block, which lives as
        // long as `self`. The acquire load above makes the cells below `len` visible as written;
        // they are not written again.
        unsafe { slice::from_raw_parts(start, len) }
    }

    fn optional<T>(&self, column: &OnceLock<Block>) -> Option<&[T]> {
        // First the length: when the column is seen missing after it, the rows below it are zero.
        let len = self.len.load(Acquire) as usize;
        let start = column.get()?.start().cast();
        // SAFETY: a column that is there has `rows_max` cells, at least `len`, all of them
        // initialised with zeros before it was published, and lives as long as `self`. Those below
        // `len` are not written again.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), len) })
    }
}

/// What a row has in the optional columns.
pub(crate) struct OptionalValues {
    pub(crate) receive_time_ns: u64,
    pub(crate) user: [u64; 2],
    pub(crate) flags: u8,
}

impl Drop for Segment {
    fn drop(&mut self) {
        let optional = self.words.iter_mut().chain([&mut self.flags]).filter_map(OnceLock::take);
        optional.chain(self.block.take()).for_each(|block| self.budget.give_back_block(block));
        self.budget.give_back(OVERHEAD_BYTES);
    }
}

impl<T> Column<T> {
    #[inline(always)]
    fn start(&self, block: NonNull<u8>, rows_max: u32) -> *mut T {
        block.as_ptr().wrapping_add(self.0 * rows_max as usize).cast()
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

/// Fetches a value into the cache that is about to be written.
#[inline(always)]
pub(crate) fn prefetch<T>(value: *const T) {
    for line in 0..size_of::<T>().div_ceil(LINE_BYTES) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            let address = value.cast::<i8>().wrapping_add(line * LINE_BYTES);
            // SAFETY: a hint, for any address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(address) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (value, line);
    }
}
