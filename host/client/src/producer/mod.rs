//! The idempotent producer: takes ticks at memory speed, keeps them until they are settled, and
//! sends them again to whoever owns their partition by then.
//!
//! Every tick is in exactly one place: in a lane, parked here, settled or refused; the
//! [`Account`] says how many are where. Sequences are dense per partition, so an owner stores a
//! tick once however often it is sent.
//!
//! What happens when...
//! * *a lane is full*: `ingest` answers `Busy`; nothing was taken.
//! * *an owner says NotOwner*: that partition stops. Its ticks are taken out of the lane in order
//!   and wait for a newer view; other partitions go on.
//! * *the view moves a partition*: new ticks of it wait until its old lane has judged the earlier
//!   ones, so their order holds.
//! * *an owner dies*: what its lane had not settled is taken out of the lane and waits for the
//!   partition's next owner.
//! * *a tick is refused for good*: it is counted with its reason, and so are those after it in its
//!   partition that were on their way; numbering goes on from there.
//! * *numbering cannot go on*, because an owner lost what it had acknowledged from memory, or a
//!   lane broke before it had judged the numbers that would be given out again: the partition goes
//!   on under a new name, counted from one, so no number ever means two ticks.
//!
//! Owned by one thread. Never blocks, never reads a clock; the client wraps it with deadlines.

mod account;
mod link;
mod outlet;
mod parked;
mod resend;
mod tickets;
mod verdict;

pub use account::Account;
pub use link::{HungUp, Link, Opened, Ring};
pub use outlet::Observer;
pub use tickets::Outcome;

use arc_swap::{ArcSwap, Cache};
use outlet::Outlet;
use parked::{Parked, Waiting};
use std::collections::BTreeMap;
use std::sync::Arc;
use tickets::Tickets;
use zepto_core::defect::Defect;
use zepto_core::limits::PARKED_TICKS_MAX;
use zepto_core::slot::{self, AsSlot};
use zepto_core::time::Nanos;
use zepto_core::view::{Destination, OFFLINE, View};
use zepto_core::{Incarnation, Kind, PartitionId, ProducerId};
use zepto_transport::Transport;

/// Opens lanes for a producer. Nothing here may block.
pub trait Lanes {
    /// The transport of lanes that do not go over RPC.
    type Transport: Transport;

    /// Asks for a lane; the answer comes from [`Lanes::poll`]. Asking again is harmless.
    fn request(&mut self, to: Destination, incarnation: Incarnation, view: &View);

    /// A lane that is open now, or where one could not be opened.
    fn poll(&mut self) -> Option<Result<Opened<Self::Transport>, Destination>>;
}

/// Why a tick was not taken. Nothing happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// No room in the window just now; poll, and try again.
    #[error("busy: the window is full")]
    Busy,
    /// The partition has no owner that lives. [`Producer::owner_of`] names it.
    #[error("the partition is offline")]
    Offline,
    /// The symbol id was not asked for with `symbol`.
    #[error("unknown symbol id")]
    UnknownSymbol,
    /// Kind 255 is a lane's own.
    #[error("kind 255 is no tick's")]
    Malformed,
}

/// No outlet has this index.
const NO_LANE: u16 = u16::MAX;

/// What every tick of a partition needs.
#[derive(Clone, Copy)]
struct Stream {
    /// Last sequence given out.
    sequence: u64,
    /// Index of the name that it is a sequence of.
    name: u32,
    /// Index of the outlet, or [`NO_LANE`] while the partition is stopped.
    lane: u16,
}

impl Stream {
    const STOPPED: Self = Self { sequence: 0, name: 0, lane: NO_LANE };

    /// First word of the stream's next slot.
    #[inline(always)]
    fn next_word(&self) -> u64 {
        slot::producer_word(self.name, self.sequence.wrapping_add(1) as u32)
    }
}

/// The producer.
pub struct Producer<L: Lanes> {
    /// Under which it sends, by the index that lanes carry. The first is its own id; others follow
    /// from it, for partitions that had to begin anew.
    names: Vec<ProducerId>,
    view: Cache<Arc<ArcSwap<View>>, Arc<View>>,
    installed: Arc<View>,
    lanes: L,
    outlets: Vec<Option<Outlet<L::Transport>>>,
    /// By the view's destination: index of its outlet, or [`NO_LANE`].
    outlet_of: Vec<u16>,
    /// By partition.
    streams: Vec<Stream>,
    /// Partitions that are stopped, with what waits for them.
    parked: BTreeMap<PartitionId, Parked>,
    parked_count: usize,
    /// While a lane is polled: partitions that it refused for now, with the first index of each.
    postponed: BTreeMap<PartitionId, u64>,
    symbols: u32,
    now: Nanos,
    account: Account,
    observer: Option<Observer>,
    tickets: Option<Tickets>,
}

impl<L: Lanes> Producer<L> {
    /// A producer with 64 fresh random bits, over the published views.
    pub fn new(id: ProducerId, view: Arc<ArcSwap<View>>, lanes: L) -> Self {
        let installed = view.load_full();
        let partitions = installed.partitions();
        let installed_destinations = installed.destinations().len();
        Self {
            names: vec![id],
            view: Cache::new(view),
            installed,
            lanes,
            outlets: Vec::new(),
            outlet_of: vec![NO_LANE; installed_destinations],
            streams: vec![Stream::STOPPED; partitions],
            parked: BTreeMap::new(),
            parked_count: 0,
            postponed: BTreeMap::new(),
            symbols: 0,
            now: Nanos(0),
            account: Account::default(),
            observer: None,
            tickets: None,
        }
    }

    /// Lets somebody see every tick that is acknowledged, at the poll that learns of it.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Remembers from now on what becomes of single ticks. Before the first lane is open.
    pub fn keep_tickets(&mut self) {
        debug_assert!(self.outlets.is_empty(), "lanes know of tickets from their first slot on");
        self.tickets = Some(Tickets::new(self.account.accepted));
    }

    /// The ticket of the tick that was taken last: how many were taken by then.
    #[inline]
    pub fn last_ticket(&self) -> u64 {
        self.account.accepted
    }

    /// What became of a tick, as of the last poll. Without [`Self::keep_tickets`], nobody knows.
    pub fn outcome(&self, ticket: u64) -> Outcome {
        self.tickets.as_ref().map_or(Outcome::Forgotten, |tickets| tickets.outcome(ticket))
    }

    /// The producer's id.
    pub fn id(&self) -> ProducerId {
        self.names[0]
    }

    /// Ids below this exist: the log has issued them.
    pub fn know_symbols(&mut self, issued: u32) {
        self.symbols = self.symbols.max(issued);
    }

    /// Takes one tick: routes it, numbers it and writes it into its owner's lane. Its `sequence`
    /// is ignored. Returns at once.
    ///
    /// # Errors
    /// When it was not taken; it may be offered again.
    #[inline(always)]
    pub fn ingest<T: AsSlot>(&mut self, tick: &T) -> Result<(), IngestError> {
        if self.ingest_now(tick) { Ok(()) } else { self.ingest_slowly(tick) }
    }

    /// Takes one tick if all that it needs is at hand. If not, nothing happened, and
    /// [`Self::ingest`] takes it or says why not. It calls nothing, so whoever inlines it into a
    /// small function gets one without a stack frame.
    #[inline(always)]
    pub fn ingest_now<T: AsSlot>(&mut self, tick: &T) -> bool {
        let (table, symbol) = tick.series();
        if symbol >= self.symbols || tick.kind() == Kind::CONTROL {
            return false;
        }
        let partition = self.installed.partition(table, symbol);
        let Some(stream) = self.streams.get_mut(partition.0 as usize) else { return false };
        let Some(Some(outlet)) = self.outlets.get_mut(stream.lane as usize) else { return false };
        let taken = outlet.push_plainly(stream.next_word(), &tick.as_slot());
        if taken {
            stream.sequence += 1;
            self.account.accepted += 1;
        }
        taken
    }

    /// Puts a tick under its next number into its partition's lane, if the partition has one.
    #[inline(always)]
    fn push<T: AsSlot>(
        &mut self,
        tick: &T,
        partition: PartitionId,
    ) -> Option<Result<(), IngestError>> {
        let stream = &mut self.streams[partition.0 as usize];
        let outlet = self.outlets.get_mut(stream.lane as usize)?.as_mut()?;
        let mut slot = tick.as_slot();
        slot[0] = stream.next_word();
        let Ok(index) = outlet.push(&slot) else { return Some(Err(IngestError::Busy)) };
        stream.sequence += 1;
        self.account.accepted += 1;
        if let Some(tickets) = &mut self.tickets {
            tickets.give(self.account.accepted);
            outlet.mark(index, self.account.accepted);
        }
        Some(Ok(()))
    }

    #[cold]
    #[inline(never)]
    fn ingest_slowly<T: AsSlot>(&mut self, tick: &T) -> Result<(), IngestError> {
        let (table, symbol) = tick.series();
        if symbol >= self.symbols {
            return Err(IngestError::UnknownSymbol);
        }
        if tick.kind() == Kind::CONTROL {
            return Err(IngestError::Malformed);
        }
        let partition = self.installed.partition(table, symbol);
        if let Some(Ok(())) = self.push(tick, partition) {
            return Ok(());
        }
        if self.streams[partition.0 as usize].lane != NO_LANE {
            // The lane was full by the credit last seen.
            self.publish();
            self.poll(self.now);
        }
        self.install();
        // The first view that came from the log knows more partitions than the one before it.
        let partition = self.installed.partition(table, symbol);
        // Only now: whatever happened above may have stopped the partition, or given it a lane,
        // and a tick that is parked beside a lane would be overtaken.
        if let Some(pushed) = self.push(tick, partition) {
            return pushed;
        }
        if self.installed.destination(partition) == OFFLINE {
            return Err(IngestError::Offline);
        }
        if self.parked_count >= PARKED_TICKS_MAX {
            self.poll(self.now);
            return Err(IngestError::Busy);
        }
        self.parked_count += 1;
        self.account.accepted += 1;
        let ticket = self.account.accepted;
        if let Some(tickets) = &mut self.tickets {
            tickets.give(ticket);
        }
        let waiting = Waiting { slot: tick.as_slot(), ticket };
        self.parked.entry(partition).or_default().fresh.push_back(waiting);
        Ok(())
    }

    /// Publishes what was written to the lanes.
    pub fn publish(&mut self) {
        self.outlets.iter_mut().flatten().for_each(Outlet::publish);
    }

    /// Reads what the owners say, takes up a new view and new lanes, and sends on what waits.
    /// Returns how many ticks settled, were refused or were sent on. `now` is any monotonic clock.
    pub fn poll(&mut self, now: Nanos) -> u64 {
        self.now = now;
        let mut work = self.install();
        work += self.take_lanes();
        for index in 0..self.outlets.len() {
            work += self.poll_outlet(index);
        }
        if !self.parked.is_empty() {
            work += self.send_parked();
        }
        self.outlets.iter_mut().flatten().for_each(Outlet::wake);
        work
    }

    /// What became of every tick.
    pub fn account(&self) -> Account {
        let in_flight = self.outlets.iter().flatten().map(Outlet::in_flight).sum();
        let parked = self.parked_count as u64;
        let account = Account { in_flight, parked, ..self.account.clone() };
        debug_assert!(account.is_conserved(), "{account:?}");
        account
    }

    /// Whether every accepted tick is acknowledged or refused.
    pub fn is_final(&self) -> bool {
        self.parked_count == 0 && self.outlets.iter().flatten().all(|o| o.in_flight() == 0)
    }

    /// The view the producer routes by.
    pub fn view(&self) -> &Arc<View> {
        &self.installed
    }

    /// Takes up the published view if it is newer.
    fn install(&mut self) -> u64 {
        let view = Arc::clone(self.view.load());
        if view.index() == self.installed.index() && self.streams.len() == view.partitions() {
            return 0;
        }
        if Defect::StaleRoute.planted() && self.installed.index() > 0 {
            return 0;
        }
        if self.streams.len() != view.partitions() {
            // The first real view: nothing was sent by the empty one.
            self.streams = vec![Stream::STOPPED; view.partitions()];
        }
        self.installed = view;
        for index in 0..self.outlets.len() {
            if self.outlets[index].as_ref().is_some_and(|outlet| !self.lives(outlet)) {
                self.abandon(index);
            }
        }
        self.redirect_all();
        1
    }

    fn lives(&self, outlet: &Outlet<L::Transport>) -> bool {
        let member = self.installed.placement().member(outlet.to.node);
        let same = member.is_some_and(|member| member.incarnation == outlet.incarnation);
        same && self.installed.destinations().contains(&outlet.to)
    }

    /// Points every partition to its destination's lane.
    fn redirect_all(&mut self) {
        let lanes = self.installed.destinations().iter().map(|to| {
            let found = self.outlets.iter().position(|o| o.as_ref().is_some_and(|o| o.to == *to));
            found.map_or(NO_LANE, |index| index as u16)
        });
        self.outlet_of = lanes.collect();
        for partition in (0..self.streams.len() as u32).map(PartitionId) {
            self.redirect(partition);
        }
    }

    /// Points a partition to its destination's lane; stops it while its earlier ticks are
    /// elsewhere.
    fn redirect(&mut self, partition: PartitionId) {
        let destination = self.installed.destination(partition) as usize;
        let lane = self.outlet_of.get(destination).copied().unwrap_or(NO_LANE);
        let slot = &mut self.streams[partition.0 as usize].lane;
        let old = *slot;
        if old != NO_LANE && lane != old {
            // Ticks of it may be on their way to the old owner, which judges them all.
            let until = self.outlets[old as usize].as_ref().map(|outlet| (old, outlet.head()));
            self.parked.entry(partition).or_default().until = until;
            *slot = NO_LANE;
        } else if old == NO_LANE && !self.parked.contains_key(&partition) {
            *slot = lane;
        }
    }

    fn request(&mut self, to: Destination) {
        if let Some(member) = self.installed.placement().member(to.node) {
            self.lanes.request(to, member.incarnation, &self.installed);
        }
    }

    fn has_lane(&self, to: Destination) -> bool {
        self.outlets.iter().flatten().any(|outlet| outlet.to == to)
    }

    fn take_lanes(&mut self) -> u64 {
        let mut taken = 0;
        while let Some(opened) = self.lanes.poll() {
            match opened {
                Ok(opened) if !self.has_lane(opened.to) => {
                    let opened = Outlet::new(opened, &self.names, self.tickets.is_some());
                    let Ok(outlet) = opened else { continue };
                    if !self.lives(&outlet) {
                        continue;
                    }
                    match self.outlets.iter().position(Option::is_none) {
                        Some(free) => self.outlets[free] = Some(outlet),
                        None => self.outlets.push(Some(outlet)),
                    }
                    taken += 1;
                }
                Ok(_twice) => {}
                // Whoever waits for it asks again.
                Err(_failed) => {}
            }
        }
        if taken > 0 {
            self.redirect_all();
        }
        taken
    }
}
