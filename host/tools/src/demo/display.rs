//! What a person sees while the demo runs: a bar, and a line for each node.
//!
//! Drawn on standard error, and only there: without a terminal it is a plain line every few
//! seconds. It asks the nodes for their status from time to time, and shows what they say.

use core::convert::Infallible;
use core::time::Duration;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use zepto_client::Client;
use zepto_client::message::{MemberStatus, Status};

use super::cluster::Cluster;
use crate::feed::{Progress, ProgressUnit};
use crate::format;
use crate::pump::Gauges;
use crate::status_cmd::show_state;

/// Time between two updates of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Time between two questions to the nodes, and for their answers.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// The display. Cheap to clone; the clones share the screen.
#[derive(Clone, Debug)]
pub(super) struct Display {
    bars: Option<Bars>,
}

#[derive(Clone, Debug)]
struct Bars {
    all: MultiProgress,
    main: ProgressBar,
    nodes: Vec<ProgressBar>,
}

impl Display {
    /// Lines for so many nodes, if a person watches.
    pub(super) fn new(nodes: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bars: None };
        }
        let all = MultiProgress::new();
        let plain =
            || ProgressStyle::with_template("{msg}").unwrap_or(ProgressStyle::default_bar());
        let line = || ProgressBar::new_spinner().with_style(plain());
        let main = all.add(line());
        let nodes = (0..nodes).map(|_| all.add(line())).collect();
        Self { bars: Some(Bars { all, main, nodes }) }
    }

    /// Says what happens next.
    pub(super) fn say(&self, what: &str) {
        match &self.bars {
            Some(bars) => bars.main.set_message(what.to_owned()),
            None => eprintln!("demo: {what}"),
        }
    }

    /// Tells what happened, for good.
    pub(super) fn tell(&self, what: &str) {
        match &self.bars {
            Some(bars) => {
                if let Err(error) = bars.all.println(format!("demo: {what}")) {
                    eprintln!("demo: {what} (and the screen fails: {error})");
                }
            }
            None => eprintln!("demo: {what}"),
        }
    }

    /// Says what one node is doing.
    pub(super) fn node(&self, number: usize, what: &str) {
        match &self.bars {
            Some(bars) => {
                if let Some(line) = bars.nodes.get(number) {
                    line.set_message(format!("  {what}"));
                }
            }
            None => eprintln!("demo: {what}"),
        }
    }

    /// Shows a feed on its way until dropped.
    async fn follow(
        &self,
        client: &Client,
        cluster: &Cluster,
        gauges: &Gauges,
        feed: Progress,
    ) -> Infallible {
        let started = Instant::now();
        let speed = || format::per_second(gauges.settled(), started.elapsed());
        match &self.bars {
            Some(bars) => {
                bars.begin(feed);
                let mut draw = interval(DRAW_EVERY);
                draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let show = async {
                    loop {
                        draw.tick().await;
                        bars.main.set_position(gauges.feed_done());
                        let settled = format::count(gauges.settled());
                        let speed = format::count(speed());
                        bars.main.set_message(format!("{settled} acknowledged, {speed} ticks/s"));
                    }
                };
                tokio::select! {
                    never = show => never,
                    never = bars.follow_nodes(client, cluster) => never,
                }
            }
            None => loop {
                sleep(LINE_EVERY).await;
                let sent = format::count(gauges.sent());
                let settled = format::count(gauges.settled());
                let states = states(client, &cluster.addresses()).await;
                let speed = format::count(speed());
                eprintln!("demo: {sent} sent, {settled} acknowledged, {speed} ticks/s; {states}");
            },
        }
    }

    /// Takes everything off the screen.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars
            && let Err(error) = bars.all.clear()
        {
            eprintln!("demo: cannot clear the screen: {error}");
        }
    }
}

impl Bars {
    fn begin(&self, feed: Progress) {
        let template = match (feed.total, feed.unit) {
            (Some(_), ProgressUnit::Bytes) => "[{bar:32}] {bytes}/{total_bytes}  {msg}",
            (Some(_), ProgressUnit::Rows) => "[{bar:32}] {human_pos}/{human_len}  {msg}",
            (None, _) => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.main.set_style(style.progress_chars("=> "));
        }
        if let Some(total) = feed.total {
            self.main.set_length(total);
        }
    }

    async fn follow_nodes(&self, client: &Client, cluster: &Cluster) -> Infallible {
        loop {
            for (line, address) in self.nodes.iter().zip(&cluster.addresses()) {
                if let Ok(status) = client.status_at(address, ASK_EVERY).await {
                    line.set_message(format!("  {}", node_line(&status)));
                }
            }
            sleep(ASK_EVERY).await;
        }
    }
}

/// The states of all members as the first node that answers sees them.
async fn states(client: &Client, addresses: &[String]) -> String {
    for address in addresses {
        if let Ok(status) = client.status_at(address, ASK_EVERY).await {
            let state = |m: &MemberStatus| format!("{} {}", m.name, show_state(m.state, m.suspect));
            let states: Vec<String> = status.members.iter().map(state).collect();
            return states.join(", ");
        }
    }
    "no node says how it is".to_owned()
}

/// A node about itself.
fn node_line(status: &Status) -> String {
    let own = status.members.iter().find(|member| member.name == status.name);
    let state = own.map_or("JOINING", |own| show_state(own.state, own.suspect));
    let partitions = own.map_or(0, |own| own.partitions);
    format!(
        "{:<8} {state:<8} {partitions:>5} partitions  {:>12} ticks  {:>11}",
        status.name,
        format::count(status.store.rows),
        format::bytes(status.store.bytes),
    )
}

/// Ends [`Display::follow`] together with what it follows.
pub(super) async fn while_shown<T>(
    display: &Display,
    client: &Client,
    cluster: &Cluster,
    gauges: &Gauges,
    feed: Progress,
    work: impl Future<Output = T>,
) -> T {
    tokio::select! {
        done = work => done,
        never = display.follow(client, cluster, gauges, feed) => match never {},
    }
}
