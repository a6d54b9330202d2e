//! One line of a CSV feed to its fields, without copying.
//!
//! Pure: bytes in, values or a [`Fault`] out. The symbol stays bytes here; whether it may be a
//! name is asked once per name, by the list of names.

use memchr::memchr;
use zepto_abi::Kind;

use super::decimal::{self, DecimalFault};
use super::error::Fault;

/// What the line says, its symbol not yet vetted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub event_time_ns: u64,
    pub symbol: &'a [u8],
    pub kind: u8,
    pub price: i64,
    pub size: u64,
}

/// What is wrong, and the bytes that are to blame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadField<'a> {
    pub fault: Fault,
    pub field: &'a [u8],
}

/// Reads the fields of a line without its end.
#[inline]
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, BadField<'_>> {
    let Some([time, symbol, kind, price, size]) = fields(line) else {
        return Err(BadField { fault: Fault::FieldCount, field: line });
    };
    let bad = |field, fault| BadField { fault, field };
    Ok(Line {
        event_time_ns: decimal::parse_whole(time).map_err(|fault| bad(time, time_fault(fault)))?,
        symbol,
        kind: kind_of(kind).ok_or(bad(kind, Fault::KindUnknown))?,
        price: decimal::parse_i64(price).map_err(|fault| bad(price, price_fault(fault)))?,
        size: decimal::parse_u64(size).map_err(|fault| bad(size, size_fault(fault)))?,
    })
}

/// The five fields; `None` if there are more or fewer.
#[inline]
fn fields(line: &[u8]) -> Option<[&[u8]; 5]> {
    let (time, rest) = split_comma(line)?;
    let (symbol, rest) = split_comma(rest)?;
    let (kind, rest) = split_comma(rest)?;
    let (price, size) = split_comma(rest)?;
    memchr(b',', size).is_none().then_some([time, symbol, kind, price, size])
}

#[inline]
fn split_comma(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let comma = memchr(b',', text)?;
    Some((&text[..comma], &text[comma + 1..]))
}

#[inline]
fn kind_of(text: &[u8]) -> Option<u8> {
    match text {
        b"bid" => Some(Kind::BID),
        b"ask" => Some(Kind::ASK),
        b"trade" => Some(Kind::TRADE),
        _ => {
            const NAMES: [(&[u8], u8); 6] = [
                (b"trade", Kind::TRADE),
                (b"bid", Kind::BID),
                (b"ask", Kind::ASK),
                (b"fill", Kind::FILL),
                (b"clear", Kind::CLEAR),
                (b"other", Kind::OTHER),
            ];
            NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
        }
    }
}

#[cold]
fn time_fault(fault: DecimalFault) -> Fault {
    match fault {
        DecimalFault::Overflow => Fault::TimeOverflow,
        DecimalFault::NotANumber | DecimalFault::TooFine | DecimalFault::Negative => {
            Fault::TimeNotANumber
        }
    }
}

#[cold]
fn price_fault(fault: DecimalFault) -> Fault {
    match fault {
        DecimalFault::TooFine => Fault::PriceTooFine,
        DecimalFault::Overflow => Fault::PriceOverflow,
        DecimalFault::NotANumber | DecimalFault::Negative => Fault::PriceNotANumber,
    }
}

#[cold]
fn size_fault(fault: DecimalFault) -> Fault {
    match fault {
        DecimalFault::NotANumber => Fault::SizeNotANumber,
        DecimalFault::TooFine => Fault::SizeTooFine,
        DecimalFault::Overflow => Fault::SizeOverflow,
        DecimalFault::Negative => Fault::SizeNegative,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_becomes_its_values() {
        assert_eq!(
            parse(b"1723161253937085768,spot:BTCUSDT,bid,61737.63000000,0.00000000"),
            Ok(Line {
                event_time_ns: 1_723_161_253_937_085_768,
                symbol: b"spot:BTCUSDT",
                kind: Kind::BID,
                price: 61_737_630_000_000,
                size: 0,
            })
        );
    }

    #[test]
    fn kinds_are_known_in_any_case() {
        let cases = [
            ("trade", Kind::TRADE),
            ("TRADE", Kind::TRADE),
            ("Bid", Kind::BID),
            ("aSk", Kind::ASK),
            ("fill", Kind::FILL),
            ("Clear", Kind::CLEAR),
            ("OTHER", Kind::OTHER),
        ];
        for (text, kind) in cases {
            assert_eq!(kind_of(text.as_bytes()), Some(kind), "{text}");
        }
        for text in ["", "trades", "b", " bid", "255"] {
            assert_eq!(kind_of(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(line: Vec<u8>) {
            // What it accepts has five fields; the rest of its answers are checked elsewhere.
            if parse(&line).is_ok() {
                prop_assert_eq!(line.iter().filter(|byte| **byte == b',').count(), 4);
            }
        }

        #[test]
        fn lines_of_almost_valid_bytes_do_not_make_it_panic(line in "[0-9a-dikrst,.+-]{0,60}") {
            let commas = line.bytes().filter(|byte| *byte == b',').count();
            match parse(line.as_bytes()) {
                Ok(_) => prop_assert_eq!(commas, 4),
                Err(bad) => prop_assert_eq!(bad.fault == Fault::FieldCount, commas != 4),
            }
        }
    }
}
