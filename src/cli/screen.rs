//! What a person or a program sees: results on stdout, progress and remarks on stderr.

use std::io;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pangea_base::PeerId;
use pangea_wire::ClockDifference;
use serde_json::{Value, json};

use super::exit::{Failure, printable, redacted};
use super::say;
use crate::client::Progress;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Where results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Results {
    Stdout,
    /// Stdout has the object's own bytes.
    Stderr,
}

/// Progress lines in JSON come at most this often.
const JSON_PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The user's side of a command.
pub struct Screen {
    format: Format,
    results: Results,
    bar: Option<ProgressBar>,
    last_progress: Option<Instant>,
}

impl Screen {
    /// A screen that writes results to stdout.
    pub fn new(format: Format) -> Screen {
        Screen { format, results: Results::Stdout, bar: None, last_progress: None }
    }

    /// Results go to stderr from now on: stdout is the object's.
    pub fn leave_stdout(&mut self) {
        self.results = Results::Stderr;
    }

    /// Shows how far a put or get is: a bar if stderr is a terminal, lines if JSON was asked for.
    pub fn progress(&mut self, progress: &Progress) {
        match self.format {
            Format::Human => self.draw(progress),
            Format::Json => {
                let now = Instant::now();
                let due = |last: Instant| now.duration_since(last) >= JSON_PROGRESS_EVERY;
                if self.last_progress.is_none_or(due) {
                    self.last_progress = Some(now);
                    self.event(&json!({
                        "event": "progress",
                        "stage": progress.stage,
                        "bytes_done": progress.bytes_done,
                        "bytes_total": progress.bytes_total,
                        "peers_up": progress.peers_up,
                    }));
                }
            }
        }
    }

    fn draw(&mut self, progress: &Progress) {
        if self.bar.is_none() {
            self.bar = say::bar();
        }
        let Some(bar) = &self.bar else { return };
        if bar.length() != progress.bytes_total || bar.position() == 0 {
            let template = match progress.bytes_total {
                Some(total) => {
                    bar.set_length(total);
                    "{msg:28} [{bar:30}] {binary_bytes}/{binary_total_bytes} \
                     {binary_bytes_per_sec} {eta}"
                }
                None => "{msg:28} {spinner} {binary_bytes} {binary_bytes_per_sec}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
        }
        bar.set_message(progress.stage);
        bar.set_position(progress.bytes_done);
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A remark for a person on stderr; nothing if JSON was asked for.
    pub fn remark(&mut self, text: &str) {
        if self.format == Format::Human {
            self.write_stderr(text);
        }
    }

    /// A warning on stderr, whatever the format.
    pub fn warn(&mut self, text: &str) {
        self.write_stderr(&format!("warning: {text}"));
    }

    fn write_stderr(&mut self, text: &str) {
        let line = printable(&redacted(text));
        match &self.bar {
            // The line is there before the bar is drawn again.
            Some(bar) => bar.suspend(|| {
                say::remark(&line);
                say::finish();
            }),
            None => say::remark(&line),
        }
    }

    /// One line of JSON on the way to the result; nothing for people. A stdout that cannot be
    /// written is noticed at the result.
    pub fn event(&mut self, value: &Value) {
        if self.format == Format::Json {
            let _ = self.write(&value.to_string());
        }
    }

    /// A line on stdout for people on the way to the result; nothing if JSON was asked for.
    pub fn human(&mut self, line: &str) {
        if self.format == Format::Human {
            let _ = self.write(line);
        }
    }

    /// The result: `human` (may be empty), or `json` as the last line.
    pub fn result(&mut self, human: &str, json: &Value) -> Result<(), Failure> {
        self.clear();
        let written = match self.format {
            Format::Human if human.is_empty() => Ok(()),
            Format::Human => self.write(human),
            Format::Json => self.write(&json.to_string()),
        };
        written.map_err(|cause| {
            let stream = match self.results {
                Results::Stdout => "stdout",
                Results::Stderr => "stderr",
            };
            Failure::file(format!("the result could not be written to {stream}: {cause}"))
        })
    }

    /// Refuses now what would be refused when there is a result: stdout that was closed.
    pub fn check_results(&self) -> Result<(), Failure> {
        match self.results {
            Results::Stderr => Ok(()),
            Results::Stdout => say::stdout().map(drop).map_err(|cause| {
                Failure::file(format!("the result could not be written to stdout: {cause}"))
            }),
        }
    }

    /// Why it did not work: in words on stderr, and as the last line if JSON was asked for.
    pub fn failure(&mut self, failure: &Failure) {
        self.clear();
        if self.format == Format::Json {
            let _ = self.write(&failure.json().to_string());
        }
        self.write_stderr(&format!("error: {}", failure.message));
    }

    fn write(&self, line: &str) -> io::Result<()> {
        match self.results {
            Results::Stdout => say::result(line),
            Results::Stderr => say::result_beside(line),
        }
    }

    /// Names the peers that gave trouble, each with the reason.
    pub fn troubles(&mut self, what: &str, troubles: &[(PeerId, String)]) {
        for (peer, why) in troubles {
            self.remark(&format!("{what} {peer}: {why}"));
        }
    }
}

/// `[{"peer","why"}, …]`.
pub fn troubles_json(troubles: &[(PeerId, String)]) -> Value {
    let one = |(peer, why): &(PeerId, String)| json!({ "peer": peer.to_string(), "why": why });
    troubles.iter().map(one).collect()
}

/// By how many seconds a clock is ahead of ours; behind it, less than nought.
pub fn clock_seconds(clock: ClockDifference) -> i64 {
    let seconds = i64::try_from(clock.seconds()).unwrap_or(i64::MAX);
    if let ClockDifference::Behind { .. } = clock { -seconds } else { seconds }
}

/// Whose clock is how far from ours.
pub fn clocks_json(clocks: &[(PeerId, ClockDifference)]) -> Value {
    let one = |&(peer, clock): &(PeerId, ClockDifference)| json!({ "peer": peer.to_string(), "seconds": clock_seconds(clock) });
    clocks.iter().map(one).collect()
}

/// Seconds with the digits that mean something.
pub fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e6
}
