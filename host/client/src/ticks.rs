//! The producer as programs use it: with deadlines, on its own thread.

use crate::client::Client;
use crate::connect::Connector;
use crate::error::ClientError;
use crate::producer::{Account, IngestError, Observer, Outcome, Producer};
use crate::real::Real;
use core::time::Duration;
use std::sync::Arc;
use zepto_core::ProducerId;
use zepto_core::env::Env;
use zepto_core::limits::LANE_SLOTS;
use zepto_core::slot::AsSlot;
use zepto_core::time::Nanos;
use zepto_core::view::View;

/// How a producer sends.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// Slots of each lane, a power of two: how much may be unsettled per shard.
    pub lane_slots: u32,
    /// Acknowledge what the owner has, without waiting for its replicas.
    pub memory_only: bool,
    /// Remember what becomes of single ticks.
    pub tickets: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self { lane_slots: LANE_SLOTS as u32, memory_only: false, tickets: false }
    }
}

/// An idempotent producer. One thread at a time; dropping it abandons what is not settled.
pub struct TickProducer {
    producer: Producer<Connector>,
    client: Client,
    env: Real,
}

impl TickProducer {
    pub(crate) fn new(producer: Producer<Connector>, client: Client, env: Real) -> Self {
        let mut ticks = Self { producer, client, env };
        ticks.producer.know_symbols(ticks.client.symbols());
        ticks
    }

    /// Its id.
    pub fn id(&self) -> ProducerId {
        self.producer.id()
    }

    /// The ids of symbol names, issued now where they are new. What was taken goes its way
    /// meanwhile. Not to be called from a tokio task.
    ///
    /// # Errors
    /// When a name is no symbol, or the log cannot be reached.
    pub fn symbols(&mut self, names: &[String], within: Duration) -> Result<Vec<u32>, ClientError> {
        let (client, names) = (self.client.clone(), names.to_vec());
        let runtime = self.client.runtime().clone();
        let asking = runtime.spawn(async move { client.intern(&names, within).await });
        self.producer.publish();
        let mut rounds = 0;
        while !asking.is_finished() {
            rounds = self.turn(rounds);
        }
        let asked = runtime.block_on(asking);
        let ids = asked.map_err(|error| ClientError::Unknown(error.to_string()))??;
        self.producer.know_symbols(self.client.symbols());
        Ok(ids)
    }

    /// Takes a tick and returns at once.
    ///
    /// # Errors
    /// When it was not taken.
    #[inline(always)]
    pub fn ingest<T: AsSlot>(&mut self, tick: &T) -> Result<(), IngestError> {
        if self.ingest_now(tick) { Ok(()) } else { self.ingest_slowly(tick) }
    }

    /// As [`Producer::ingest_now`].
    #[inline(always)]
    pub fn ingest_now<T: AsSlot>(&mut self, tick: &T) -> bool {
        self.producer.ingest_now(tick)
    }

    /// What is not at hand: reads what owners said, so that somebody who only tries again comes to
    /// an end, and learns of symbols that others asked for.
    #[cold]
    #[inline(never)]
    fn ingest_slowly<T: AsSlot>(&mut self, tick: &T) -> Result<(), IngestError> {
        let taken = self.producer.ingest(tick);
        match taken {
            Err(IngestError::Busy) => {
                self.poll();
                taken
            }
            Err(IngestError::UnknownSymbol) => {
                self.producer.know_symbols(self.client.symbols());
                self.producer.ingest(tick)
            }
            other => other,
        }
    }

    /// Takes a tick, and waits for room if it must.
    ///
    /// # Errors
    /// `Busy` when there was no room within the deadline; others at once.
    #[inline]
    pub fn ingest_wait<T: AsSlot>(
        &mut self,
        tick: &T,
        within: Duration,
    ) -> Result<(), IngestError> {
        match self.ingest(tick) {
            Err(IngestError::Busy) => self.wait_for_room(tick, within),
            done => done,
        }
    }

    #[cold]
    fn wait_for_room<T: AsSlot>(&mut self, tick: &T, within: Duration) -> Result<(), IngestError> {
        let (until, mut rounds) = (self.env.now().after(within), 0);
        loop {
            rounds = self.turn(rounds);
            match self.producer.ingest(tick) {
                Err(IngestError::Busy) if self.env.now() < until => {}
                done => return done,
            }
        }
    }

    /// Publishes what was taken, and waits until all of it is acknowledged or refused.
    /// The account says what is not: [`Account::is_final`].
    pub fn flush(&mut self, within: Duration) -> Account {
        let (until, mut rounds) = (self.env.now().after(within), 0);
        loop {
            self.producer.publish();
            rounds = self.turn(rounds);
            if self.producer.is_final() || self.env.now() >= until {
                return self.producer.account();
            }
        }
    }

    /// Publishes what was taken, and reads nothing.
    pub fn publish(&mut self) {
        self.producer.publish();
    }

    /// Publishes what was taken and reads what the owners said, without waiting. To be called
    /// when there is nothing to ingest.
    pub fn poll(&mut self) -> u64 {
        self.producer.publish();
        self.producer.poll(self.env.now())
    }

    /// The ticket of the tick that was taken last: how many were taken by then.
    #[inline]
    pub fn last_ticket(&self) -> u64 {
        self.producer.last_ticket()
    }

    /// What became of a tick, as of the last call that read what owners said.
    pub fn outcome(&self, ticket: u64) -> Outcome {
        self.producer.outcome(ticket)
    }

    /// Sends nothing for so long, while what was taken goes its way.
    pub fn rest(&mut self, time: Duration) {
        let (until, mut rounds) = (self.env.now().after(time), 0);
        self.producer.publish();
        while self.env.now() < until {
            rounds = self.turn(rounds);
        }
    }

    /// Lets somebody see every tick that is acknowledged, on the producer's thread.
    pub fn observe(&mut self, observer: Observer) {
        self.producer.observe(observer);
    }

    /// What became of every tick so far.
    pub fn account(&self) -> Account {
        self.producer.account()
    }

    /// The view it routes by.
    pub fn view(&self) -> &Arc<View> {
        self.producer.view()
    }

    /// The monotonic clock it uses.
    pub fn now(&self) -> Nanos {
        self.env.now()
    }

    fn turn(&mut self, rounds: u32) -> u32 {
        if self.producer.poll(self.env.now()) > 0 {
            return 0;
        }
        Real::pause(rounds);
        rounds.saturating_add(1)
    }
}
