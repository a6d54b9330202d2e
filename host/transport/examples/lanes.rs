//! What lanes between two processes cost, over either transport; as `benches/ucx.sh` runs it.
//!   lanes shm | lanes ucx      (UCX_TLS says over what)
//! One line: its name, half a round trip of one slot, of 64 slots (4 KiB), both in ns (medians),
//! and slots per second until they are settled, in millions.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use zepto_transport::ucx::{UcxOptions, UcxTicket};
use zepto_transport::{Bell, Door, LaneSpec, Receiver, Sender, Shm, Transport, Ucx, meet};

type Failure = Box<dyn Error>;

const SPEC: LaneSpec = LaneSpec { nonce: 7, slots: 1 << 14 };
const WITHIN: Duration = Duration::from_secs(10);
/// The second process.
const ECHO: &str = "echo";

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this measures")]
    Instant::now()
}

/// What one process writes and the other reads, line by line.
struct Wire<R, W>(R, W);

impl<R: BufRead, W: Write> Wire<R, W> {
    fn say(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.1, "{text}")?;
        Ok(self.1.flush()?)
    }

    fn hear(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("the other process has ended".into());
        }
        Ok(line.trim().to_owned())
    }

    fn say_ticket(&mut self, ticket: &UcxTicket) -> Result<(), Failure> {
        let hex: String = ticket.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.say(&hex)
    }

    fn hear_ticket(&mut self) -> Result<UcxTicket, Failure> {
        let text = self.hear()?;
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
        Ok(UcxTicket(pairs.map(byte).collect::<Result<_, Failure>>()?))
    }
}

/// One end, with a lane each way.
struct End<T: Transport> {
    transport: T,
    tx: Sender<T>,
    rx: Receiver<T>,
}

impl End<Ucx> {
    fn ucx<R: BufRead, W: Write>(wire: &mut Wire<R, W>, is_first: bool) -> Result<Self, Failure> {
        let transport = Ucx::open(&UcxOptions::default())?;
        let (offer, ticket) = Sender::offer(&transport, SPEC)?;
        wire.say_ticket(&ticket)?;
        let (rx, credit) = Receiver::accept(&transport, wire.hear_ticket()?, SPEC)?;
        wire.say_ticket(&credit)?;
        let tx = offer.complete(&transport, wire.hear_ticket()?)?;
        let mut end = Self { transport, tx, rx };
        end.open(is_first)?;
        Ok(end)
    }
}

impl End<Shm> {
    fn shm<R: BufRead, W: Write>(wire: &mut Wire<R, W>, is_first: bool) -> Result<Self, Failure> {
        let (tx, rx) =
            if is_first { (met(wire)?, opened(wire)?) } else { swap(opened(wire)?, met(wire)?) };
        let mut end = Self { transport: Shm, tx, rx };
        end.open(is_first)?;
        Ok(end)
    }
}

fn swap<A, B>(a: A, b: B) -> (B, A) {
    (b, a)
}

fn met<R: BufRead, W: Write>(wire: &mut Wire<R, W>) -> Result<Sender<Shm>, Failure> {
    Ok(meet(&wire.hear()?, SPEC, b"", WITHIN)?.sender)
}

fn opened<R: BufRead, W: Write>(wire: &mut Wire<R, W>) -> Result<Receiver<Shm>, Failure> {
    let name = format!("zepto-lanes-{}", std::process::id());
    let mut door = Door::bind(&name)?;
    wire.say(&name)?;
    let knock = door.accept(WITHIN)?.ok_or("nobody knocked")?;
    Ok(knock.accept(&Bell::new()?, b"")?.receiver)
}

impl<T: Transport> End<T> {
    /// Waits until both lanes are open at both ends.
    fn open(&mut self, is_first: bool) -> Result<(), Failure> {
        if is_first {
            self.send(1);
        }
        self.take(1)?;
        if !is_first {
            self.send(1);
        }
        Ok(())
    }

    fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.tx.push(&[self.tx.head(); 8]).expect("room");
        }
        // Nobody sleeps here.
        let _rung = self.tx.publish();
    }

    fn poll(&mut self) -> Result<u64, Failure> {
        self.transport.progress();
        let settled = self.tx.poll()?.settled;
        self.tx.release(settled);
        Ok(self.rx.poll()?)
    }

    fn take(&mut self, mut count: u64) -> Result<(), Failure> {
        while count > 0 {
            let available = self.poll()?.min(count);
            for index in self.rx.consumed()..self.rx.consumed() + available {
                std::hint::black_box(self.rx.slot(index));
            }
            self.rx.consume(available);
            self.rx.settle(self.rx.consumed());
            self.rx.publish();
            count -= available;
        }
        Ok(())
    }

    /// Half a round trip of so many slots, ns.
    fn one_way(&mut self, slots: u64, rounds: usize) -> Result<f64, Failure> {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let begun = now();
            self.send(slots);
            self.take(slots)?;
            times.push(begun.elapsed());
        }
        times.sort();
        Ok(times[rounds / 2].as_nanos() as f64 / 2.0)
    }

    /// Slots per second until they are settled, in millions.
    fn stream(&mut self, slots: u64) -> Result<f64, Failure> {
        let (begun, end) = (now(), self.tx.head() + slots);
        while self.tx.cursors().settled < end {
            while self.tx.head() < end && self.tx.push(&[self.tx.head(); 8]).is_ok() {}
            let _rung = self.tx.publish();
            // What comes back is taken all the while.
            let available = self.poll()?;
            self.take(available)?;
        }
        Ok(slots as f64 / begun.elapsed().as_secs_f64() / 1e6)
    }

    fn echo(&mut self) -> Result<(), Failure> {
        loop {
            let count = self.poll()?.min(self.tx.room());
            if count > 0 {
                self.send(count);
                self.take(count)?;
            }
        }
    }

    fn measure(&mut self, name: &str, rounds: usize) -> Result<(), Failure> {
        self.take(0)?;
        let (one, many) = (self.one_way(1, rounds)?, self.one_way(64, rounds)?);
        let streamed = self.stream(rounds as u64 * 50)?;
        println!("{name} {one:.0} {many:.0} {streamed:.2}");
        Ok(())
    }
}

fn run(transport: &str) -> Result<(), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([transport, ECHO]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("no pipes".into());
    };
    let done = measure(transport, stdin, stdout);
    child.kill()?;
    child.wait()?;
    done
}

fn measure(transport: &str, stdin: ChildStdin, stdout: ChildStdout) -> Result<(), Failure> {
    let mut wire = Wire(std::io::BufReader::new(stdout), stdin);
    if transport == "shm" {
        return End::shm(&mut wire, true)?.measure("shm", 200_000);
    }
    let lanes = std::env::var("UCX_TLS").unwrap_or_else(|_| "all".into());
    let rounds = if lanes == "tcp" { 20_000 } else { 200_000 };
    End::ucx(&mut wire, true)?.measure(&format!("ucx:{lanes}"), rounds)
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut wire = Wire(stdin().lock(), stdout().lock());
    match arguments.as_slice() {
        ["shm", ECHO] => End::shm(&mut wire, false)?.echo(),
        ["ucx", ECHO] => End::ucx(&mut wire, false)?.echo(),
        [transport @ ("shm" | "ucx")] => {
            drop(wire);
            run(transport)
        }
        _ => Err("usage: lanes shm | lanes ucx".into()),
    }
}
