//! The client's side of every test, for peers whose interface is asynchronous, on tokio.

use std::rc::Rc;
use std::time::Instant;

use crate::{
    FIRST_CONNECTIONS, Latency, MESSAGE_BYTES, Outcome, Record, Run, SETTLE, Server, Test, on_core,
    request,
};

/// What a peer can do.
#[allow(async_fn_in_trait)]
pub trait Peer: 'static {
    type Connection: 'static;

    async fn connect(&self) -> Outcome<Self::Connection>;

    /// Sends on one stream until then, and has the server count. How many bytes it says it got.
    async fn upload(connection: &Self::Connection, until: Instant) -> Outcome<u64>;

    /// A request and its answer on a fresh stream.
    async fn echo(connection: &Self::Connection, message: &[u8; MESSAGE_BYTES]) -> Outcome<()>;

    /// The same in a datagram each way.
    async fn datagram(connection: &Self::Connection, message: &[u8; MESSAGE_BYTES]) -> Outcome<()>;

    fn close(connection: Self::Connection);
}

/// Runs `work` on a runtime of its own on one core.
pub fn block_on<T>(core: usize, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    on_core(core);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Measures what `run` says, and prints it.
pub async fn measure<P: Peer>(run: &Run, server: &mut Server, peer: P) -> Outcome<()> {
    let peer = Rc::new(peer);
    match run.test {
        Test::Bulk => bulk(run, server, &*peer).await,
        Test::Rtt | Test::Datagram => round_trips(run, server, &*peer).await,
        Test::Rate => rate(run, server, &*peer).await,
        Test::Handshakes => handshakes(run, server, peer).await,
        Test::Memory => memory(run, server, &*peer).await,
    }
}

async fn bulk<P: Peer>(run: &Run, server: &mut Server, peer: &P) -> Outcome<()> {
    let connection = Rc::new(peer.connect().await?);
    P::upload(&connection, Instant::now() + run.warm_up).await?;
    let record = Record::begin(server)?;
    let until = Instant::now() + run.seconds;
    let uploads = together(run.streams, |_| {
        let connection = connection.clone();
        async move { P::upload(&connection, until).await }
    });
    let bytes = uploads.await?.into_iter().sum();
    record.bulk(server, bytes)
}

async fn round_trips<P: Peer>(run: &Run, server: &mut Server, peer: &P) -> Outcome<()> {
    let connection = peer.connect().await?;
    let mut latency = Latency::default();
    let mut record = Record::begin(server)?;
    let warm_up = run.count / 20;
    for number in 0..warm_up + run.count {
        if number == warm_up {
            latency = Latency::default();
            record = Record::begin(server)?;
        }
        let message = request(number as u64);
        let began = Instant::now();
        match run.test {
            Test::Datagram => P::datagram(&connection, &message).await?,
            _ => P::echo(&connection, &message).await?,
        }
        latency.add(began.elapsed());
    }
    record.operations(server, &latency)
}

async fn rate<P: Peer>(run: &Run, server: &mut Server, peer: &P) -> Outcome<()> {
    let connection = Rc::new(peer.connect().await?);
    requests::<P>(run.inflight, &connection, Instant::now() + run.warm_up).await?;
    let record = Record::begin(server)?;
    let latency = requests::<P>(run.inflight, &connection, Instant::now() + run.seconds).await?;
    record.operations(server, &latency)
}

async fn requests<P: Peer>(
    inflight: usize,
    connection: &Rc<P::Connection>,
    until: Instant,
) -> Outcome<Latency> {
    let lanes = together(inflight, |lane| {
        let connection = connection.clone();
        async move {
            let mut latency = Latency::default();
            let mut number = (lane as u64) << 32;
            while Instant::now() < until {
                let began = Instant::now();
                P::echo(&connection, &request(number)).await?;
                latency.add(began.elapsed());
                number += 1;
            }
            Ok(latency)
        }
    });
    Ok(merged(&lanes.await?))
}

async fn handshakes<P: Peer>(run: &Run, server: &mut Server, peer: Rc<P>) -> Outcome<()> {
    for _ in 0..20 {
        P::close(peer.connect().await?);
    }
    let record = Record::begin(server)?;
    let until = Instant::now() + run.seconds;
    let lanes = together(run.inflight, |_| {
        let peer = peer.clone();
        async move {
            let mut latency = Latency::default();
            while Instant::now() < until {
                let began = Instant::now();
                let connection = peer.connect().await?;
                latency.add(began.elapsed());
                P::close(connection);
            }
            Ok(latency)
        }
    });
    record.operations(server, &merged(&lanes.await?))
}

async fn memory<P: Peer>(run: &Run, server: &mut Server, peer: &P) -> Outcome<()> {
    let mut connections = Vec::new();
    let record = Record::begin(server)?;
    let mut resident = [0.0; 2];
    for (more, resident) in [FIRST_CONNECTIONS, run.connections].into_iter().zip(&mut resident) {
        for _ in 0..more {
            connections.push(peer.connect().await?);
        }
        tokio::time::sleep(SETTLE).await;
        server.trim()?;
        *resident = server.usage()?.resident as f64;
    }
    record.memory(server, resident[1] - resident[0], run.connections)
}

/// Runs so many pieces of work side by side, and waits for all.
async fn together<T: 'static, W: Future<Output = Outcome<T>> + 'static>(
    count: usize,
    work: impl Fn(usize) -> W,
) -> Outcome<Vec<T>> {
    let spawn = |number| tokio::task::spawn_local(work(number));
    let mut results = Vec::with_capacity(count);
    for task in (0..count).map(spawn).collect::<Vec<_>>() {
        results.push(task.await??);
    }
    Ok(results)
}

fn merged(lanes: &[Latency]) -> Latency {
    let mut all = Latency::default();
    lanes.iter().for_each(|lane| all.merge(lane));
    all
}
