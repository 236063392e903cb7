//! The loop of a core as src/node/core.rs has it, over shuttle's threads: take in what the mesh
//! brought, one turn of the machine, hand out until the first refusal, flush, prepare, sleep, awake.
//!
//! Two things differ. There is no clock: what is refused is not tried again after a millisecond,
//! so the mesh's own word that there is room has to be enough. And every parcel has a number, so
//! that one which is lost, repeated or out of order is noticed where it arrives.

use std::collections::VecDeque;
use std::sync::Arc;

use pangea_base::{CoreId, Wake};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::actors::Alarm;
use crate::ends::{Ends, Readiness};
use crate::ring::Full;

/// What a core runs: an engine, or what stands for one.
pub(crate) trait Machine {
    type Message: Send + 'static;

    /// Takes in what another thread sent.
    fn handle(&mut self, from: CoreId, message: Self::Message);
    /// True: there is more to do at once.
    fn turn(&mut self) -> bool;
    /// What it wants sent, oldest first.
    fn poll(&mut self) -> Option<(CoreId, Self::Message)>;
    /// Takes in the events of its driver, after a wait or instead of one.
    fn events(&mut self) {}
    /// Whether its driver has events already.
    fn has_events(&self) -> bool {
        false
    }
    /// Waits in its driver.
    fn wait(&mut self, alarm: &Alarm) {
        alarm.wait();
    }
    /// What ends that wait.
    fn waker(&self, alarm: &Arc<Alarm>) -> Arc<dyn Wake> {
        alarm.clone()
    }
    /// Nothing is left to do for ever.
    fn is_closed(&self) -> bool;
}

/// A message with its number among those of its pair of threads.
pub(crate) struct Parcel<T> {
    number: u32,
    message: T,
}

/// What went over the mesh at one thread, by number of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) sent: Vec<u32>,
    pub(crate) received: Vec<u32>,
}

/// Runs a machine until it is closed.
pub(crate) fn run<M: Machine>(
    machine: &mut M,
    ends: &mut Ends<Parcel<M::Message>>,
    alarm: &Arc<Alarm>,
) -> Traffic {
    ends.parking().connect(machine.waker(alarm));
    let cores = ends.cores();
    let mut traffic = Traffic { sent: vec![0; cores], received: vec![0; cores] };
    let mut parcels = VecDeque::new();
    loop {
        while let Some((from, Parcel { number, message })) = ends.receive() {
            let expected = &mut traffic.received[from.index()];
            assert_eq!(number, *expected, "lost, repeated or out of order");
            *expected += 1;
            machine.handle(from, message);
        }
        let busy = machine.turn();
        hand_out(machine, ends, &mut parcels, &mut traffic);
        if machine.is_closed() && parcels.is_empty() && !busy {
            ends.flush();
            return traffic;
        }
        let ready = busy || machine.has_events() || ends.prepare() == Readiness::Work;
        if !ready {
            machine.wait(alarm);
        }
        machine.events();
        if !ready {
            ends.awake();
        }
    }
}

fn hand_out<M: Machine>(
    machine: &mut M,
    ends: &mut Ends<Parcel<M::Message>>,
    parcels: &mut VecDeque<(CoreId, Parcel<M::Message>)>,
    traffic: &mut Traffic,
) {
    while let Some((to, message)) = machine.poll() {
        let next = &mut traffic.sent[to.index()];
        parcels.push_back((to, Parcel { number: *next, message }));
        *next += 1;
    }
    // Order is kept to every receiver: the first that is refused holds back the rest.
    while let Some((to, parcel)) = parcels.pop_front() {
        if let Err(Full(parcel)) = ends.send(to, parcel) {
            parcels.push_front((to, parcel));
            break;
        }
    }
    ends.flush();
}

/// Whatever one sent the other has received. In order of the threads' numbers.
pub(crate) fn assert_nothing_lost(traffic: &[Traffic]) {
    for (at, one) in traffic.iter().enumerate() {
        let theirs: Vec<u32> = traffic.iter().map(|other| other.received[at]).collect();
        assert_eq!(one.sent, theirs, "what thread {at} sent did not all arrive");
    }
}

/// `few`, or as many as PANGEA_SCHEDULES says.
pub(crate) fn schedules(few: usize) -> usize {
    match std::env::var("PANGEA_SCHEDULES") {
        Ok(said) => said.parse().expect("PANGEA_SCHEDULES is a number"),
        Err(_) => few,
    }
}

/// Half of `count` orders at random, half by PCT with three changes of priority, each thread on a
/// stack of this size; says how fast.
pub(crate) fn explore(
    name: &str,
    count: usize,
    stack_bytes: usize,
    scenario: impl Fn() + Send + Sync + Clone + 'static,
) {
    let begun = std::time::Instant::now();
    let half = count.div_ceil(2);
    let mut config = Config::new();
    config.stack_size = stack_bytes;
    Runner::new(RandomScheduler::new(half), config.clone()).run(scenario.clone());
    Runner::new(PctScheduler::new(3, half), config).run(scenario);
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{name}: {} orders in {took:.1} s, {:.0} a second",
        2 * half,
        2.0 * half as f64 / took
    );
}
