//! The table: figures, ratios, and the rules under which they were taken.

use super::engine::{Latency, Percentiles};
use super::system::Role;
use super::{ClusterArgs, Contender, LeftOut, MANY};
use crate::compare::Settings;
use serde_json::{Value, json};

const RULES: &str = "\
Same machine, same two cores for all processes and the producers, same run, in turns, each system
started empty for every measurement; the same 64 bytes per tick; no persistence but where files are
named. Acknowledged: with one copy the owner has it, which is less than any peer promises; with two
its replica has it too; with WAIT 1 the replica has it; with R3 a majority of three. Peers have
the batch or window that was best for them, their connection leads to the server that takes the
tick, and their producers sleep until they are answered. What arrived was counted after every
measurement.
Latency: an open loop at a fixed rate by one producer, which either spins and yields or sleeps up to
50 us; from the moment a tick was handed over to its acknowledgement, and from the moment it was
due.
A peer that does not sustain the rate gets the highest part of its own throughput that it does.";

/// Share of the cores that others may use while the machine counts as quiet.
const QUIET: f64 = 0.1;

/// Prints it.
pub fn print(
    settings: Settings,
    args: &ClusterArgs,
    contenders: &[Contender],
    left_out: &[LeftOut],
) {
    if settings.json {
        for LeftOut { name, why, .. } in left_out {
            println!("{}", json!({ "left_out": name, "why": why }));
        }
        contenders.iter().for_each(|contender| println!("{}", of_contender(contender)));
        ratios(contenders).iter().for_each(|ratio| println!("{}", ratio.json()));
        return;
    }
    for LeftOut { name, why, .. } in left_out {
        println!("left out: {name}: {why}");
    }
    println!("{RULES}\n");
    println!(
        "acknowledged ticks/s, up to {} ticks or {} s, {} rounds: median (lowest to highest)",
        args.ticks, args.seconds, settings.rounds
    );
    let width = contenders.iter().map(|contender| contender.system.name().len()).max();
    let width = width.unwrap_or(0);
    for contender in contenders {
        let [one, many] = &contender.per_second;
        println!(
            "  {:<width$}  one producer {:<36}  {MANY} producers {:<36}{}",
            contender.system.name(),
            spread(one),
            spread(many),
            knobs(contender),
        );
    }
    println!("\nacknowledgement latency, us: p50 / p99 / p99.9, medians of the rounds");
    for contender in contenders {
        for (latency, idle) in contender.latency.iter().zip(["spins", "sleeps"]) {
            if latency.is_empty() {
                continue;
            }
            let of = |which: fn(&Latency) -> Percentiles| shown(medians(latency, which));
            let sustained = latency.iter().filter(|latency| latency.sustained).count();
            println!(
                "  {:<width$}  {} ticks/s, producer {idle:<6}  {:<26}  since due {:<28}  sustained \
                 in {sustained} of {}",
                contender.system.name(),
                contender.rate,
                of(|latency| latency.since_handed_over),
                of(|latency| latency.since_due),
                latency.len(),
            );
        }
    }
    println!();
    ratios(contenders).iter().for_each(|ratio| println!("{}", ratio.text()));
}

/// How much of the cores others used, looked at before every turn, when nothing of ours ran.
pub fn print_disturbance(settings: Settings, in_use: &[f64]) {
    let most = in_use.iter().copied().fold(0.0, f64::max);
    let turns = in_use.iter().filter(|share| **share > QUIET).count();
    if settings.json {
        let disturbed = json!({ "turns": in_use.len(), "disturbed": turns, "most": most });
        println!("{}", json!({ "others": disturbed }));
    } else if turns > 0 {
        println!(
            "\nnot to be trusted: before {turns} of {} turns others used more than {:.0} % of the \
             cores, up to {:.0} %",
            in_use.len(),
            QUIET * 100.0,
            most * 100.0
        );
    }
}

fn knobs(contender: &Contender) -> String {
    let Some((what, _)) = contender.system.knob() else { return String::new() };
    let [one, many] = contender.knobs;
    format!("  best {what} {one} and {many}")
}

/// One figure of ours over another's.
struct Ratio {
    what: String,
    over: String,
    one: f64,
    many: f64,
    p50: Option<f64>,
}

impl Ratio {
    fn text(&self) -> String {
        let latency = self.p50.map(|p50| format!(", its p50 is {p50:.1} of ours"));
        format!(
            "{} over {}: {:.2} with one producer, {:.2} with {MANY}{}",
            self.what,
            self.over,
            self.one,
            self.many,
            latency.unwrap_or_default()
        )
    }

    fn json(&self) -> Value {
        json!({
            "ratio": self.what, "over": self.over, "one_producer": self.one,
            "many_producers": self.many, "p50_theirs_over_ours": self.p50,
        })
    }
}

/// Ours beside every peer, and more nodes beside fewer.
fn ratios(contenders: &[Contender]) -> Vec<Ratio> {
    let ours = |nodes, copies| {
        let role = Role::Ours { nodes, copies };
        contenders.iter().find(|contender| contender.system.role() == role)
    };
    let mut ratios = Vec::new();
    // One copy promises less than any peer; it stands beside them only where there is no other.
    if let Some(best) = ours(3, 2).or_else(|| ours(3, 1)) {
        let peers = contenders.iter().filter(|contender| contender.system.role() == Role::Peer);
        ratios.extend(peers.map(|peer| ratio(best, peer)));
    }
    for (many, few, copies) in [(2, 1, 1), (3, 1, 1), (3, 2, 2)] {
        if let (Some(many), Some(few)) = (ours(many, copies), ours(few, copies)) {
            ratios.push(ratio(many, few));
        }
    }
    ratios
}

fn ratio(ours: &Contender, theirs: &Contender) -> Ratio {
    let of = |which: usize| median(&ours.per_second[which]) / median(&theirs.per_second[which]);
    let both = !ours.latency[0].is_empty() && !theirs.latency[0].is_empty();
    // The better of the two producers, on both sides.
    let p50 = |contender: &Contender| {
        let of = |latency| medians(latency, |l| l.since_handed_over).p50;
        contender.latency.iter().map(|latency| of(latency)).fold(f64::INFINITY, f64::min)
    };
    Ratio {
        what: ours.system.name(),
        over: theirs.system.name(),
        one: of(0),
        many: of(1),
        p50: both.then(|| p50(theirs) / p50(ours)),
    }
}

fn of_contender(contender: &Contender) -> Value {
    let flow = |per_second: &Vec<f64>| json!({ "median": median(per_second), "all": per_second });
    let latency = |latency: &Vec<Latency>| {
        let percentiles = |which: fn(&Latency) -> Percentiles| {
            let Percentiles { p50, p99, p999 } = medians(latency, which);
            json!({ "p50_us": p50, "p99_us": p99, "p999_us": p999 })
        };
        let figures = json!({
            "offered_per_second": contender.rate,
            "sustained": latency.iter().all(|latency| latency.sustained),
            "since_handed_over": percentiles(|latency| latency.since_handed_over),
            "since_due": percentiles(|latency| latency.since_due),
        });
        if latency.is_empty() { Value::Null } else { figures }
    };
    json!({
        "system": contender.system.name(),
        "knob": contender.system.knob().map(|(what, _)| what),
        "knobs": contender.knobs,
        "one_producer": flow(&contender.per_second[0]),
        "many_producers": flow(&contender.per_second[1]),
        "latency_producer_spins": latency(&contender.latency[0]),
        "latency_producer_sleeps": latency(&contender.latency[1]),
    })
}

fn spread(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{:.0} ({least:.0} to {most:.0})", median(figures))
}

fn shown(percentiles: Percentiles) -> String {
    format!("{:.1} / {:.1} / {:.1}", percentiles.p50, percentiles.p99, percentiles.p999)
}

/// Of each percentile by itself.
fn medians(latency: &[Latency], which: fn(&Latency) -> Percentiles) -> Percentiles {
    let of = |one: fn(&Percentiles) -> f64| {
        median(&latency.iter().map(|latency| one(&which(latency))).collect::<Vec<_>>())
    };
    Percentiles { p50: of(|p| p.p50), p99: of(|p| p.p99), p999: of(|p| p.p999) }
}

/// The middle one; of none, zero.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
