//! Two pinned processes, and what they use up.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{Outcome, Run};

/// What a process has used so far, or has now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of processor time, its own and the kernel's for it.
    pub cpu: f64,
    /// Bytes of memory that are really there.
    pub resident: u64,
}

/// Of this process, all its threads.
pub fn own_usage() -> Outcome<Usage> {
    let mut cpu = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        // A thread that has ended meanwhile is not there.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let nanos: f64 = text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?;
        cpu += nanos / 1e9;
    }
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).ok_or("a short statm")?.parse()?;
    Ok(Usage { cpu, resident: pages * 4096 })
}

/// Pins the calling thread, and raises the limit of open files.
pub fn on_core(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// The server listens at `place`: tells the client, and answers its questions from now on. The end
/// of the questions is the end of the process.
pub fn serve(place: &str) {
    println!("{place}");
    std::thread::spawn(|| {
        for line in std::io::stdin().lock().lines() {
            match line.as_deref() {
                Ok("trim") => {
                    give_memory_back();
                    println!();
                }
                Ok(_) => {
                    let Usage { cpu, resident } = own_usage().unwrap_or_default();
                    println!("{cpu} {resident}");
                }
                Err(_) => break,
            }
        }
        std::process::exit(0);
    });
}

/// The client's hold on its server; with it the server ends.
pub struct Server {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    relay: Option<(Child, ChildStdin)>,
    /// What the server said about where it listens.
    pub place: String,
}

impl Server {
    /// Starts this program once more, as the server of `run`, and what lies before it.
    pub fn start(run: &Run) -> Outcome<Server> {
        let words = [&["serve".to_owned()], &run.words[..]].concat();
        let (child, questions, answers, mut place) = start(run, &words)?;
        let mut relay = None;
        if let Some(path) = &run.path {
            // Behind the address there may be more, such as a certificate.
            let (address, more) = place.split_at(place.find(' ').unwrap_or(place.len()));
            let words = ["relay".to_owned(), address.to_owned(), path.to_owned()];
            let (child, questions, _, front) = start(run, &words)?;
            place = front + more;
            relay = Some((child, questions));
        }
        Ok(Server { child, questions: Some(questions), answers, relay, place })
    }

    /// What the server has used.
    pub fn usage(&mut self) -> Outcome<Usage> {
        let answer = self.ask("usage")?;
        let (cpu, resident) = answer.split_once(' ').ok_or("the server is gone")?;
        Ok(Usage { cpu: cpu.parse()?, resident: resident.parse()? })
    }

    /// Has the server's allocator give back what is free.
    pub fn trim(&mut self) -> Outcome<()> {
        self.ask("trim").map(drop)
    }

    fn ask(&mut self, question: &str) -> Outcome<String> {
        writeln!(self.questions.as_mut().ok_or("no questions")?, "{question}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

/// Starts this program with other words; the last is the line that it says first.
fn start(
    run: &Run,
    words: &[String],
) -> Outcome<(Child, ChildStdin, BufReader<ChildStdout>, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(&run.program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let questions = child.stdin.take().ok_or("no questions")?;
    let mut answers = BufReader::new(child.stdout.take().ok_or("no answers")?);
    let mut said = String::new();
    answers.read_line(&mut said)?;
    match said.trim() {
        "" => Err(format!("'{}' did not start", words.join(" ")).into()),
        said => {
            let said = said.to_owned();
            Ok((child, questions, answers, said))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.child.wait();
        if let Some((mut child, questions)) = self.relay.take() {
            drop(questions);
            let _ = child.wait();
        }
    }
}

fn give_memory_back() {
    // SAFETY: malloc_trim has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
