//! Decimal text to whole units of 1e-9 and back, exactly. No floating point anywhere.
//!
//! A number is an optional sign, digits, and optionally a point with digits on either side of it;
//! zeros beyond the ninth decimal change nothing and are accepted, an exponent, a thousands
//! separator, white space, `inf` and `nan` are not numbers.

use std::fmt;

const DECIMALS: usize = 9;
const UNITS: u64 = 1_000_000_000;
/// 10 to the power of the decimals that are missing.
const SCALE: [u64; DECIMALS + 1] =
    [UNITS, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
/// So many digits fit 64 bits whatever they are.
const DIGITS_SAFE: usize = 19;

/// Why text is not a number of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalFault {
    /// It is empty, or has a character that does not belong there.
    NotANumber,
    /// A decimal beyond the ninth is not zero.
    TooFine,
    /// The number does not fit the type.
    Overflow,
    /// It is below zero and the type is not signed.
    Negative,
}

/// Reads a signed number in units of 1e-9: -9223372036.854775808 to 9223372036.854775807.
///
/// # Errors
/// See [`DecimalFault`].
#[inline]
pub fn parse_i64(text: &[u8]) -> Result<i64, DecimalFault> {
    match text {
        [b'-', rest @ ..] => {
            0i64.checked_sub_unsigned(magnitude(rest)?).ok_or(DecimalFault::Overflow)
        }
        [b'+', rest @ ..] => signed(magnitude(rest)?),
        _ => signed(magnitude(text)?),
    }
}

/// Reads an unsigned number in units of 1e-9: 0 to 18446744073.709551615. A sign may stand before
/// it; a minus only before zero.
///
/// # Errors
/// See [`DecimalFault`].
#[inline]
pub fn parse_u64(text: &[u8]) -> Result<u64, DecimalFault> {
    match text {
        [b'-', rest @ ..] => match magnitude(rest) {
            Ok(0) => Ok(0),
            Err(DecimalFault::NotANumber) => Err(DecimalFault::NotANumber),
            _ => Err(DecimalFault::Negative),
        },
        [b'+', rest @ ..] => magnitude(rest),
        _ => magnitude(text),
    }
}

/// Reads digits only, as a whole number.
///
/// # Errors
/// [`DecimalFault::NotANumber`] or [`DecimalFault::Overflow`].
#[inline]
pub fn parse_whole(text: &[u8]) -> Result<u64, DecimalFault> {
    if text.is_empty() {
        return Err(DecimalFault::NotANumber);
    }
    if text.len() <= DIGITS_SAFE {
        return digits(text).ok_or(DecimalFault::NotANumber);
    }
    long_whole(text)
}

/// A number in units of 1e-9, shown as the shortest decimal that reads back as the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units(pub i128);

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, mut part) = (magnitude / u128::from(UNITS), magnitude % u128::from(UNITS));
        let sign = if self.0 < 0 { "-" } else { "" };
        if part == 0 {
            return f.pad(&format!("{sign}{whole}"));
        }
        let mut decimals = DECIMALS;
        while part % 10 == 0 {
            part /= 10;
            decimals -= 1;
        }
        f.pad(&format!("{sign}{whole}.{part:0decimals$}"))
    }
}

#[inline]
fn signed(magnitude: u64) -> Result<i64, DecimalFault> {
    i64::try_from(magnitude).map_err(|_| DecimalFault::Overflow)
}

/// The number without its sign, in units.
#[inline]
fn magnitude(text: &[u8]) -> Result<u64, DecimalFault> {
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, part) = match point {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let count = whole.len() + part.len();
    if count == 0 || count > DIGITS_SAFE || part.len() > DECIMALS {
        return long_magnitude(whole, part);
    }
    let (Some(high), Some(low)) = (digits(whole), digits(part)) else {
        return Err(DecimalFault::NotANumber);
    };
    // At most nine digits, so the second product is below 1e9 and the sum does not wrap unseen.
    high.checked_mul(UNITS)
        .and_then(|units| units.checked_add(low * SCALE[part.len()]))
        .ok_or(DecimalFault::Overflow)
}

/// The value of up to [`DIGITS_SAFE`] digits; `None` if one is not a digit. No digits are zero.
#[inline]
fn digits(text: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    let mut wrong = false;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        wrong |= digit > 9;
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    (!wrong).then_some(value)
}

/// The rare forms: nothing at all, leading zeros, zeros beyond the ninth decimal, too many digits.
#[cold]
fn long_magnitude(whole: &[u8], part: &[u8]) -> Result<u64, DecimalFault> {
    let is_digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if whole.len() + part.len() == 0 || !is_digits(whole) || !is_digits(part) {
        return Err(DecimalFault::NotANumber);
    }
    let (near, beyond) = part.split_at(part.len().min(DECIMALS));
    if beyond.iter().any(|byte| *byte != b'0') {
        return Err(DecimalFault::TooFine);
    }
    let high = if whole.is_empty() { 0 } else { long_whole(whole)? };
    let low = digits(near).ok_or(DecimalFault::NotANumber)? * SCALE[near.len()];
    high.checked_mul(UNITS).and_then(|units| units.checked_add(low)).ok_or(DecimalFault::Overflow)
}

#[cold]
fn long_whole(text: &[u8]) -> Result<u64, DecimalFault> {
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(DecimalFault::NotANumber);
    }
    text.iter()
        .try_fold(0u64, |value, byte| {
            value.checked_mul(10)?.checked_add(u64::from(byte.wrapping_sub(b'0')))
        })
        .ok_or(DecimalFault::Overflow)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::DecimalFault::{Negative, NotANumber, Overflow, TooFine};
    use super::*;

    #[test]
    fn decimals_become_exact_units() {
        let cases: [(&str, i64); 14] = [
            ("0", 0),
            ("-0", 0),
            ("1", 1_000_000_000),
            ("+1.5", 1_500_000_000),
            ("-1.5", -1_500_000_000),
            ("61737.63000000", 61_737_630_000_000),
            ("0.000000001", 1),
            (".5", 500_000_000),
            ("5.", 5_000_000_000),
            ("0.1000000000000000000000000", 100_000_000),
            ("0000000000000000000000001", 1_000_000_000),
            ("9223372036.854775807", i64::MAX),
            ("-9223372036.854775808", i64::MIN),
            ("-9223372036.8547758080", i64::MIN),
        ];
        for (text, units) in cases {
            assert_eq!(parse_i64(text.as_bytes()), Ok(units), "{text}");
        }
        assert_eq!(parse_u64(b"18446744073.709551615"), Ok(u64::MAX));
        assert_eq!(parse_u64(b"-0.000"), Ok(0));
        assert_eq!(parse_whole(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_whole(b"00000000000000000000000007"), Ok(7));
    }

    #[test]
    fn what_is_not_an_exact_number_is_refused_with_its_reason() {
        let cases = [
            ("", NotANumber),
            (".", NotANumber),
            ("-", NotANumber),
            ("+-1", NotANumber),
            ("1-", NotANumber),
            ("1.2.3", NotANumber),
            ("1e9", NotANumber),
            ("1E-9", NotANumber),
            ("1_000", NotANumber),
            (" 1", NotANumber),
            ("1 ", NotANumber),
            ("nan", NotANumber),
            ("inf", NotANumber),
            ("0x10", NotANumber),
            ("1.00000000000x", NotANumber),
            ("99999999999999999999999x", NotANumber),
            ("\u{661}", NotANumber),
            ("0.0000000001", TooFine),
            ("1.1234567891", TooFine),
            ("9223372036.854775808", Overflow),
            ("-9223372036.854775809", Overflow),
            ("18446744073.709551616", Overflow),
            ("99999999999999999999999999", Overflow),
        ];
        for (text, fault) in cases {
            assert_eq!(parse_i64(text.as_bytes()), Err(fault), "{text}");
        }
        assert_eq!(parse_u64(b"18446744073.709551616"), Err(Overflow));
        assert_eq!(parse_u64(b"-0.5"), Err(Negative));
        assert_eq!(parse_u64(b"-99999999999999999999"), Err(Negative));
        assert_eq!(parse_u64(b"-x"), Err(NotANumber));
        assert_eq!(parse_whole(b"18446744073709551616"), Err(Overflow));
        assert_eq!(parse_whole(b"1.0"), Err(NotANumber));
        assert_eq!(parse_whole(b"-1"), Err(NotANumber));
        assert_eq!(parse_whole(b""), Err(NotANumber));
    }

    #[test]
    fn units_are_shown_without_needless_zeros_and_pad_like_text() {
        assert_eq!(Units(61_737_630_000_000).to_string(), "61737.63");
        assert_eq!(Units(-1).to_string(), "-0.000000001");
        assert_eq!(Units(0).to_string(), "0");
        assert_eq!(format!("{:>8}", Units(1_500_000_000)), "     1.5");
    }

    proptest! {
        #[test]
        fn every_price_reads_back_as_itself(units: i64) {
            prop_assert_eq!(parse_i64(Units(units.into()).to_string().as_bytes()), Ok(units));
        }

        #[test]
        fn every_size_reads_back_as_itself(units: u64) {
            prop_assert_eq!(parse_u64(Units(units.into()).to_string().as_bytes()), Ok(units));
        }

        #[test]
        fn zeros_around_a_number_change_nothing(
            units: i64,
            left in 0usize..30,
            right in 0usize..30,
        ) {
            let plain = Units(i128::from(units).abs()).to_string();
            let point = if plain.contains('.') { "" } else { "." };
            let sign = if units < 0 { "-" } else { "" };
            let text = format!("{sign}{}{plain}{point}{}", "0".repeat(left), "0".repeat(right));
            prop_assert_eq!(parse_i64(text.as_bytes()), Ok(units));
        }

        #[test]
        fn every_whole_number_reads_back_as_itself(number: u64) {
            prop_assert_eq!(parse_whole(number.to_string().as_bytes()), Ok(number));
        }
    }
}
