//! A fixed buffer that slides over an input and gives out its lines in place.
//!
//! It holds [`CSV_BUFFER_BYTES`] and never more: a line that is too long is reported once by its
//! first bytes, and what remains of it is passed over without being held. It knows lines, not
//! what they mean.

use std::io;

use memchr::memchr;
use zepto_core::limits::{CSV_BUFFER_BYTES, CSV_LINE_BYTES_MAX};

use super::buffer::Buffer;

/// What comes next in the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A line, without its LF or CRLF.
    Line(&'a [u8]),
    /// The beginning of a line that is too long.
    TooLong(&'a [u8]),
    /// Nothing whole: [`Window::fill`] first.
    More,
    /// Nothing, and nothing will come.
    End,
}

pub(super) struct Window {
    buffer: Buffer,
    /// Inside the rest of a line that was too long.
    passing_over: bool,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { buffer: Buffer::new(CSV_BUFFER_BYTES), passing_over: false }
    }

    #[inline]
    pub(super) fn next_line(&mut self) -> Next<'_> {
        if self.passing_over && !self.pass_over() {
            return if self.buffer.has_ended() { Next::End } else { Next::More };
        }
        let held = self.buffer.held();
        let length = held.len();
        if let Some(length) = memchr(b'\n', held) {
            let line = self.buffer.take(length + 1);
            return measured(&line[..length]);
        }
        // One byte more may be the CR of a line that is just not too long.
        if length > CSV_LINE_BYTES_MAX + 1 {
            self.passing_over = true;
            return Next::TooLong(self.buffer.take(length));
        }
        if !self.buffer.has_ended() {
            return Next::More;
        }
        if length == 0 { Next::End } else { measured(self.buffer.take(length)) }
    }

    /// Drops what is held of a line that was too long; whether all of it has now been dropped.
    #[cold]
    fn pass_over(&mut self) -> bool {
        let held = self.buffer.held();
        let line_feed = memchr(b'\n', held);
        let length = line_feed.map_or(held.len(), |length| length + 1);
        self.buffer.take(length);
        self.passing_over = line_feed.is_none();
        !self.passing_over
    }

    /// Reads more, once.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.buffer.fill(read)
    }
}

#[inline]
fn measured(line: &[u8]) -> Next<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > CSV_LINE_BYTES_MAX { Next::TooLong(line) } else { Next::Line(line) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    /// Everything a window gives out when its input comes in pieces of at most `piece` bytes.
    fn lines(mut input: &[u8], piece: usize) -> Vec<Result<Vec<u8>, Vec<u8>>> {
        let mut window = Window::new();
        let mut lines = Vec::new();
        loop {
            match window.next_line() {
                Next::Line(line) => lines.push(Ok(line.to_vec())),
                Next::TooLong(start) => lines.push(Err(start.to_vec())),
                Next::End => break,
                Next::More => {
                    let fill = |buffer: &mut [u8]| {
                        let room = buffer.len().min(piece);
                        input.read(&mut buffer[..room])
                    };
                    window.fill(fill).unwrap();
                }
            }
        }
        assert_eq!(window.next_line(), Next::End, "the end stays the end");
        lines
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_last_may_do_without() {
        let expected: Vec<Result<Vec<u8>, Vec<u8>>> =
            [&b"a"[..], b"b", b"", b"c\rd", b"e"].iter().map(|line| Ok(line.to_vec())).collect();
        for piece in 1..20 {
            assert_eq!(lines(b"a\nb\r\n\r\nc\rd\ne", piece), expected);
            assert_eq!(lines(b"a\nb\r\n\r\nc\rd\ne\n", piece), expected);
        }
        assert!(lines(b"", 1).is_empty());
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_is_too_long() {
        for (end, last) in [("\n", "z"), ("\r\n", "z"), ("", "")] {
            for piece in [7, 4096, CSV_BUFFER_BYTES] {
                let most = "x".repeat(CSV_LINE_BYTES_MAX);
                let found = lines(format!("{most}{end}{last}").as_bytes(), piece);
                assert_eq!(found[0], Ok(most.clone().into_bytes()));
                let found = lines(format!("{most}x{end}{last}").as_bytes(), piece);
                assert!(found[0].as_ref().is_err_and(|start| start.starts_with(most.as_bytes())));
                assert_eq!(found.get(1).is_some(), !last.is_empty());
            }
        }
    }

    #[test]
    fn a_huge_line_is_reported_once_and_the_next_is_read() {
        let huge = "y".repeat(3 * CSV_BUFFER_BYTES);
        for piece in [1000, CSV_BUFFER_BYTES] {
            let found = lines(format!("a\n{huge}\nb\n").as_bytes(), piece);
            assert_eq!(found.len(), 3);
            assert_eq!(found[0], Ok(b"a".to_vec()));
            assert!(found[1].is_err());
            assert_eq!(found[2], Ok(b"b".to_vec()));
            assert_eq!(lines(huge.as_bytes(), piece).len(), 1);
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_input_arrives(
            input in "[ab\r\n]{0,80}",
            piece in 1usize..90,
        ) {
            prop_assert_eq!(lines(input.as_bytes(), piece), lines(input.as_bytes(), 1 << 20));
        }

        #[test]
        fn lines_are_those_that_the_standard_library_finds(input in "[ab\r\n]{0,80}") {
            let expected: Vec<_> = input.lines().map(|line| Ok(line.as_bytes().to_vec())).collect();
            // The standard library keeps a CR that ends the input without a LF.
            prop_assume!(!input.ends_with('\r'));
            prop_assert_eq!(lines(input.as_bytes(), 16), expected);
        }
    }
}
