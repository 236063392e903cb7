//! Starting and stopping the cores of a node or a client, and talking with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pangea_base::{CoreId, Entropy, Identity, PagePool, Wake};
use pangea_engine::message::{Command, Message, Report};
use pangea_engine::{Accept, Engine, EngineConfig};
use pangea_mesh::{Ends, Full};
use pangea_reactor::{Bound, CoreSocket, Driver, DriverConfig, DriverKind};
use pangea_store::{Store, StoreConfig};
use pangea_trace::{Hop, Tracer};
use pangea_transport::{Limits, TlsCrypto};

use super::core::{Core, Figures, Parcel, wall};
use super::{CoreOptions, Pinning, StartFailed};

/// What the cores are to be.
pub(crate) struct CoresSpec {
    pub(crate) identity: Identity,
    pub(crate) bind: SocketAddr,
    pub(crate) options: CoreOptions,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) capacity_bytes: u64,
    pub(crate) accept: Accept,
    /// Bytes of 16 KiB unit pages per core.
    pub(crate) unit_bytes: u64,
    /// 128 KiB plaintext pages per core.
    pub(crate) segment_pages: u32,
}

/// Running cores, as control sees them.
pub(crate) struct Cores {
    pub(crate) ends: Ends<Parcel>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) figures: Vec<Arc<Figures>>,
    pub(crate) bound: SocketAddr,
    pub(crate) steer: pangea_reactor::Steer,
    pub(crate) driver: DriverKind,
    pub(crate) driver_why: String,
    /// One for each core, and the last for control.
    #[cfg(feature = "trace")]
    pub(crate) logs: Vec<pangea_trace::EventLog>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

/// Capacity of each ring of the mesh.
const MESH_SLOTS: usize = 1024;
/// 64 KiB pages of the store, per core.
const STORE_PAGES: u32 = 128;
/// Send slots of a core: trains in flight to the system.
const SEND_SLOTS: u16 = 32;
/// How long closing may take before the cores are left to themselves.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Wakes control.
#[derive(Default)]
pub(crate) struct Signal {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Signal {
    /// Waits until it is rung, at most so long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(rung, at_most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Wake for Signal {
    fn wake(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }
}

/// What control hears.
pub(crate) enum Heard {
    Report(Report),
    Adopted(CoreId, pangea_base::file::FileId),
}

impl Cores {
    /// Binds the port and starts every core. Returns once every driver is open.
    pub(crate) fn start(spec: CoresSpec) -> Result<Cores, StartFailed> {
        let count = spec.options.cores.max(1);
        let Bound { sockets, local, steer } =
            pangea_reactor::bind(spec.bind, count, spec.options.steer)
                .map_err(|error| bind_failed(spec.bind, &error))?;
        let mut ends = pangea_mesh::mesh(count + 1, MESH_SLOTS);
        let mut control = ends.pop().expect("one end is control's");
        let signal = Arc::new(Signal::default());
        control.parking().connect(signal.clone());
        let figures: Vec<Arc<Figures>> = (0..count).map(|_| Arc::default()).collect();
        let shared = Arc::new(Blueprint::new(spec, count)?);
        let (opened, openings) = mpsc::channel();
        let mut threads = Vec::new();
        for (number, (socket, ends)) in sockets.into_iter().zip(ends).enumerate() {
            let (shared, figures, opened) =
                (shared.clone(), figures[number].clone(), opened.clone());
            let core = CoreId(u8::try_from(number).expect("at most 128 cores"));
            let run = move || {
                let built = shared.core(core, socket, ends, figures);
                match built {
                    Ok((core, kind, why)) => {
                        let _ = opened.send(Ok((kind, why)));
                        drop(opened);
                        core.run()
                    }
                    Err(failed) => {
                        let text = failed.to_string();
                        let _ = opened.send(Err(failed));
                        Err(text)
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("core-{number}")).spawn(run);
            threads.push(thread.map_err(|e| StartFailed::Other(format!("no thread: {e}")))?);
        }
        drop(opened);
        let mut driver = None;
        for _ in 0..count {
            let opening = openings.recv().map_err(|_| {
                StartFailed::Other("a core stopped while it was starting".to_owned())
            })?;
            driver = Some(opening?);
        }
        let (driver, driver_why) = driver.expect("there is at least one core");
        Ok(Cores {
            #[cfg(feature = "trace")]
            logs: shared.logs.clone(),
            ends: control,
            signal,
            figures,
            bound: local,
            steer,
            driver,
            driver_why,
            threads,
        })
    }

    pub(crate) fn count(&self) -> u8 {
        u8::try_from(self.figures.len()).expect("at most 128 cores")
    }

    /// Gives a core a parcel, waiting for room if its ring is full.
    pub(crate) fn send(&mut self, to: CoreId, mut parcel: Parcel) {
        while let Err(Full(refused)) = self.ends.send(to, parcel) {
            if self.stopped() {
                return;
            }
            parcel = refused;
            self.ends.flush();
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    pub(crate) fn command(&mut self, to: CoreId, command: Command) {
        let message = Box::new(Message::Command(command));
        self.send(to, Parcel::Message(message, Hop::default()));
    }

    /// The next thing that a core says, waiting at most so long.
    pub(crate) fn hear(&mut self, at_most: Duration) -> Option<Heard> {
        if let Some(heard) = self.take() {
            return Some(heard);
        }
        if self.ends.prepare() == pangea_mesh::Readiness::Sleep {
            self.signal.wait(at_most);
        }
        self.ends.awake();
        self.take()
    }

    /// Whether any core has ended.
    pub(crate) fn stopped(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Stops in order: the store is flushed, peers are told.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        for core in 0..self.count() {
            self.command(CoreId(core), Command::Close);
        }
        self.ends.flush();
        let until = Instant::now() + CLOSE_TIMEOUT;
        while !self.threads.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            self.hear(Duration::from_millis(5));
        }
        self.join()
    }

    /// Stops at once.
    pub(crate) fn abort(&mut self) {
        let _ = self.join();
    }

    /// Why the cores ended, if one failed. What still runs is stopped at once.
    pub(crate) fn join(&mut self) -> Result<(), String> {
        for core in 0..self.threads.len() {
            if !self.threads[core].is_finished() {
                let to = CoreId(u8::try_from(core).expect("at most 128 cores"));
                // A full ring belongs to a core that no longer reads: it is ending by itself.
                let _ = self.ends.send(to, Parcel::Abort);
            }
        }
        self.ends.flush();
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread.join().unwrap_or_else(|_| Err("a core panicked".to_owned()));
            result = result.and(ended);
        }
        result
    }

    fn take(&mut self) -> Option<Heard> {
        while let Some((from, parcel)) = self.ends.receive() {
            match parcel {
                Parcel::Message(message, _) => {
                    if let Message::Report(report) = *message {
                        return Some(Heard::Report(report));
                    }
                }
                Parcel::Adopted(file) => return Some(Heard::Adopted(from, file)),
                Parcel::Adopt(_) | Parcel::Release(_) | Parcel::Abort => {}
            }
        }
        self.ends.flush();
        None
    }
}

/// What every core is built from.
struct Blueprint {
    identity: Arc<Identity>,
    options: CoreOptions,
    count: u8,
    data_dir: Option<PathBuf>,
    capacity_bytes: u64,
    accept: Accept,
    unit_bytes: u64,
    segment_pages: u32,
    seed: [u8; 32],
    // UDP payload to try for towards others, and towards this machine.
    mtu: (u16, u16),
    cpus: Vec<core_affinity::CoreId>,
    #[cfg(feature = "trace")]
    logs: Vec<pangea_trace::EventLog>,
}

impl Blueprint {
    fn new(spec: CoresSpec, count: usize) -> Result<Blueprint, StartFailed> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| StartFailed::Other(format!("no randomness: {error}")))?;
        let mtu = match spec.options.mtu_max {
            Some(mtu) => (mtu, mtu),
            None => super::mtu::largest(),
        };
        let cpus = match spec.options.pinning {
            Pinning::Pinned(ref cpus) => {
                cpus.iter().map(|&id| core_affinity::CoreId { id }).collect()
            }
            Pinning::Free => Vec::new(),
        };
        Ok(Blueprint {
            #[cfg(feature = "trace")]
            logs: super::record::logs(spec.identity.peer(), count, &seed, &spec.options.trace),
            identity: Arc::new(spec.identity),
            options: spec.options,
            count: u8::try_from(count)
                .map_err(|_| StartFailed::Other("more than 128 cores cannot be used".to_owned()))?,
            data_dir: spec.data_dir,
            capacity_bytes: spec.capacity_bytes,
            accept: spec.accept,
            unit_bytes: spec.unit_bytes,
            segment_pages: spec.segment_pages,
            seed,
            mtu,
            cpus,
        })
    }

    /// Builds a core, on its own thread.
    fn core(
        &self,
        core: CoreId,
        socket: CoreSocket,
        ends: Ends<Parcel>,
        figures: Arc<Figures>,
    ) -> Result<(Core, DriverKind, String), StartFailed> {
        if let Some(&cpu) = self.cpus.get(core.index()) {
            core_affinity::set_for_current(cpu);
        }
        let pinned = self.options.pinning != Pinning::Free;
        let config = DriverConfig {
            choice: self.options.driver,
            receive_buffers: self.options.receive_buffers,
            receive_buffers_max: if pinned { 512 } else { self.options.receive_buffers.max(64) },
            send_slots: SEND_SLOTS,
            spin: self.options.spin,
            data_dir: self.data_dir.clone(),
        };
        let mut driver = Driver::open(&config, socket)
            .map_err(|failed| StartFailed::Driver(failed.to_string()))?;
        let pages = PagePool::new(64 << 10, STORE_PAGES);
        if pinned && self.data_dir.is_some() {
            // Registered pages stay in memory for good: for a machine that the node has to itself.
            driver.register(&pages);
        }
        let store = self.data_dir.as_ref().map(|_| {
            let config = {
                let node = self.identity.peer();
                StoreConfig::new(core, self.count, node, self.capacity_bytes, wall())
            };
            Store::new(config, pages)
        });
        let gso = usize::from(driver.caps().max_gso_segments);
        let tracer = self.tracer(core);
        driver.trace(tracer.clone());
        let engine = self.engine(core, gso, store, tracer)?;
        let (kind, why) = (driver.kind(), driver.why().to_owned());
        Ok((Core::new(engine, driver, ends, figures), kind, why))
    }

    /// The core's place in the recorder; called once for each, on its thread.
    fn tracer(&self, core: CoreId) -> Tracer {
        #[cfg(feature = "trace")]
        return self.logs[core.index()].tracer().expect("each core asks once");
        #[cfg(not(feature = "trace"))]
        {
            let _ = core;
            Tracer::none()
        }
    }

    /// The application protocols that it speaks.
    fn alpn(&self) -> &'static [&'static [u8]] {
        #[cfg(feature = "trace")]
        if self.options.trace.context {
            return &[pangea_transport::ALPN_LABELLED, pangea_transport::ALPN];
        }
        &[pangea_transport::ALPN]
    }

    fn engine(
        &self,
        core: CoreId,
        gso_segments_max: usize,
        store: Option<Store>,
        tracer: Tracer,
    ) -> Result<Engine, StartFailed> {
        let derive = |what: &str| blake3::derive_key(what, self.identity.seed().expose());
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&[core.0]);
        let crypto = TlsCrypto::speaking(&self.identity, self.alpn())
            .map_err(|failed| StartFailed::Other(failed.to_string()))?;
        let transport = pangea_transport::Config {
            core,
            cores: self.count,
            mtu_max: self.mtu.0,
            mtu_loopback: Some(self.mtu.1),
            gso_segments_max,
            congestion: self.options.congestion,
            limits: Limits::STANDARD,
            // The same for all cores and after a restart, and known to nobody else.
            reset_key: derive("pangea 2026-11 v1 stateless reset"),
            token_key: derive("pangea 2026-11 v1 retry token"),
            time: wall(),
        };
        let units = u32::try_from(self.unit_bytes / (16 << 10)).unwrap_or(u32::MAX - 1).max(64);
        let config = EngineConfig {
            core,
            cores: self.count,
            identity: self.identity.clone(),
            entropy: Entropy::new(*hasher.finalize().as_bytes()),
            transport,
            crypto: Box::new(crypto),
            store,
            units: PagePool::new(16 << 10, units),
            segments: PagePool::new(128 << 10, self.segment_pages),
            capacity_bytes: self.capacity_bytes,
            accept: self.accept.clone(),
            tracer,
        };
        Ok(Engine::new(config, Instant::now(), wall()))
    }
}

fn bind_failed(addr: SocketAddr, error: &std::io::Error) -> StartFailed {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => StartFailed::PortInUse(addr),
        _ => StartFailed::Bind { addr, cause: error.to_string() },
    }
}
