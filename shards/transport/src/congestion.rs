//! Congestion control after BBR (draft-ietf-ccwg-bbr): the window follows what the path was seen to
//! deliver and how long an empty path takes, not single losses. Without BBR's random gain cycle, so
//! that a run repeats; and without a pacing rate of its own, because quinn-proto paces by window and
//! round-trip time.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory};

/// The window over what an empty path holds: the rest waits in its narrowest queue, and is how a
/// growing rate is found.
const GAIN: f64 = 1.25;
/// The least of it, after much loss.
const GAIN_MIN: f64 = 1.0;
/// What a round with much loss leaves of the gain, and what one without gives back.
const GAIN_AFTER_LOSS: f64 = 0.85;
const GAIN_BACK: f64 = 0.05;
/// Much loss, of all bytes of a round; below it loss is the path's own and says nothing.
const LOSS_MUCH: f64 = 0.05;
/// Fewer lost datagrams than this are chance.
const LOST_DATAGRAMS_MIN: u64 = 8;

/// At the start, once the rate grows no more, how far the window may go beyond it.
const START_GAIN: f64 = 3.0;
/// The start ends when the rate has grown by less than this over so many rounds.
const START_GROWTH: f64 = 1.25;
const START_ROUNDS: u32 = 3;

/// A rate counts for so many rounds.
const RATE_ROUNDS: usize = 10;
/// Both sides work in batches: on a short path the window has room for what comes in such a time.
const BATCH: Duration = Duration::from_millis(2);

/// Datagrams that may always be in flight.
const WINDOW_MIN_DATAGRAMS: u64 = 4;

/// Makes a [`Model`] for each path.
pub(crate) struct ModelFactory {
    pub(crate) initial_window: u64,
}

impl ControllerFactory for ModelFactory {
    fn build(self: Arc<Self>, _now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Model::new(self.initial_window, mtu.into()))
    }
}

/// What is known of a path, and the window that follows from it.
#[derive(Clone, Debug)]
struct Model {
    initial_window: u64,
    mtu: u64,
    window: u64,
    /// While the rate still grows; none: it was found.
    start: Option<Start>,
    /// Of the last rounds, bytes per second.
    rates: [f64; RATE_ROUNDS],
    rounds: usize,
    gain: f64,
    least_rtt: Duration,
    last_sent: u64,
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Start {
    best_rate: f64,
    rounds_without_growth: u32,
}

/// A round trip: it ends with the acknowledgement of what was sent after it began.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// The last packet that was sent before.
    after: u64,
    acked: u64,
    lost: u64,
    /// There was less to send than there was room for: the rate is not the path's.
    is_app_limited: bool,
    /// A router marked a packet (RFC 3168).
    is_marked: bool,
}

impl Model {
    fn new(initial_window: u64, mtu: u64) -> Model {
        Model {
            initial_window,
            mtu,
            window: initial_window,
            start: Some(Start::default()),
            rates: [0.0; RATE_ROUNDS],
            rounds: 0,
            gain: GAIN,
            least_rtt: Duration::ZERO,
            last_sent: 0,
            round: None,
        }
    }

    fn sent(&mut self, now: Instant, packet: u64) {
        self.last_sent = packet;
        if self.round.is_none() {
            self.begin_round(now);
        }
    }

    fn begin_round(&mut self, now: Instant) {
        self.round = Some(Round {
            began: now,
            after: self.last_sent,
            acked: 0,
            lost: 0,
            is_app_limited: false,
            is_marked: false,
        });
    }

    fn acked(&mut self, bytes: u64, is_app_limited: bool, least_rtt: Duration) {
        self.least_rtt = least_rtt;
        if let Some(round) = &mut self.round {
            round.acked += bytes;
            round.is_app_limited |= is_app_limited;
        }
        if let Some(start) = self.start
            && !is_app_limited
        {
            let most = match start.rounds_without_growth {
                0 => u64::MAX,
                _ => self.holds(self.rate(), START_GAIN).max(self.window),
            };
            self.window = self.window.saturating_add(bytes).min(most);
        }
    }

    /// All of one acknowledgement was taken.
    fn acked_up_to(&mut self, now: Instant, packet: u64) {
        let Some(round) = self.round.filter(|round| packet > round.after) else { return };
        self.end_round(now, round);
        self.begin_round(now);
    }

    fn end_round(&mut self, now: Instant, round: Round) {
        // What was held back on the way does not make the path faster than it is.
        let elapsed = now.saturating_duration_since(round.began).max(self.least_rtt);
        let elapsed = elapsed.max(Duration::from_micros(1));
        let rate = round.acked as f64 / elapsed.as_secs_f64();
        let before = self.rate();
        if !round.is_app_limited || rate > before {
            self.rates[self.rounds % RATE_ROUNDS] = rate;
            self.rounds += 1;
        }
        let is_much = round.lost >= LOST_DATAGRAMS_MIN * self.mtu
            && round.lost as f64 > LOSS_MUCH * (round.acked + round.lost) as f64;
        if is_much || round.is_marked {
            self.gain = (self.gain * GAIN_AFTER_LOSS).max(GAIN_MIN);
            self.start = None;
        } else {
            self.gain = (self.gain + GAIN_BACK).min(GAIN);
        }
        self.start = self.start.and_then(|start| start.after(rate, round.is_app_limited));
        if self.start.is_none() {
            self.window = self.holds(self.rate(), self.gain).max(self.window_min());
        }
    }

    /// The greatest of the last rounds.
    fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// What an empty path of this rate holds, so many times, and a batch.
    fn holds(&self, rate: f64, gain: f64) -> u64 {
        let time = self.least_rtt.as_secs_f64() * gain + BATCH.as_secs_f64();
        // Far below 2^64, and a float ends at the ends of the integer.
        (rate * time) as u64
    }

    fn window_min(&self) -> u64 {
        WINDOW_MIN_DATAGRAMS * self.mtu
    }

    fn lost(&mut self, bytes: u64, is_persistent: bool) {
        if is_persistent {
            // Nothing came through for long: what was known of the path is no longer true.
            *self = Model {
                window: self.window_min(),
                last_sent: self.last_sent,
                ..Model::new(self.initial_window, self.mtu)
            };
        }
        if let Some(round) = &mut self.round {
            round.lost += bytes;
            // Bytes are lost, or a packet was marked.
            round.is_marked |= bytes == 0;
        }
    }
}

impl Start {
    /// None: the rate is found.
    fn after(mut self, rate: f64, is_app_limited: bool) -> Option<Start> {
        if rate >= self.best_rate * START_GROWTH {
            self.best_rate = rate;
            self.rounds_without_growth = 0;
        } else if !is_app_limited {
            self.rounds_without_growth += 1;
        }
        (self.rounds_without_growth < START_ROUNDS).then_some(self)
    }
}

impl Controller for Model {
    fn on_sent(&mut self, now: Instant, _bytes: u64, packet: u64) {
        self.sent(now, packet);
    }

    fn on_ack(
        &mut self,
        _now: Instant,
        _sent: Instant,
        bytes: u64,
        is_app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acked(bytes, is_app_limited, rtt.min());
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, _: bool, largest: Option<u64>) {
        if let Some(packet) = largest {
            self.acked_up_to(now, packet);
        }
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent: bool,
        lost_bytes: u64,
    ) {
        self.lost(lost_bytes, is_persistent);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu.into();
        self.window = self.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const DATAGRAM: u64 = 1_000;
    const STEP: Duration = Duration::from_micros(100);

    /// A path that carries one datagram per step, so 10 MB/s, and holds so many in its queue.
    struct Path {
        trip: Duration,
        queue_max: usize,
        /// One of so many is lost on the way.
        loses_one_in: u64,
    }

    /// What a sender that always has something to send got through, of what the path could, in
    /// rounds of a second; its greatest window; and the share of what it lost.
    fn play(path: &Path, seconds: u64) -> (Vec<f64>, u64, f64) {
        let zero = Instant::now();
        let mut model = Model::new(10 * DATAGRAM, DATAGRAM);
        let (mut in_flight, mut sent, mut lost, mut greatest) = (0, 0, 0, 0);
        let mut queue = VecDeque::new();
        // When its acknowledgement is back, or when its loss is noticed.
        let mut under_way: VecDeque<(Duration, u64, bool)> = VecDeque::new();
        let mut through = vec![0.0; seconds as usize];
        let steps = seconds * 10_000;
        for step in 0..steps {
            let elapsed = STEP * step as u32;
            let now = zero + elapsed;
            let mut last = None;
            while let Some(&(_, packet, arrived)) =
                under_way.front().filter(|(at, ..)| *at <= elapsed)
            {
                under_way.pop_front();
                in_flight -= DATAGRAM;
                if arrived {
                    model.acked(DATAGRAM, false, path.trip);
                    through[(step / 10_000) as usize] += 1.0 / 10_000.0;
                    last = Some(packet);
                } else {
                    model.lost(DATAGRAM, false);
                    lost += 1;
                }
            }
            if let Some(packet) = last {
                model.acked_up_to(now, packet);
            }
            // Paced, but not slower than a few datagrams a step.
            for _ in 0..4 {
                if in_flight + DATAGRAM > model.window {
                    break;
                }
                sent += 1;
                in_flight += DATAGRAM;
                model.sent(now, sent);
                let is_lost = queue.len() >= path.queue_max || sent % path.loses_one_in == 0;
                match is_lost {
                    true => under_way.push_back((elapsed + path.trip, sent, false)),
                    false => queue.push_back(sent),
                }
            }
            if let Some(packet) = queue.pop_front() {
                under_way.push_back((elapsed + path.trip, packet, true));
            }
            under_way.make_contiguous().sort_unstable();
            greatest = greatest.max(model.window);
        }
        (through, greatest, lost as f64 / sent as f64)
    }

    fn trip(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_clean_path_is_filled_soon_and_its_queue_is_not() {
        for ms in [10, 50, 100] {
            let path = Path { trip: trip(ms), queue_max: 500, loses_one_in: u64::MAX };
            let (through, greatest, _) = play(&path, 5);
            assert!(through[0] > 0.3 && through[1..].iter().all(|t| *t > 0.97), "{through:?}");
            let holds = 10_000 * ms;
            assert!(greatest < 5 * (holds + 20_000), "{greatest} on a path of {holds}");
        }
    }

    #[test]
    fn loss_that_is_the_paths_own_costs_only_what_was_lost() {
        for one_in in [1_000, 100] {
            let path = Path { trip: trip(50), queue_max: 500, loses_one_in: one_in };
            let (through, ..) = play(&path, 5);
            assert!(through[1..].iter().all(|t| *t > 0.96), "one in {one_in}: {through:?}");
        }
    }

    #[test]
    fn a_queue_that_is_too_short_is_not_flooded_for_long() {
        let path = Path { trip: trip(50), queue_max: 40, loses_one_in: u64::MAX };
        let (through, _, lost) = play(&path, 10);
        assert!(through[2..].iter().all(|t| *t > 0.9), "{through:?}");
        assert!(lost < 0.1, "{lost} of all was lost");
    }

    #[test]
    fn a_mark_of_a_router_counts_as_much_loss_does() {
        let now = Instant::now();
        let mut model = Model::new(10 * DATAGRAM, DATAGRAM);
        model.sent(now, 1);
        model.lost(0, false);
        model.acked(DATAGRAM, false, trip(10));
        model.acked_up_to(now + trip(10), 2);
        assert!(model.gain < GAIN && model.start.is_none());
    }

    #[test]
    fn after_a_long_silence_the_path_is_learnt_anew() {
        let path = Path { trip: trip(10), queue_max: 500, loses_one_in: u64::MAX };
        assert!(play(&path, 1).1 > 100 * DATAGRAM);
        let mut model = Model::new(10 * DATAGRAM, DATAGRAM);
        model.sent(Instant::now(), 7);
        model.window = 1 << 20;
        model.start = None;
        model.lost(DATAGRAM, true);
        assert_eq!(model.window(), WINDOW_MIN_DATAGRAMS * DATAGRAM);
        assert!(model.start.is_some() && model.rate() == 0.0 && model.last_sent == 7);
    }

    #[test]
    fn a_round_that_lacked_data_lowers_no_rate() {
        let now = Instant::now();
        let mut model = Model::new(10 * DATAGRAM, DATAGRAM);
        model.sent(now, 1);
        for round in 1..50 {
            let bytes = if round == 1 { 100 * DATAGRAM } else { DATAGRAM };
            model.acked(bytes, round > 1, trip(10));
            model.acked_up_to(now + trip(10) * round, u64::from(round) + 1);
            model.sent(now + trip(10) * round, u64::from(round) + 1);
        }
        assert!(model.rate() > 9_000_000.0, "{}", model.rate());
    }
}
