//! One operation, its limit and its peers, measured in turns in one run. The ratios count.

use serde_json::json;

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the machine can do at all.
    Limit,
    /// What somebody would use instead.
    Peer,
    /// zepto.
    Ours,
}

/// One contender: its role, its name, and one measurement in nanoseconds per operation.
pub struct Contender<'a> {
    role: Role,
    name: &'static str,
    measure: Box<dyn FnMut() -> f64 + 'a>,
}

/// A limit.
pub fn limit<'a>(name: &'static str, measure: impl FnMut() -> f64 + 'a) -> Contender<'a> {
    Contender { role: Role::Limit, name, measure: Box::new(measure) }
}

/// A peer.
pub fn peer<'a>(name: &'static str, measure: impl FnMut() -> f64 + 'a) -> Contender<'a> {
    Contender { role: Role::Peer, name, measure: Box::new(measure) }
}

/// Ours.
pub fn ours<'a>(name: &'static str, measure: impl FnMut() -> f64 + 'a) -> Contender<'a> {
    Contender { role: Role::Ours, name, measure: Box::new(measure) }
}

/// How to measure and print.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Measurements of each contender.
    pub rounds: usize,
    /// One JSON object per operation instead of a table.
    pub json: bool,
}

struct Figure {
    role: Role,
    name: &'static str,
    median_ns: f64,
    least_ns: f64,
    most_ns: f64,
}

/// Measures all contenders in turns and prints medians and ratios.
pub fn compare(settings: Settings, operation: &str, mut contenders: Vec<Contender<'_>>) {
    let mut samples = vec![Vec::with_capacity(settings.rounds); contenders.len()];
    for _ in 0..settings.rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            samples.push((contender.measure)());
        }
    }
    let figures: Vec<Figure> = contenders
        .iter()
        .zip(samples)
        .map(|(contender, mut samples)| {
            samples.sort_by(f64::total_cmp);
            Figure {
                role: contender.role,
                name: contender.name,
                median_ns: samples[samples.len() / 2],
                least_ns: samples[0],
                most_ns: samples[samples.len() - 1],
            }
        })
        .collect();
    let fastest = |role| {
        let of_role = figures.iter().filter(|figure| figure.role == role);
        of_role.map(|figure| figure.median_ns).min_by(f64::total_cmp)
    };
    let (limit_ns, peer_ns) = (fastest(Role::Limit), fastest(Role::Peer));
    if settings.json {
        print_json(operation, &figures, limit_ns, peer_ns);
    } else {
        print_table(operation, &figures, limit_ns, peer_ns);
    }
}

fn print_table(operation: &str, figures: &[Figure], limit_ns: Option<f64>, peer_ns: Option<f64>) {
    println!("{operation}");
    for figure in figures {
        let role = match figure.role {
            Role::Limit => "limit",
            Role::Peer => "peer",
            Role::Ours => "ours",
        };
        let ns = figure.median_ns;
        let mut ratios = String::new();
        if figure.role == Role::Ours {
            if let Some(limit_ns) = limit_ns {
                ratios += &format!("  {:.2}x the limit", ns / limit_ns);
            }
            if let Some(peer_ns) = peer_ns {
                ratios += &format!("  best peer takes {:.2}x", peer_ns / ns);
            }
        }
        println!(
            "  {role:<6}{:<44}{ns:>10.2} ns  {:>9.3} M/s  ({:.2} to {:.2}){ratios}",
            figure.name,
            1e3 / ns,
            figure.least_ns,
            figure.most_ns,
        );
    }
}

fn print_json(operation: &str, figures: &[Figure], limit_ns: Option<f64>, peer_ns: Option<f64>) {
    let figures: Vec<_> = figures
        .iter()
        .map(|figure| {
            let ours = figure.role == Role::Ours;
            let ratio = |other: Option<f64>| other.filter(|_| ours);
            json!({
                "role": format!("{:?}", figure.role).to_lowercase(),
                "name": figure.name,
                "median_ns": figure.median_ns,
                "least_ns": figure.least_ns,
                "most_ns": figure.most_ns,
                "of_limit": ratio(limit_ns).map(|limit_ns| figure.median_ns / limit_ns),
                "peer_takes": ratio(peer_ns).map(|peer_ns| peer_ns / figure.median_ns),
            })
        })
        .collect();
    println!("{}", json!({ "operation": operation, "figures": figures }));
}
