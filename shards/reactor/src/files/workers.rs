//! A few threads that do blocking file operations, started when there is first something to do.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use pangea_base::Page;
use pangea_base::file::FileFault;

use super::blocking::{Outcome, Work, perform};
use crate::bell::Strike;

/// Enough for the deepest call here; the default of 2 MiB per thread is address space for nothing.
const STACK_BYTES: usize = 256 << 10;

/// An operation on its way.
pub(crate) struct Job {
    pub(crate) token: u64,
    pub(crate) work: Work,
    pub(crate) page: Option<Page>,
}

/// An operation that ended.
pub(crate) struct Finished {
    pub(crate) token: u64,
    pub(crate) page: Option<Page>,
    pub(crate) outcome: Result<Outcome, FileFault>,
}

pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    threads_max: usize,
    // Taken from the threads in one go, handed out one by one.
    taken: VecDeque<Finished>,
}

struct Shared {
    // Both are bounded by FILES_IN_FLIGHT_MAX, which the desk keeps.
    queue: Mutex<Queue>,
    work_came: Condvar,
    finished: Mutex<VecDeque<Finished>>,
    finished_count: AtomicUsize,
    bell: Arc<dyn Strike>,
}

struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    closing: bool,
}

impl Workers {
    pub(crate) fn new(threads_max: usize, bell: Arc<dyn Strike>) -> Workers {
        let shared = Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), idle: 0, closing: false }),
            work_came: Condvar::new(),
            finished: Mutex::new(VecDeque::new()),
            finished_count: AtomicUsize::new(0),
            bell,
        };
        Workers {
            shared: Arc::new(shared),
            threads: Vec::new(),
            threads_max,
            taken: VecDeque::new(),
        }
    }

    /// Queues a job. Gives it back if there is no thread and none can be started.
    pub(crate) fn push(&mut self, job: Job) -> Result<(), (Job, io::Error)> {
        let busy = {
            let queue = lock(&self.shared.queue);
            queue.jobs.len() >= queue.idle
        };
        if busy && self.threads.len() < self.threads_max {
            let shared = self.shared.clone();
            let builder = std::thread::Builder::new().name("pangea-files".into());
            match builder.stack_size(STACK_BYTES).spawn(move || shared.work()) {
                Ok(thread) => self.threads.push(thread),
                Err(error) if self.threads.is_empty() => return Err((job, error)),
                Err(_) => {}
            }
        }
        lock(&self.shared.queue).jobs.push_back(job);
        self.shared.work_came.notify_one();
        Ok(())
    }

    /// The next operation that ended.
    pub(crate) fn finished(&mut self) -> Option<Finished> {
        if self.taken.is_empty() && self.shared.finished_count.load(Ordering::Acquire) > 0 {
            std::mem::swap(&mut self.taken, &mut lock(&self.shared.finished));
            self.shared.finished_count.fetch_sub(self.taken.len(), Ordering::AcqRel);
        }
        self.taken.pop_front()
    }
}

impl Drop for Workers {
    /// What is queued is given up; what is running is waited for.
    fn drop(&mut self) {
        let dropped = {
            let mut queue = lock(&self.shared.queue);
            queue.closing = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(dropped);
        self.shared.work_came.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next_job() {
            let Job { token, work, mut page } = job;
            // A panic here is our bug; without this the caller would wait for ever for its page.
            let outcome = catch_unwind(AssertUnwindSafe(|| perform(work, page.as_mut())))
                .unwrap_or_else(|_| Err(super::other(0, "a file operation of ours panicked")));
            // Counted while locked, so that the count never falls behind what can be taken.
            {
                let mut finished = lock(&self.finished);
                finished.push_back(Finished { token, page, outcome });
                self.finished_count.fetch_add(1, Ordering::AcqRel);
            }
            self.bell.strike();
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closing {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue.idle += 1;
            queue = self.work_came.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
            queue.idle -= 1;
        }
    }
}

/// A lock that a panicking thread left is taken all the same: every change under it is complete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
