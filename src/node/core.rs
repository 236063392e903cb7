//! One core: the only place where a driver and an engine meet.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pangea_base::file::{FileId, FileOp, FileRequest};
use pangea_base::{CoreId, UnixTime};
use pangea_engine::limits::PARCELS_MAX;
use pangea_engine::message::Message;
use pangea_engine::{Engine, Input, Output};
use pangea_mesh::{Ends, Full, Readiness};
use pangea_reactor::{Driver, Ecn, Event, Park, Transmit};
use pangea_trace::Hop;

/// What goes over the mesh between cores and control.
pub(crate) enum Parcel {
    /// For, or from, an engine; what it belongs to goes along.
    Message(Box<Message>, Hop),
    /// A user's file for this core's driver; answered with `Adopted`.
    Adopt(File),
    /// The number of an adopted file on the core that answers.
    Adopted(FileId),
    /// An adopted file is done with.
    Release(FileId),
    /// Stop at once: nothing is flushed, nobody is told.
    Abort,
}

/// A core's figures, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) shards: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// Trains sent before the core looks for input again.
const TRAINS_PER_TURN: usize = 64;
/// A core that had nothing to do for this long gives memory back.
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// The token of operations of this file, which belong to no engine.
const OWN_TOKEN: u64 = u64::MAX;

/// A core's thread's whole state.
pub(crate) struct Core {
    engine: Engine,
    driver: Driver,
    ends: Ends<Parcel>,
    // What a full ring or a full driver refused; tried again every turn.
    parcels: VecDeque<(CoreId, Parcel)>,
    files: VecDeque<FileRequest>,
    figures: Arc<Figures>,
    active_at: Instant,
    trimmed: bool,
}

impl Core {
    pub(crate) fn new(
        engine: Engine,
        driver: Driver,
        mut ends: Ends<Parcel>,
        figures: Arc<Figures>,
    ) -> Core {
        ends.parking().connect(driver.waker());
        Core {
            engine,
            driver,
            ends,
            parcels: VecDeque::new(),
            files: VecDeque::new(),
            figures,
            active_at: Instant::now(),
            trimmed: false,
        }
    }

    /// Runs until it is closed or aborted. Err: the driver failed. Never inlined, so that the loop
    /// has a name of its own in profiles and in the proof of tools/zero-cost.
    #[inline(never)]
    pub(crate) fn run(mut self) -> Result<(), String> {
        loop {
            let now = Instant::now();
            let Some(mut busy) = self.receive(now) else { return Ok(()) };
            self.answer(now);
            busy |= self.engine.turn(now, wall());
            self.hand_out();
            busy |= self.transmit(now);
            if self.engine.is_closed() && self.parcels.is_empty() && !busy {
                self.ends.flush();
                return Ok(());
            }
            self.publish();
            self.wait(now, busy)?;
        }
    }

    /// Takes in what other threads sent. None: stop at once.
    fn receive(&mut self, now: Instant) -> Option<bool> {
        let mut any = false;
        while let Some((from, parcel)) = self.ends.receive() {
            any = true;
            match parcel {
                Parcel::Message(message, hop) => {
                    self.engine.handle(now, wall(), Input::Mesh(from, *message, hop));
                }
                Parcel::Adopt(file) => {
                    let adopted = Parcel::Adopted(self.driver.adopt(file));
                    self.parcels.push_back((from, adopted));
                }
                Parcel::Release(file) => {
                    let op = FileOp::Close { file };
                    self.files.push_back(FileRequest { token: OWN_TOKEN, op, page: None });
                }
                Parcel::Abort => return None,
                Parcel::Adopted(_) => unreachable!("only control adopts"),
            }
        }
        Some(any)
    }

    /// Sends small answers while the rest of what came is handled.
    fn answer(&mut self, now: Instant) {
        while self.engine.answer(now, wall()) {
            self.transmit(now);
            self.driver.flush();
        }
    }

    /// Carries the engine's outputs to the driver and the mesh.
    fn hand_out(&mut self) {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::File(request) => self.files.push_back(request),
                Output::Mesh(addressed) => {
                    let parcel = Parcel::Message(Box::new(addressed.message), addressed.hop);
                    self.parcels.push_back((addressed.to, parcel));
                }
            }
        }
        while let Some(request) = self.files.pop_front() {
            if let Err(refused) = self.driver.submit(request) {
                self.files.push_front(refused);
                break;
            }
        }
        debug_assert!(self.parcels.len() <= PARCELS_MAX, "{} messages wait", self.parcels.len());
        // Order is kept to every receiver: the first that is refused holds back the rest.
        while let Some((to, parcel)) = self.parcels.pop_front() {
            if let Err(Full(parcel)) = self.ends.send(to, parcel) {
                self.parcels.push_front((to, parcel));
                break;
            }
        }
        self.ends.flush();
    }

    /// Sends what the engine has to send. True: there is more.
    fn transmit(&mut self, now: Instant) -> bool {
        for _ in 0..TRAINS_PER_TURN {
            // No buffer: all are in flight, and the driver says when one is back.
            let Some(mut buffer) = self.driver.buffer() else { return false };
            let Some(meta) = self.engine.transmit(now, &mut buffer) else {
                self.driver.recycle(buffer);
                return false;
            };
            let ecn = meta.ecn.and_then(Ecn::from_bits);
            let transmit = Transmit {
                dst: meta.dst,
                src_ip: meta.src_ip,
                ecn,
                segment: meta.segment,
                train: meta.train,
            };
            self.driver.send(transmit, buffer);
        }
        true
    }

    fn wait(&mut self, now: Instant, busy: bool) -> Result<(), String> {
        let ready = busy || self.ends.prepare() == Readiness::Work;
        let (park, deadline) = match ready {
            true => (Park::Never, None),
            false => (Park::Block, self.deadline(now)),
        };
        let mut any = false;
        let (engine, driver) = (&mut self.engine, &mut self.driver);
        let mut clock = None;
        let polled = driver.poll(deadline, park, &mut |event| {
            any = true;
            // One reading of the clock serves the whole batch.
            let (now, wall) = *clock.get_or_insert_with(|| (Instant::now(), wall()));
            match event {
                Event::Datagrams { remote, local_ip, ecn, stride, data } => {
                    let ecn = ecn.map(Ecn::bits);
                    let input = Input::Datagrams { remote, local_ip, ecn, stride, data };
                    engine.handle(now, wall, input);
                }
                Event::Unreachable { remote, what } => {
                    engine.handle(now, wall, Input::Unreachable(remote, what));
                }
                Event::File(done) if done.token == OWN_TOKEN => {}
                Event::File(done) => engine.handle(now, wall, Input::File(done)),
                Event::SendReady | Event::Woken => {}
            }
        });
        if !ready {
            self.ends.awake();
        }
        if any || busy {
            self.active_at = now;
            self.trimmed = false;
        }
        polled.map_err(|error| format!("the driver failed: {error}"))
    }

    /// When to wake at the latest; a core that has gone idle gives its memory back once.
    fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let idle_at = self.active_at + IDLE_AFTER;
        if !self.trimmed && idle_at <= now {
            self.trimmed = true;
            self.engine.trim();
            pangea_base::release_free_memory();
        }
        let trim_at = (!self.trimmed).then_some(idle_at);
        // What was refused is tried again soon: its receiver may not know to wake us.
        let retry_at = (!self.parcels.is_empty()).then(|| now + Duration::from_millis(1));
        [self.engine.deadline(), trim_at, retry_at].into_iter().flatten().min()
    }

    fn publish(&self) {
        let engine = self.engine.stats();
        let driver = self.driver.stats();
        let set = |figure: &AtomicU64, value: u64| figure.store(value, Ordering::Relaxed);
        set(&self.figures.shards, engine.shards);
        set(&self.figures.bytes, engine.bytes);
        set(&self.figures.connections, engine.connections);
        set(&self.figures.requests, engine.requests);
        set(&self.figures.refused, engine.refused);
        set(&self.figures.received_bytes, driver.received_bytes);
        set(&self.figures.sent_bytes, driver.sent_bytes);
    }
}

/// The wall clock, for leases.
pub(crate) fn wall() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}
