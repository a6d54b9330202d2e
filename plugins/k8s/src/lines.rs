//! A watch is lines of JSON, and its parts end anywhere.

/// Bytes that are kept for the next lines when a long one is over.
const KEPT_BYTES: usize = 64 << 10;

/// Puts lines together from parts.
#[derive(Debug)]
pub struct Lines {
    begun: Vec<u8>,
    most: usize,
}

/// A line is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Lines {
    /// Of lines of at most so many bytes.
    pub fn new(most: usize) -> Self {
        Self { begun: Vec::new(), most }
    }

    /// Takes a part, and hands out every line that ends in it, until `each` wants no more.
    ///
    /// # Errors
    /// When a line is too long. Nothing comes of the rest.
    pub fn push(
        &mut self,
        part: &[u8],
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), TooLong> {
        let mut rest = part;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            if self.begun.len() + line.len() > self.most {
                return Err(TooLong);
            }
            let goes_on = if self.begun.is_empty() {
                each(line)
            } else {
                self.begun.extend_from_slice(line);
                let goes_on = each(&self.begun);
                self.begun.clear();
                self.begun.shrink_to(KEPT_BYTES);
                goes_on
            };
            if !goes_on {
                return Ok(());
            }
        }
        if self.begun.len() + rest.len() > self.most {
            return Err(TooLong);
        }
        self.begun.extend_from_slice(rest);
        Ok(())
    }

    /// Whether a line has begun and not ended.
    pub fn is_cut(&self) -> bool {
        !self.begun.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[&str], most: usize) -> Result<(Vec<String>, bool), TooLong> {
        let (mut lines, mut all) = (Lines::new(most), Vec::new());
        for part in parts {
            lines.push(part.as_bytes(), |line| {
                all.push(String::from_utf8(line.to_vec()).unwrap());
                true
            })?;
        }
        Ok((all, lines.is_cut()))
    }

    #[test]
    fn parts_may_end_anywhere() {
        let text = "one\ntwo\n\nthree\nfo";
        let want = Ok((["one", "two", "", "three"].map(str::to_owned).to_vec(), true));
        assert_eq!(split(&[text], 5), want);
        for at in 0..text.len() {
            assert_eq!(split(&[&text[..at], "", &text[at..]], 5), want, "{at}");
        }
        let bytes: Vec<&str> = text.split_inclusive(|_: char| true).collect();
        assert_eq!(split(&bytes, 5), want);
        assert_eq!(split(&["one\n"], 5).map(|(_, cut)| cut), Ok(false));
    }

    #[test]
    fn a_line_that_is_too_long_is_noticed_before_it_ends() {
        assert!(split(&["123456\n"], 5).is_err());
        assert!(split(&["123", "456"], 5).is_err());
        assert!(split(&["123", "456\n"], 5).is_err());
        assert!(split(&["12345\n12345\n", "123", "45\n"], 5).is_ok());
    }

    #[test]
    fn nothing_is_handed_out_once_no_more_is_wanted() {
        let (mut lines, mut count) = (Lines::new(9), 0);
        let pushed = lines.push(b"a\nb\nc\n", |_| {
            count += 1;
            count < 2
        });
        assert_eq!((pushed, count), (Ok(()), 2));
    }

    #[test]
    fn a_long_line_does_not_keep_its_memory() {
        let mut lines = Lines::new(1 << 20);
        lines.push(&[b'x'; 1 << 20], |_| true).unwrap();
        lines.push(b"\n", |line| line.len() == 1 << 20).unwrap();
        assert!(lines.begun.capacity() <= KEPT_BYTES);
    }
}
