//! Time-outs and bounds of clients and servers. The defaults are those of `zepto_core::limits`.
//!
//! A `Config` that passed [`Config::check`] keeps the relations between its values; there is no
//! way to switch a bound off.

use std::time::Duration;

use thiserror::Error;
use zepto_core::limits;

use crate::secure::ClusterSecret;

/// Time-outs and bounds. Tests shorten the former; operators may lower the latter.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections of a server, those that have not yet said HELLO included.
    pub connections_max: usize,
    /// Requests in flight on one connection.
    pub requests_per_connection_max: usize,
    /// Bytes of requests in flight in one server.
    pub request_bytes_max: usize,
    /// Bytes of answers that wait in one server until their peers have taken them.
    pub answer_bytes_max: usize,
    /// Bytes of one request or answer.
    pub payload_bytes_max: u32,
    /// Bytes queued to be written on one connection.
    pub queue_bytes_max: usize,
    /// Lanes of one connection.
    pub lanes_per_connection_max: usize,
    /// Time to reach one address.
    pub connect_timeout: Duration,
    /// Time for the whole hand-shake.
    pub hello_timeout: Duration,
    /// Time for the rest of a header after its first byte.
    pub header_timeout: Duration,
    /// Time for a payload after its header, and the time a peer may refuse to take bytes.
    pub body_timeout: Duration,
    /// Silence after which a ping is sent.
    pub ping_after: Duration,
    /// Silence after which the connection is dead.
    pub ping_dead: Duration,
    /// Longest deadline of a request; longer ones are shortened to it.
    pub request_deadline_max: Duration,
    /// Time for requests in flight and lanes to finish when a server stops.
    pub drain: Duration,
    /// Time for a peer to close after we said that we do.
    pub linger: Duration,
    /// First pause after a failed connect, before jitter.
    pub reconnect_min: Duration,
    /// Longest pause after failed connects.
    pub reconnect_max: Duration,
    /// How often an idle lane looks for news when nobody wakes it.
    pub lane_poll: Duration,
    /// The secret that peers must know, in both directions; there is no falling back. Without one,
    /// nobody proves anything and everything travels in the clear.
    pub secret: Option<ClusterSecret>,
}

impl Default for Config {
    fn default() -> Config {
        let ms = Duration::from_millis;
        Config {
            connections_max: limits::CONNECTIONS_MAX,
            requests_per_connection_max: limits::REQUESTS_PER_CONNECTION_MAX,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            answer_bytes_max: limits::ANSWER_BYTES_MAX,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            queue_bytes_max: limits::CONNECTION_QUEUE_BYTES_MAX,
            lanes_per_connection_max: limits::LANES_PER_CONNECTION_MAX,
            connect_timeout: ms(limits::CONNECT_TIMEOUT_MS),
            hello_timeout: ms(limits::HELLO_TIMEOUT_MS),
            header_timeout: ms(limits::HEADER_TIMEOUT_MS),
            body_timeout: ms(limits::BODY_TIMEOUT_MS),
            ping_after: ms(limits::PING_AFTER_MS),
            ping_dead: ms(limits::PING_DEAD_MS),
            request_deadline_max: ms(u64::from(limits::REQUEST_DEADLINE_MS_MAX)),
            drain: ms(limits::DRAIN_MS),
            linger: ms(limits::LINGER_MS),
            reconnect_min: ms(limits::RECONNECT_MIN_MS),
            reconnect_max: ms(limits::RECONNECT_MAX_MS),
            lane_poll: ms(1),
            secret: None,
        }
    }
}

/// A configuration that cannot work. Nothing was started; the text names the rule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("rpc configuration: {rule}")]
pub struct ConfigError {
    rule: &'static str,
}

impl Config {
    /// Checks every bound against its limit and the relations between the values.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            (
                (1..=limits::CONNECTIONS_MAX).contains(&self.connections_max),
                "connections_max must be 1 to 1,024",
            ),
            (
                (1..=limits::REQUESTS_PER_CONNECTION_MAX)
                    .contains(&self.requests_per_connection_max),
                "requests_per_connection_max must be 1 to 256",
            ),
            (
                self.lanes_per_connection_max <= limits::LANES_PER_CONNECTION_MAX,
                "lanes_per_connection_max must be at most 32",
            ),
            (
                self.payload_bytes_max <= limits::PAYLOAD_BYTES_MAX,
                "payload_bytes_max must be at most 64 MiB",
            ),
            (
                self.queue_bytes_max <= limits::CONNECTION_QUEUE_BYTES_MAX,
                "queue_bytes_max must be at most 128 MiB",
            ),
            (
                self.request_bytes_max >= self.payload_bytes_max as usize,
                "request_bytes_max must hold one payload",
            ),
            (
                self.answer_bytes_max >= self.payload_bytes_max as usize,
                "answer_bytes_max must hold one payload",
            ),
            (
                self.queue_bytes_max > self.payload_bytes_max as usize,
                "queue_bytes_max must exceed payload_bytes_max",
            ),
            (
                self.request_deadline_max.as_millis()
                    <= u128::from(limits::REQUEST_DEADLINE_MS_MAX),
                "request_deadline_max must be at most 10 minutes",
            ),
            (!self.ping_after.is_zero(), "ping_after must not be zero"),
            (self.ping_after * 2 <= self.ping_dead, "ping_dead must be twice ping_after or more"),
            (!self.reconnect_min.is_zero(), "reconnect_min must not be zero"),
            (self.reconnect_min <= self.reconnect_max, "reconnect_min is above reconnect_max"),
            (!self.lane_poll.is_zero(), "lane_poll must not be zero"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ConfigError { rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_their_own_rules() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_ping_that_comes_after_death_is_refused_with_the_rule() {
        let config = Config { ping_after: Duration::from_secs(5), ..Config::default() };
        let error = config.check().expect_err("must be refused").to_string();
        assert_eq!(error, "rpc configuration: ping_dead must be twice ping_after or more");
    }
}
