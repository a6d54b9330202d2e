//! O6, guarantee G6: at every step `accepted = settled + refused + in flight + parked`; at the end
//! the counts are those of the content, a refused tick is not stored, and a refusal has a cause.

use super::{Content, Oracle, Verdict, ensure};
use std::collections::{BTreeMap, BTreeSet};
use zepto_client::producer::{Account, Outcome};

/// What was acknowledged to each producer, by content.
#[derive(Default)]
pub struct Conservation(BTreeMap<usize, BTreeSet<u64>>);

impl Conservation {
    /// A tick was acknowledged.
    pub fn settled(&mut self, producer: usize, id: u64) {
        self.0.entry(producer).or_default().insert(id);
    }

    /// After every step of a producer.
    pub fn at_step(producer: usize, account: &Account, accepted: u64) -> Verdict {
        let right = account.is_conserved() && account.accepted == accepted;
        ensure(Oracle::Conservation, right, || {
            format!("producer {producer} took {accepted} ticks, its account is {account:?}")
        })
    }

    /// At the end: what each tick's ticket says is what became of it. A producer numbers its ticks
    /// as it takes them, and their content is that number.
    pub fn tickets(
        &self,
        producer: usize,
        outcomes: impl Iterator<Item = (u64, Outcome)>,
        contents: &[Content],
        lost: bool,
    ) -> Verdict {
        let nobody = BTreeSet::new();
        let said = self.0.get(&producer).unwrap_or(&nobody);
        let ticks = contents.iter().flat_map(|content| &content.ticks);
        let stored: BTreeSet<u64> = ticks.map(|tick| tick.user[0]).collect();
        for (ticket, outcome) in outcomes {
            let id = ((producer as u64 + 1) << 32) | ticket;
            let right = match outcome {
                Outcome::Acknowledged => lost || (said.contains(&id) && stored.contains(&id)),
                Outcome::Refused(_) => !stored.contains(&id),
                Outcome::Waiting | Outcome::Forgotten => false,
            };
            ensure(Oracle::Conservation, right, || {
                let (said, stored) = (said.contains(&id), stored.contains(&id));
                format!(
                    "producer {producer}, ticket {ticket}: {outcome:?}; it was told so: {said}, \
                     it is stored: {stored}"
                )
            })?;
        }
        Ok(())
    }

    /// At the end, when the account is final. `excused` is whether anything happened that refuses
    /// sound ticks: lost data, a small budget, or a producer that did not wait for replicas.
    pub fn at_end(
        &self,
        producer: usize,
        account: &Account,
        contents: &[Content],
        excused: bool,
        lost: bool,
    ) -> Verdict {
        let said = self.0.get(&producer).map_or(0, |ids| ids.len() as u64);
        let refused = account.refused_total();
        ensure(Oracle::Conservation, excused || refused == 0, || {
            format!("producer {producer} was refused without a cause: {account:?}")
        })?;
        // An acknowledgement may be lost on the way only with the data.
        let known = if lost { account.settled <= said } else { account.settled == said };
        ensure(Oracle::Conservation, known, || {
            let settled = account.settled;
            format!("producer {producer} counts {settled} settled, it was told so for {said}")
        })?;
        let mine = |id: u64| (id >> 32) as usize == producer + 1;
        let stored = contents.iter().flat_map(|content| &content.ticks);
        let stored = stored.filter(|tick| mine(tick.user[0])).count() as u64;
        ensure(Oracle::Conservation, stored <= account.settled, || {
            let settled = account.settled;
            format!(
                "{stored} ticks of producer {producer} are stored, it counts {settled}: {account:?}"
            )
        })
    }
}
