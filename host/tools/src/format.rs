//! Text for people: aligned tables, exact decimals, counts, and an output that may be closed.
//!
//! No floating point in anything that was stored: prices, sizes and their products are shown from
//! their integers. Only speeds, which are measurements, are rounded.

use core::time::Duration;
use std::io::Write as _;

use crate::failure::Failure;

/// Decimals of a price times a size.
const NOTIONAL_DECIMALS: usize = 18;

/// On which side a column is flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text under headings, each column as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align, usize)>,
    rows: Vec<Vec<String>>,
    is_headed: bool,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| (*name, *align, name.len())).collect();
        Self { columns, rows: Vec::new(), is_headed: true }
    }

    /// Adds a row; cells beyond the columns are not shown, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.columns.len(), String::new());
        for ((_, _, width), cell) in self.columns.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    /// The lines so far. What is added later continues the table without another heading, for
    /// answers that come page by page.
    pub fn take_text(&mut self) -> String {
        let mut text = String::new();
        if core::mem::take(&mut self.is_headed) {
            self.line(&mut text, self.columns.iter().map(|(name, _, _)| *name));
        }
        for row in &self.rows {
            self.line(&mut text, row.iter().map(String::as_str));
        }
        self.rows.clear();
        text
    }

    fn line<'a>(&self, text: &mut String, cells: impl Iterator<Item = &'a str>) {
        let start = text.len();
        for ((_, align, width), cell) in self.columns.iter().zip(cells) {
            let room = " ".repeat(width.saturating_sub(cell.chars().count()));
            match align {
                Align::Left => text.extend([cell, &room, "  "]),
                Align::Right => text.extend([&room, cell, "  "]),
            }
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
}

/// A product of price and size, in units of 1e-18, as the shortest exact decimal.
pub fn notional(units: i128) -> String {
    let scale = 10u128.pow(NOTIONAL_DECIMALS as u32);
    let (whole, part) = (units.unsigned_abs() / scale, units.unsigned_abs() % scale);
    let sign = if units < 0 { "-" } else { "" };
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let decimals = format!("{part:0NOTIONAL_DECIMALS$}");
    format!("{sign}{whole}.{}", decimals.trim_end_matches('0'))
}

/// A count with its digits in groups of three: `2,062,415`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Things per second; zero for no time at all.
pub fn per_second(things: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos();
    if nanos == 0 {
        return 0;
    }
    u64::try_from(u128::from(things) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Bytes in the largest binary unit that leaves at least one: `12.3 MiB`.
pub fn bytes(number: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| number >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(number) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{number} B"),
    }
}

/// A length of time, in seconds with milliseconds.
pub fn seconds(length: Duration) -> String {
    format!("{}.{:03} s", length.as_secs(), length.subsec_millis())
}

/// Writes to standard output, whole.
///
/// # Errors
/// [`Failure::OutputClosed`] when nobody reads it any more, else what the system says.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(["a".into(), "1".into()]);
        table.row(["longer".into(), "1000".into()]);
        table.row(["b".into()]);
        assert_eq!(table.take_text(), "NAME       N\na          1\nlonger  1000\nb\n");
        table.row(["c".into(), "2".into()]);
        assert_eq!(table.take_text(), "c          2\n", "a second page has no heading");
    }

    #[test]
    fn products_are_shown_exactly() {
        let cases = [
            (0, "0"),
            (1, "0.000000000000000001"),
            (-1_500_000_000_000_000_000, "-1.5"),
            (13_084_074_112_388_600_000_000_000, "13084074.1123886"),
            (i128::MIN, "-170141183460469231731.687303715884105728"),
        ];
        for (units, text) in cases {
            assert_eq!(notional(units), text);
        }
    }

    #[test]
    fn counts_speeds_and_sizes_read_as_people_write_them() {
        assert_eq!([count(0), count(999), count(2_062_415)], ["0", "999", "2,062,415"]);
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
        assert_eq!(per_second(1, Duration::ZERO), 0);
        assert_eq!(
            [bytes(1023), bytes(1536), bytes(u64::MAX)],
            ["1023 B", "1.5 KiB", "17179869183.9 GiB"]
        );
        assert_eq!(seconds(Duration::from_millis(12_034)), "12.034 s");
    }
}
