//! How often each reason of a refusal was given.
//!
//! Plain numbers without a lock: whoever counts owns them, or keeps atomics and copies. In JSON it
//! is a map from reason to count without the reasons that never occurred, on the wire a row of
//! numbers. A reason of a later version is not lost: it counts as `Other`.

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zepto_abi::Refusal;

/// One place per known reason, and one for the others.
const PLACES: usize = Refusal::ALL.len() + 1;
/// The name of the last place.
const OTHER: &str = "Other";

/// Counts by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; PLACES]);

/// The place of a reason by its number; what this version does not know is last.
pub fn place_of(code: u16) -> usize {
    let known = Refusal::ALL.iter().position(|reason| reason.code() == code);
    known.unwrap_or(PLACES - 1)
}

/// The name of a place, as in the status and in metrics.
fn name_of(place: usize) -> String {
    Refusal::ALL.get(place).map_or_else(|| OTHER.to_owned(), |reason| format!("{reason:?}"))
}

impl Refusals {
    /// How many places there are.
    pub const PLACES: usize = PLACES;

    /// Counts of all places, in their order.
    pub const fn from_places(counts: [u64; PLACES]) -> Self {
        Self(counts)
    }

    /// Adds to a reason, given by its number.
    pub fn add(&mut self, code: u16, count: u64) {
        if let Some(place) = self.0.get_mut(place_of(code)) {
            *place += count;
        }
    }

    /// How often a reason was given.
    pub fn of(&self, reason: Refusal) -> u64 {
        self.0.get(place_of(reason.code())).copied().unwrap_or_default()
    }

    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason by name, also those that never occurred.
    pub fn iter(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.0.iter().enumerate().map(|(place, count)| (name_of(place), *count))
    }
}

impl Serialize for Refusals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            let mut row = serializer.serialize_tuple(PLACES)?;
            for count in &self.0 {
                row.serialize_element(count)?;
            }
            return row.end();
        }
        let mut map = serializer.serialize_map(None)?;
        for (name, count) in self.iter().filter(|(_, count)| *count > 0) {
            map.serialize_entry(&name, &count)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Refusals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_map(Counts)
        } else {
            deserializer.deserialize_tuple(PLACES, Counts)
        }
    }
}

struct Counts;

impl<'de> Visitor<'de> for Counts {
    type Value = Refusals;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("counts by reason of refusal")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<Refusals, A::Error> {
        let mut counts = [0; PLACES];
        for (place, count) in counts.iter_mut().enumerate() {
            let next = row.next_element()?;
            *count = next.ok_or_else(|| de::Error::invalid_length(place, &self))?;
        }
        Ok(Refusals(counts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Refusals, A::Error> {
        let mut refusals = Refusals::default();
        while let Some((name, count)) = map.next_entry::<String, u64>()? {
            let place = (0..PLACES).find(|place| name_of(*place) == name);
            refusals.0[place.unwrap_or(PLACES - 1)] += count;
        }
        Ok(refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_apart_and_an_unknown_one_is_not_lost() {
        let mut refusals = Refusals::default();
        refusals.add(Refusal::NotOwner.code(), 2);
        refusals.add(Refusal::LimitReached.code(), 1);
        refusals.add(999, 4);
        assert_eq!((refusals.of(Refusal::NotOwner), refusals.of(Refusal::Offline)), (2, 0));
        assert_eq!(refusals.total(), 7);
        assert_eq!(refusals.iter().last(), Some(("Other".to_owned(), 4)));
        assert_eq!(refusals.iter().map(|(_, count)| count).sum::<u64>(), refusals.total());
    }
}
