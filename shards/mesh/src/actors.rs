//! Who plays the driver and the engine in the models and the schedules.

use std::sync::Arc;

use pangea_base::{CoreId, Wake};

use crate::ends::{Ends, Readiness};
use crate::sync::{Condvar, Mutex};

/// In place of an eventfd and the driver that waits for it: remembers a wake until it is waited
/// for. There is no time-out, so a wake that is lost is a thread that never goes on, which both
/// loom and shuttle report as a deadlock.
pub(crate) struct Alarm {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Alarm {
    pub(crate) fn new() -> Arc<Alarm> {
        Arc::new(Alarm { rung: Mutex::new(false), changed: Condvar::new() })
    }

    pub(crate) fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Alarm {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// In place of an engine: sends `0..count` to each other thread, keeping what was refused, and
/// takes in until it has `expected` values; sleeps whenever there is nothing to do. Values from
/// each thread must arrive complete and in order.
pub(crate) fn run_engine(ends: &mut Ends<u32>, alarm: &Alarm, count: u32, expected: u32) {
    let cores = ends.cores();
    let mut sent = vec![0; cores];
    let mut received = vec![0; cores];
    sent[ends.own().index()] = count;
    while sent.iter().any(|&n| n < count) || received.iter().sum::<u32>() < expected {
        while let Some((source, value)) = ends.receive() {
            assert_eq!(value, received[source.index()], "lost, repeated or out of order");
            received[source.index()] += 1;
        }
        for (target, next) in sent.iter_mut().enumerate() {
            while *next < count && ends.send(CoreId(target as u8), *next).is_ok() {
                *next += 1;
            }
        }
        if sent.iter().all(|&n| n == count) && received.iter().sum::<u32>() == expected {
            break;
        }
        if ends.prepare() == Readiness::Sleep {
            alarm.wait();
        }
        ends.awake();
    }
    ends.flush();
}
