//! Ctrl-C and SIGTERM: the first asks to stop in order, the second stops at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::TERM_SIGNALS;

use super::exit::{Failure, Kind};
use crate::client::Flow;

/// Whether the user asked to stop.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes the signals over from now on.
    pub fn on_signals() -> Result<Stop, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS {
            // In this order: the first signal finds the flag unset, and sets it.
            let code = i32::from(Kind::Interrupted.code());
            signal_hook::flag::register_conditional_shutdown(*signal, code, asked.clone())
                .and_then(|_| signal_hook::flag::register(*signal, asked.clone()))
                .map_err(|cause| {
                    Failure::new(Kind::Internal, format!("signals cannot be caught: {cause}"))
                })?;
        }
        Ok(Stop(asked))
    }

    /// Whether a signal came.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The same, as puts and gets want to hear it.
    pub fn flow(&self) -> Flow {
        if self.asked() { Flow::Stop } else { Flow::Continue }
    }

    /// Fails if a signal came: between the parts of a longer work.
    pub fn check(&self) -> Result<(), Failure> {
        match self.asked() {
            true => Err(Failure::new(Kind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }
}
