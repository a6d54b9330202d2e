//! The times of consensus, and the rule between them.

use core::time::Duration;

/// How often the leader speaks, how long it may be silent, and how long a message may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Shortest silence of the leader after which a voter stands for election.
    pub election_min: Duration,
    /// Longest such silence. For so long, also, a leader that a majority answers is left alone.
    pub election_max: Duration,
    /// Time to connect to a peer.
    pub connect: Duration,
    /// Time for a small message and its answer.
    pub send: Duration,
}

/// Times that cannot work: elections would follow each other without need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// A heartbeat may still be on its way when the next one is due.
    #[error(
        "the rule is connect + send < heartbeat: {connect:?} + {send:?} is not below {heartbeat:?}"
    )]
    Message {
        /// Time to connect.
        connect: Duration,
        /// Time for a message.
        send: Duration,
        /// Between two heartbeats.
        heartbeat: Duration,
    },
    /// Too few heartbeats fit into the shortest silence.
    #[error(
        "the rule is heartbeat < election minimum / 3: {heartbeat:?} is not below {election_min:?} / 3"
    )]
    Heartbeat {
        /// Between two heartbeats.
        heartbeat: Duration,
        /// The shortest silence.
        election_min: Duration,
    },
    /// Voters would all stand for election at the same time.
    #[error("the rule is election minimum < election maximum: {min:?} is not below {max:?}")]
    Spread {
        /// The shortest silence.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Not whole milliseconds, zero, or beyond an hour.
    #[error("the times of consensus are whole milliseconds up to an hour, {0:?} is not")]
    Unit(Duration),
}

impl Times {
    /// For machines close to each other with disks that sync in a few milliseconds.
    pub const FAST: Self = Self::of_ms(50, 200, 400, 15, 30);
    /// For everything else.
    pub const DEFAULT: Self = Self::of_ms(100, 500, 1000, 30, 60);

    const fn of_ms(heartbeat: u64, min: u64, max: u64, connect: u64, send: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            election_min: Duration::from_millis(min),
            election_max: Duration::from_millis(max),
            connect: Duration::from_millis(connect),
            send: Duration::from_millis(send),
        }
    }

    /// The times, if they can work: connect + send < heartbeat < election minimum / 3.
    ///
    /// # Errors
    /// The rule that does not hold.
    pub fn checked(self) -> Result<Self, TimesError> {
        let Self { heartbeat, election_min: min, election_max: max, connect, send } = self;
        for time in [heartbeat, min, max, connect, send] {
            let whole = time.subsec_nanos().is_multiple_of(1_000_000);
            if !whole || time.is_zero() || time > Duration::from_secs(3600) {
                return Err(TimesError::Unit(time));
            }
        }
        if connect + send >= heartbeat {
            return Err(TimesError::Message { connect, send, heartbeat });
        }
        if heartbeat * 3 >= min {
            return Err(TimesError::Heartbeat { heartbeat, election_min: min });
        }
        if min >= max {
            return Err(TimesError::Spread { min, max });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_presets_obey_the_rule() {
        for times in [Times::FAST, Times::DEFAULT] {
            assert_eq!(times.checked(), Ok(times));
        }
    }

    #[test]
    fn times_that_cannot_work_are_refused_with_the_rule() {
        let ms = Duration::from_millis;
        let refused = |times: Times| times.checked().unwrap_err().to_string();
        let slow = refused(Times { send: ms(40), ..Times::FAST });
        assert!(slow.contains("connect + send < heartbeat"), "{slow}");
        let rare = refused(Times { heartbeat: ms(70), ..Times::FAST });
        assert!(rare.contains("heartbeat < election minimum / 3"), "{rare}");
        let together = refused(Times { election_max: ms(200), ..Times::FAST });
        assert!(together.contains("election minimum < election maximum"), "{together}");
        for unit in [Duration::ZERO, Duration::from_micros(1500), Duration::from_secs(9999)] {
            let times = Times { send: unit, ..Times::DEFAULT };
            assert_eq!(times.checked(), Err(TimesError::Unit(unit)));
        }
    }
}
