//! One instance that runs, and what it has in the outside world: timers, requests, sockets. All of
//! it ends with the instance.

use super::timers::Timers;
use super::worker::{self, Job, Spawn};
use crate::context::{Effect, Setting};
use crate::error::LoadError;
use crate::grant::UdpGrant;
use crate::http::{Part, Prepared, perform};
use crate::instance::{Fault, FaultKind};
use crate::kv::{Kv, replace};
use crate::loader::Loaded;
use crate::runner::{Delivery, Done, Opening, Runner, Tally};
use crate::vet::Answer;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zepto_core::env::Env;
use zepto_core::limits::{
    PLUGIN_HTTP_QUEUE_MAX, PLUGIN_HUNG_AFTER_MS, PLUGIN_QUEUE_MAX, PLUGIN_UDP_BYTES_MAX,
};

type Queue<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);
/// A datagram: the socket's token, the sender, the bytes.
type Datagram = (u64, SocketAddr, Vec<u8>);

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Task {
    /// Waits for its end, after which it holds nothing any more.
    async fn end(mut self) {
        self.0.abort();
        if let Err(error) = (&mut self.0).await
            && error.is_panic()
        {
            tracing::error!("a task of a plugin panicked");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the manager itself has to do after a delivery.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The plugin's status; nothing when the event was about what is given up already.
    pub status: Option<i32>,
    /// The token of the question, if it was one.
    pub question: Option<u64>,
    /// Answers about nodes, in order.
    pub answers: Vec<Answer>,
    /// Replies: token, status, bytes.
    pub replies: Vec<(u64, i32, Vec<u8>)>,
    /// The plugin's last words about it, if any.
    pub error: String,
    /// Time that the handler took, ns.
    pub took_ns: u64,
}

/// An instance that runs.
pub(super) struct Live {
    /// What it is an instance of.
    pub loaded: Loaded,
    /// Which instance of this process it is.
    pub generation: u32,
    setting: Setting,
    jobs: mpsc::Sender<Job>,
    wake: Arc<Notify>,
    timers: Timers,
    /// Whether the last event was a timer's: the others have their turn then.
    was_timer: bool,
    requests: BTreeMap<u64, Task>,
    sockets: BTreeMap<u64, (Arc<UdpSocket>, Task)>,
    parts: Queue<(u64, Part)>,
    datagrams: Queue<Datagram>,
    /// Sockets that could not be bound, and of which it was not told yet.
    gone: Vec<u64>,
    dropped: Arc<AtomicU64>,
    kv_path: PathBuf,
}

/// Where the kept values of a plugin are.
pub(super) fn kv_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.kv"))
}

impl Live {
    /// Opens an instance, on a thread of its own.
    pub async fn open(
        loaded: &Loaded,
        mut setting: Setting,
        generation: u32,
        (directory, kv): (&Path, Kv),
        (spawn, opening): (&Spawn, &Opening),
    ) -> Result<(Self, Outcome), LoadError> {
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        setting.waker = Arc::new(move || waker.notify_one());
        let (of, with) = (loaded.clone(), setting.clone());
        // Instantiating runs the start function, which may take its whole time.
        let made = tokio::task::spawn_blocking(move || Runner::new(&of, with, generation, kv));
        let runner = made.await.map_err(|error| LoadError::System(error.to_string()))??;
        let jobs = worker::start(spawn, &setting.name, runner);
        let jobs = jobs.map_err(|error| LoadError::System(format!("no thread: {error}")))?;
        let mut live = Self {
            loaded: loaded.clone(),
            generation,
            kv_path: kv_path(directory, &setting.name),
            jobs,
            wake,
            timers: Timers::default(),
            was_timer: false,
            requests: BTreeMap::new(),
            sockets: BTreeMap::new(),
            parts: mpsc::channel(PLUGIN_HTTP_QUEUE_MAX),
            datagrams: mpsc::channel(PLUGIN_QUEUE_MAX),
            gone: Vec::new(),
            dropped: Arc::default(),
            setting,
        };
        let within = live.setting.limits.open();
        let opening = opening.clone();
        let opened = live.ask(within, |reply| Job::Open(opening, reply)).await;
        let done = opened.map_err(|fault| LoadError::Open(fault.to_string()))??;
        let outcome = live.carry_out(done).await;
        Ok((live, outcome))
    }

    /// Has the thread do something, and waits so long for it.
    async fn ask<R>(
        &self,
        within: Duration,
        job: impl FnOnce(oneshot::Sender<R>) -> Job,
    ) -> Result<R, Fault> {
        let (reply, answer) = oneshot::channel();
        let within = within + Duration::from_millis(PLUGIN_HUNG_AFTER_MS);
        let asked = async {
            self.jobs.send(job(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(within, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Fault::new(FaultKind::Broken, "its thread has ended".into())),
            Err(_) => {
                let text = format!("no return within {} ms", within.as_millis());
                Err(Fault::new(FaultKind::Hung, text))
            }
        }
    }

    /// Delivers an event, and does what the handler asked for.
    pub async fn deliver(&mut self, delivery: Delivery) -> Result<Outcome, Fault> {
        let within = delivery.within(&self.setting.limits);
        let done = self.ask(within, |reply| Job::Deliver(delivery, reply)).await??;
        Ok(self.carry_out(done).await)
    }

    /// What its host's side counts.
    pub async fn tally(&self) -> Option<Tally> {
        self.ask(self.setting.limits.event, Job::Tally).await.ok()
    }

    /// Datagrams that were dropped because it was behind.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Nobody waits for the reply to a question any more.
    pub async fn forget_question(&self, token: u64) {
        // A thread that is gone has forgotten.
        drop(self.jobs.send(Job::ForgetQuestion(token)).await);
    }

    /// Ends what it has in the outside world, so that another one may bind the same sockets. It may
    /// be started again.
    pub async fn silence(&mut self) {
        // A thread that is gone counts nothing any more.
        drop(self.jobs.send(Job::Silence).await);
        self.timers = Timers::default();
        self.requests.clear();
        for (_, (socket, task)) in core::mem::take(&mut self.sockets) {
            drop(socket);
            task.end().await;
        }
        self.gone.clear();
        self.parts = mpsc::channel(PLUGIN_HTTP_QUEUE_MAX);
        self.datagrams = mpsc::channel(PLUGIN_QUEUE_MAX);
    }

    /// Closes it; what it kept is kept already.
    pub async fn close(mut self) {
        self.silence().await;
        let within = self.setting.limits.event;
        let closed = self.ask(within, |reply| Job::Close(within, reply)).await;
        if let Err(fault) = closed {
            tracing::warn!(plugin = self.setting.name, %fault, "it did not close");
        }
    }

    /// The next event from its timers, requests, sockets and threads. Cancel-safe.
    pub async fn next(&mut self, env: &Arc<dyn Env>) -> Delivery {
        loop {
            if let Some(token) = self.gone.pop() {
                return Delivery::socket_failed(token);
            }
            if core::mem::take(&mut self.was_timer)
                && let Some(waiting) = self.waiting()
            {
                return waiting;
            }
            let now = env.now();
            if let Some((id, repeats)) = self.timers.pop(now) {
                self.was_timer = true;
                return Delivery::timer(id, repeats);
            }
            let due = self.timers.next().map(|due| due.0.saturating_sub(now.0));
            let pause = Duration::from_nanos(due.unwrap_or(u64::MAX)).min(LONGEST);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => return Delivery::wake(),
                // It holds a sender of each itself, so neither ends.
                Some((token, part)) = self.parts.1.recv() => return Delivery::http(token, &part),
                Some((token, from, bytes)) = self.datagrams.1.recv() => {
                    return Delivery::datagram(token, &from.to_string(), &bytes);
                }
            }
        }
    }

    /// What came in already.
    fn waiting(&mut self) -> Option<Delivery> {
        if let Ok((token, part)) = self.parts.1.try_recv() {
            return Some(Delivery::http(token, &part));
        }
        let (token, from, bytes) = self.datagrams.1.try_recv().ok()?;
        Some(Delivery::datagram(token, &from.to_string(), &bytes))
    }

    async fn carry_out(&mut self, done: Done) -> Outcome {
        if let Some(bytes) = done.kept {
            self.keep(bytes).await;
        }
        let Done { status, question, error, took_ns, effects, .. } = done;
        let mut outcome = Outcome { status, question, error, took_ns, ..Outcome::default() };
        for effect in effects {
            match effect {
                Effect::Nodes(answer) => outcome.answers.push(answer),
                Effect::Reply { token, status, bytes } => {
                    outcome.replies.push((token, status, bytes));
                }
                Effect::Timer { id, delay_ns, period_ns } => {
                    self.timers.set(id, self.setting.env.now(), delay_ns, period_ns);
                }
                Effect::Cancel(token) => {
                    self.timers.cancel(token);
                    self.requests.remove(&token);
                    if let Some((socket, task)) = self.sockets.remove(&token) {
                        drop(socket);
                        task.end().await;
                    }
                }
                Effect::Http { token, request } => self.request(token, request),
                Effect::Bind { token, address, grant } => self.bind(token, address, grant).await,
                Effect::Send { token, to, bytes } => self.send(token, to, &bytes),
            }
        }
        outcome
    }

    /// Writes what it keeps. A disk that fails is the operator's to mend; the plugin goes on.
    async fn keep(&self, bytes: Vec<u8>) {
        let path = self.kv_path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
        let error = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let path = self.kv_path.display();
        tracing::error!(plugin = self.setting.name, %path, error, "what it keeps is not written");
    }

    fn request(&mut self, token: u64, request: Box<Prepared>) {
        self.requests.retain(|_, task| !task.0.is_finished());
        let queue = self.parts.0.clone();
        let task = tokio::spawn(async move { perform(&request, token, &queue).await });
        self.requests.insert(token, Task(task));
    }

    async fn bind(&mut self, token: u64, address: SocketAddr, grant: UdpGrant) {
        let socket = match UdpSocket::bind(address).await {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                tracing::error!(plugin = self.setting.name, %address, %error, "cannot bind");
                self.gone.push(token);
                return;
            }
        };
        // A new socket is known to be writable only once the system has said so, and the plugin may
        // send with what it asked for together with this.
        if timeout(WRITABLE_WITHIN, socket.writable()).await.is_err() {
            tracing::debug!(plugin = self.setting.name, %address, "not writable yet");
        }
        let (receiver, queue) = (Arc::clone(&socket), self.datagrams.0.clone());
        let dropped = Arc::clone(&self.dropped);
        let task = tokio::spawn(async move {
            let mut buffer = [0; PLUGIN_UDP_BYTES_MAX + 1];
            loop {
                // An error is about one datagram that was sent before: its receiver is not there.
                let Ok((length, from)) = receiver.recv_from(&mut buffer).await else { continue };
                let fits = length <= PLUGIN_UDP_BYTES_MAX && grant.allows_peer(from.ip());
                let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                if !fits || queue.try_send((token, from, bytes)).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        self.sockets.insert(token, (socket, Task(task)));
    }

    /// Datagrams may be lost; so may these.
    fn send(&self, token: u64, to: SocketAddr, bytes: &[u8]) {
        let Some((socket, _)) = self.sockets.get(&token) else { return };
        if let Err(error) = socket.try_send_to(bytes, to) {
            tracing::debug!(plugin = self.setting.name, %to, %error, "datagram not sent");
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Time for the system to say that a new socket can be written to.
const WRITABLE_WITHIN: Duration = Duration::from_millis(100);
/// Longest sleep without a look at the timers.
const LONGEST: Duration = Duration::from_secs(3600);
